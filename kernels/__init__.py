"""Choose and compute convolutions, number types and session settings that are fast on this machine."""

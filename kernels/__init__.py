"""Choose and compute convolutions, data types and session settings that are fast on this machine."""

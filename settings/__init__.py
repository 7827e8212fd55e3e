"""What decides how a network is trained and computed, as flags and config.json have it."""

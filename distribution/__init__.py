"""Training with several processes, one for each device: who they are, their messages, their start and their end."""

"""Pictures as overlapping tiles, in which the network finds small things, and what is found in them as one."""

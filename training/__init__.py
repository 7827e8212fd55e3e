"""Train a detector: flags, first weights, one step, one epoch, and the loop around them."""

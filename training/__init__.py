"""Train a detector: flags, first weights, one step, one epoch, the loop over epochs, and records."""

"""Read the weight files of other programs and fit them to this network and to a class list."""

"""Find what is wrong with a data set, report it, write a cleaned copy, and propose anchors that fit its objects."""

"""Find what is wrong with a data set, report it, write a cleaned copy, and fit anchors to its objects."""

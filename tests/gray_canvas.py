"""A picture of one gray, on which everything that is drawn can be told."""

import numpy as np

GRAY = 90


def canvas(width=320, height=240):
    """uint8 RGB [height,width,3]."""
    return np.full((height, width, 3), GRAY, np.uint8)

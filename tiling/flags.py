"""The flags of the programs that look at pictures as tiles."""

import argparse
from collections.abc import Callable

from system.argument_parser import rare
from system.argument_types import inner_fraction, positive_int
from tiling import tiles


def add_to(add: Callable[..., argparse.Action], of_size: str = "", rare_overlap: bool = False) -> None:
    """Add --tiles, --tile-size and --overlap, of which `tiles.choose` makes a Cut.

    add: argparse's `add_argument` of a parser or group.
    of_size: what the help says of --tile-size beside what it does.
    rare_overlap: whether only --help-all shows --overlap.
    """
    add(
        "--tiles",
        type=tiles.parse,
        metavar="CxR",
        help="also detect in C×R tiles of each picture, such as 3x2, to find small objects; the network then takes C×R "
        "+ 1 times as long (default: none)",
    )
    add(
        "--tile-size",
        type=positive_int,
        metavar="N",
        help=f"the same with tiles of N×N pixels, such as 640, as many as each picture needs{of_size} (default: none)",
    )
    overlap = add(
        "--overlap",
        type=inner_fraction,
        default=tiles.OVERLAP,
        metavar="X",
        help="share of a tile's side that overlaps the next tile; an object larger than the overlap may be cut in both",
    )
    if rare_overlap:
        rare(overlap)

"""Draw the toy road: a generated data set, and a video of a drive (`python -m toy_road --help`)."""

"""Draw the toy road: a generated data set and a drive through it (`python -m toy_road --help`)."""

"""A model in the file formats of other programs: write, describe, read and run such a file, one module per format."""

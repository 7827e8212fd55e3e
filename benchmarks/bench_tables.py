"""Tables of the pages that benchmarks write. It imports nothing, so that every environment can use it."""


def table(head, rows):
    """A Markdown table as text. head: list of cells; rows: list of lists of cells."""
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in [head, ["---"] * len(head), *rows])

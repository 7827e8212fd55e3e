"""comparison.html: several results beside each other, and pictures of what one finds and the other does not."""

import os

from media import html_page, score_plots
from scoring import comparison, error_pages
from scoring.error_report import MISSED, Case
from system import files
from system.wording import plural

PAGE = "comparison.html"
SHOWN = 12  # objects with pictures of each side


def write(folder, compared, names, ground_truth):
    """Write comparison.html and its charts, comparison_N.png, into a folder, and return the path of the page.

    compared: of comparison.compare; names: of the results; ground_truth: {id: Sample}.
    """
    os.makedirs(folder, exist_ok=True)
    letters = comparison.letters(len(names))
    listed = "".join(
        f"<li>{letter}: {html_page.escape(name)}</li>" for letter, name in zip(letters, names, strict=True)
    )
    parts = [
        f"<p>Compared with A, the first:</p><ul>{listed}</ul><p>Differences of AP (area), with the middle "
        f"{compared['level']} % of the differences in {compared['resamples']:,} resamples of the pictures; * where "
        "that does not contain 0. Sizes are COCO's: up to 32² pixels, up to 96², beyond.</p>"
    ]
    for index, letter in enumerate(letters[1:]):
        rows = {name: row["differences"][index] for name, row in compared["sizes"]["all"].items()}
        known = {name: (one["difference"], *one["interval"]) for name, one in rows.items() if one["interval"]}
        if known:
            picture = f"comparison_{letter}.png"
            score_plots.plot_differences(os.path.join(folder, picture), f"{letter} - A", known)
            parts.append(html_page.chart(picture, f"differences of {letter} from A"))
    for size in compared["sizes"]:
        title = f"Objects of size: {size}"
        parts.append(f"<h2>{title}</h2>{html_page.table(_rows(compared['sizes'][size], letters))}")
    parts.append(error_pages.legend())
    for letter, only in zip(letters[1:], compared["only"], strict=True):
        for side, finder, other in (("first", "A", letter), ("other", letter, "A")):
            parts += _only(only[side], finder, other, ground_truth)
    path = os.path.join(folder, PAGE)
    files.write(path, html_page.page("Detectors compared", "Detectors compared", parts))
    return path


def _rows(table, letters):
    yield ["class", *letters, *(f"{letter} - A" for letter in letters[1:])]
    for name, row in table.items():
        differences = map(comparison.show_difference, row["differences"])
        yield [name, *map(comparison.show, row["ap"]), *differences]


def _only(side, finder, other, ground_truth):
    pictures = side["pictures"]
    yield (
        f"<h2>Found by {finder}, missed by {other}: {plural(side['objects'], 'object')} in "
        f"{plural(len(pictures), 'picture')}</h2>"
        "<p class=muted>Each above its own threshold of best F1; the pictures with most of them first.</p>"
        "<div class=row>"
    )
    cases = [(picture["image"], one) for picture in pictures for one in picture["objects"]][:SHOWN]
    for key, one in cases:
        case = Case(MISSED, key, ground_truth[key].boxes_px[one["row"]])
        drawn = html_page.picture(error_pages.draw(case, ground_truth[key]))
        yield html_page.figure([drawn], f"{html_page.escape(one['class'])}<br>{html_page.escape(key)}")
    yield "</div>"

"""Fonts that have the letters of a text."""

import os

from media import lettering


def test_letters_that_the_usual_font_lacks(capsys):
    """Chinese names were drawn as empty frames."""
    usual = lettering._font_path("car 0.93")
    assert os.path.basename(usual) == "DejaVuSans-Bold.ttf"
    symbols = os.path.join(os.path.dirname(usual), "STIXNonUni.ttf")  # in matplotlib's list, as the system's are
    special = next(
        letter
        for letter in map(chr, range(0xE000, 0xF8FF))
        if lettering._has_letters(symbols, letter) and not lettering._has_letters(usual, letter)
    )
    assert lettering._has_letters(lettering._font_path(special), special)
    for _ in range(2):
        assert lettering._font_path("\U000e0042") == usual
    assert capsys.readouterr().err.count(repr("\U000e0042")) == 1

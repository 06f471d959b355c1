"""Text of a picture, wrapped to a width."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Final

FONT_SIZE: Final = 9.0
"""In points."""


def wrapped(text: str, width: float, *, bold: bool = False) -> list[str]:
    """Return the lines of a text; words that are too long for a line are divided.

    Args:
        text: one line.
        width: of a line in points.
        bold: whether the text is bold.
    """
    lines, line = list[str](), ""
    for word in text.split():
        rest = word
        while rest:
            joined = f"{line} {rest}" if line else rest
            if text_width(joined, bold) <= width:
                line, rest = joined, ""
            elif line:
                lines.append(line)
                line = ""
            else:
                count = len(rest)
                while count > 1 and text_width(rest[:count], bold) > width:
                    count -= 1
                lines.append(rest[:count])
                rest = rest[count:]
    return [*lines, line] if line else lines


def fitted(
    make: Callable[[Callable[[str], str]], str],
    width: float,
    num_lines: int,
    *,
    longest: int,
    bold: bool = False,
) -> list[str]:
    """Return the lines of a text whose names are cut as far as it needs to fit.

    Args:
        make: returns the text; its argument cuts a name.
        width: of a line in points.
        num_lines: largest number of lines.
        longest: length of the longest name in the text.
        bold: whether the text is bold.
    """
    lines = wrapped(make(str), width, bold=bold)
    for length in range(longest - 1, 2, -1):
        if len(lines) <= num_lines:
            break
        lines = wrapped(make(partial(cut, length=length)), width, bold=bold)
    return lines[:num_lines]


def cut(name: str, length: int) -> str:
    """Return a name of at most ``length`` characters, with dots where some are left out.

    >>> cut("lanternfly", 5), cut("cat", 5)
    ('lant…', 'cat')
    """
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


@cache
def text_width(text: str, bold: bool) -> float:
    """Return the width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=FONT_SIZE, weight="bold" if bold else "normal")
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)

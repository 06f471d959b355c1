"""Text in LaTeX tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SPECIAL: Final[Mapping[str, str]] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    r"""Return LaTeX that prints a text as it is; a line break becomes a space.

    >>> print(latex_text("k_means & 50%"))
    k\_means \& 50\%
    """
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))

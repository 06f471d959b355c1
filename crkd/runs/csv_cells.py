"""CSV cells that a spreadsheet cannot run as a formula."""

from __future__ import annotations

import re
from typing import Final

# Spreadsheets run a cell that begins so as a formula. A cell that looks escaped is escaped
# once more, so that reading returns the original text.
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")


def escape_formula(text: str) -> str:
    """Return a CSV cell that no spreadsheet takes for a formula: it gets a leading apostrophe.

    >>> escape_formula("=1+1"), escape_formula("cat")
    ("'=1+1", 'cat')
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(cell: str) -> str:
    """Return the text of which :func:`escape_formula` made a cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell

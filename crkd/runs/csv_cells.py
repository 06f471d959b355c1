"""CSV cells that a spreadsheet cannot run as a formula."""

from __future__ import annotations

import re
from typing import Final

# Spreadsheets run a cell that begins so as a formula. A cell that only looks guarded is guarded
# once more, so that reading gives every text back as it was.
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")


def guarded(text: str) -> str:
    """Return a CSV cell that no spreadsheet takes for a formula: it gets a leading apostrophe.

    >>> guarded("=1+1"), guarded("cat")
    ("'=1+1", 'cat')
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """Return the text of which :func:`guarded` made a cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell

"""Which columns of a Parquet file are the index of a pandas table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

METADATA: Final = b"pandas"


def index_columns(metadata: Mapping[bytes, bytes] | None) -> frozenset[str]:
    """Return the names of the columns that hold the index of a pandas table.

    A table of which rows were selected or sorted keeps the earlier positions of its rows in such a
    column. They number the rows and are no dimension of a vector.

    Args:
        metadata: of the schema; an entry that is not pandas' own names no column.
    """
    try:
        described = json.loads((metadata or {}).get(METADATA, b"{}"))
    except (ValueError, RecursionError):
        return frozenset()
    names = described.get("index_columns") if isinstance(described, dict) else None
    listed = names if isinstance(names, list) else []
    return frozenset(name for name in listed if isinstance(name, str))

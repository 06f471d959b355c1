"""Files to which lines of JSON are appended, safe against being killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crkd.core.atomic_write import failed_write, open_in_place
from crkd.core.errors import InputError


class AppendedLines:
    """A file with one JSON object a line, to which one process appends.

    A process that is killed while it appends leaves complete lines and at most one incomplete last
    line. :meth:`read` removes an incomplete last line.

    Args:
        path: the file; it is made by the first :meth:`append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the objects of all lines.

        Raises:
            InputError: the file cannot be read or is a symbolic link, or a line is no JSON object.
        """
        try:
            self._remove_incomplete_line()
            with self.path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    yield self._parsed(line, number)
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be read ({error.strerror}); check its permissions"
            ) from None

    def append(self, values: Sequence[dict[str, Any]]) -> None:
        """Append one line for each object, and wait until they are on the disk.

        Raises:
            InputError: the file cannot be written or is a symbolic link.
        """
        if not values:
            return
        # Without ensure_ascii, file names with bytes that are not UTF-8 could not be encoded.
        lines = [json.dumps(value, allow_nan=False) for value in values]
        try:
            with open_in_place(self.path, "ab") as file:
                file.write(("\n".join(lines) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise failed_write(self.path, error) from error

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise InputError(f"line {number} of {self.path} is damaged; restore the file")
        return value

    def _remove_incomplete_line(self) -> None:
        with open_in_place(self.path, "rb+") as file:
            end = file.seek(0, os.SEEK_END)
            kept = end
            while kept:
                start = max(0, kept - 65536)
                file.seek(start)
                newline = file.read(kept - start).rfind(b"\n")
                kept = start + newline + 1 if newline >= 0 else start
                if newline >= 0:
                    break
            if kept < end:
                file.truncate(kept)

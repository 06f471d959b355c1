"""Settings of the memory benchmark, read from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from benchmarks.made_up_vectors import CLASSES
from crkd.core.errors import InputError

ROWS: Final = (4_000, 8_000, 16_000)
VERBS: Final = ("embed", "discover", "predict", "review")


@dataclass(frozen=True)
class MemorySettings:
    """Settings of the memory benchmark.

    Attributes:
        sizes: numbers of rows, ascending.
        verbs: in the order of their work.
        method: of the discovery.
        backbone: of embed, "lite0" or "matrix".
        limit: of memory in GiB; None for none.
        folder: keeps the files; None for a temporary one.
    """

    sizes: tuple[int, ...] = ROWS
    verbs: tuple[str, ...] = VERBS
    method: str = "auto"
    backbone: str = "lite0"
    limit: float | None = None
    folder: Path | None = None

    @classmethod
    def read(cls) -> Self:
        """Return what the environment says.

        Raises:
            InputError: a value is unusable.
        """
        backbone = os.environ.get("CRKD_BACKBONE", "lite0")
        if backbone not in ("lite0", "matrix"):
            raise InputError(f"CRKD_BACKBONE is {backbone!r}; choose lite0 or matrix")
        folder = os.environ.get("CRKD_FOLDER")
        return cls(
            wanted_sizes(),
            wanted_verbs(),
            os.environ.get("CRKD_METHOD", "auto"),
            backbone,
            wanted_limit(),
            None if folder is None else Path(folder),
        )

    @property
    def command(self) -> str:
        """The call that measures this, but for the folder."""
        plain = MemorySettings()
        parts = {
            "CRKD_ROWS": ",".join(map(str, self.sizes)),
            "CRKD_VERBS": "" if self.verbs == plain.verbs else ",".join(self.verbs),
            "CRKD_METHOD": "" if self.method == plain.method else self.method,
            "CRKD_BACKBONE": "" if self.backbone == plain.backbone else self.backbone,
            "CRKD_LIMIT": "" if self.limit is None else f"{self.limit:g}",
        }
        given = [f"{name}={value}" for name, value in parts.items() if value]
        return " ".join([*given, "crkd bench memory"])

    def label(self, verb: str) -> str:
        """Return the name of a verb with what is not usual about it."""
        if verb == "embed" and self.backbone == "matrix":
            return "embed with a matrix as backbone"
        if verb == "discover" and self.method != "auto":
            return f"discover by {self.method}"
        return verb


def wanted_sizes() -> tuple[int, ...]:
    """Return the numbers of rows, ascending.

    Raises:
        InputError: one is not a whole number, or too small for the classes.
    """
    given = os.environ.get("CRKD_ROWS", ",".join(map(str, ROWS)))
    least = 20 * CLASSES
    try:
        sizes = sorted({int(part) for part in given.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < least:
        raise InputError(
            f"CRKD_ROWS is {given!r}; give whole numbers from {least}, separated by commas"
        )
    return tuple(sizes)


def wanted_verbs() -> tuple[str, ...]:
    """Return the verbs to measure.

    Raises:
        InputError: one is unknown.
    """
    given = os.environ.get("CRKD_VERBS", ",".join(VERBS)).split(",")
    if unknown := [verb for verb in given if verb not in VERBS]:
        raise InputError(f"CRKD_VERBS names {unknown[0]!r}; choose from {', '.join(VERBS)}")
    return tuple(verb for verb in VERBS if verb in given)


def wanted_limit() -> float | None:
    """Return the limit of memory in GiB; None for none.

    Raises:
        InputError: it is not a number above 0.
    """
    given = os.environ.get("CRKD_LIMIT")
    if given is None:
        return None
    try:
        limit = float(given)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 1 << 20:
        raise InputError(f"CRKD_LIMIT is {given!r}; give a number of GiB above 0, such as 4")
    return limit


DEFAULTS: Final = MemorySettings()

"""One class of a run's label space."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from crkd.core.fields import Allowed, check_fields, list_of, one_of, text, whole, wrong_field

_NUMBER: Final = whole(0, 1_000_000)
_FIELDS: Final[Mapping[str, Allowed]] = {
    "id": _NUMBER,
    "name": text(),
    "kind": one_of("known", "novel"),
    "step": whole(1, 1_000_000).or_null(),
    "reviewed": list_of(_NUMBER, 0, 100_000),
}


@dataclass(frozen=True)
class ClassInfo:
    """A class that a model can predict.

    Attributes:
        id: joint class id; the classes of a run are numbered from 0.
        name: shown to people; not necessarily unique.
        kind: "known" to the run before its training, or "novel".
        step: number of the discovery that found the class, from 1; None for a labeled class.
        reviewed: ids of the discovered classes from which a review made this one.
    """

    id: int
    name: str
    kind: Literal["known", "novel"]
    step: int | None = None
    reviewed: tuple[int, ...] = ()

    @property
    def is_novel(self) -> bool:
        """Whether this run found the class."""
        return self.kind == "novel"

    @property
    def was_discovered(self) -> bool:
        """Whether this run or an earlier one found the class."""
        return self.step is not None

    def as_known(self) -> ClassInfo:
        """Return the same class as the next run sees it."""
        return dataclasses.replace(self, kind="known")

    def plain(self) -> dict[str, Any]:
        """Return the entry of ``run.json``; what does not apply is left out."""
        entry: dict[str, Any] = {"id": self.id, "name": self.name, "kind": self.kind}
        if self.step is not None:
            entry["step"] = self.step
        if self.reviewed:
            entry["reviewed"] = list(self.reviewed)
        return entry

    @classmethod
    def from_plain(cls, entry: Any, place: int, origin: Path | str) -> ClassInfo:
        """Read an entry of ``run.json``.

        Args:
            entry: of the file.
            place: its place in the list, which is its id.
            origin: the file, for messages.

        Raises:
            InputError: the entry is not one that :meth:`plain` writes.
        """
        prefix = f"classes[{place}]."
        if not isinstance(entry, dict):
            raise wrong_field(origin, prefix.rstrip("."), entry, "a block with id, name and kind")
        check_fields(entry, _FIELDS, origin, optional={"step", "reviewed"}, prefix=prefix)
        if entry["id"] != place:
            raise wrong_field(origin, f"{prefix}id", entry["id"], f"{place}, its place in the list")
        return cls(**{**entry, "reviewed": tuple(entry.get("reviewed", ()))})


def plain_classes(classes: Sequence[ClassInfo]) -> list[dict[str, Any]]:
    """Return the entries of ``run.json`` for all classes of a label space."""
    return [entry.plain() for entry in classes]

"""One class of a run's label space."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


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
    def from_plain(cls, entry: Any) -> ClassInfo:
        """Read an entry of ``run.json``.

        Raises:
            ValueError: the entry is not one that :meth:`plain` writes.
        """
        if not isinstance(entry, dict):
            raise ValueError("a class is not a mapping")
        values = {"step": None, "reviewed": [], **entry}
        if values.keys() != {"id", "name", "kind", "step", "reviewed"}:
            raise ValueError("a class has unknown or missing entries")
        reviewed, step = values["reviewed"], values["step"]
        sound = (
            type(values["id"]) is int
            and isinstance(values["name"], str)
            and values["kind"] in ("known", "novel")
            and (step is None or (type(step) is int and step >= 1))
            and isinstance(reviewed, list)
            and all(type(number) is int for number in reviewed)
        )
        if not sound:
            raise ValueError("a class has entries of the wrong type")
        return cls(values["id"], values["name"], values["kind"], step, tuple(reviewed))


def plain_classes(classes: Sequence[ClassInfo]) -> list[dict[str, Any]]:
    """Return the entries of ``run.json`` for all classes of a label space."""
    return [entry.plain() for entry in classes]

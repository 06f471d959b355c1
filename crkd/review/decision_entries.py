"""Entries of a decisions file: classes, parts of split classes, and moved images."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from crkd.core.errors import InputError

MAX_NAME_LENGTH: Final = 100
# Emoji and several scripts need joiners; all other format characters are invisible and refused.
_JOINERS: Final = "\u200c\u200d"
# Unassigned characters (Cn) are allowed: a browser may know newer ones, such as emoji.
_FORBIDDEN: Final = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_BLANKS: Final = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and symbols that show nothing."""
_KEYS: Final = {
    "accept": [{"name"}],
    "reject": [set[str]()],
    "merge": [{"into"}, {"into", "part"}],
    "split": [{"parts"}, {"names", "seeds"}],
}
"""Keys of each action besides "id" and "action". Files of version 1 split by names and seeds."""


@dataclass(frozen=True)
class SplitPart:
    """One part of a split class.

    Attributes:
        name: name of the new class; None for a part that goes into another class.
        into: the known or accepted class into which the part goes.
        images: ids of the images of the part; empty in files of version 1.
    """

    name: str | None
    into: int | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassDecision:
    """Decision on one discovered class.

    Attributes:
        id: the class.
        action: "accept", "reject", "merge" or "split".
        name: name of an accepted class, else None.
        into: the known, accepted or split class into which a class is merged.
        part: position of the part of ``into`` if that class is split, else None.
        parts: the parts of a split class, at least two.
        seeds: ids of the two images that start the halves of a class, in files of version 1.
    """

    id: int
    action: str
    name: str | None = None
    into: int | None = None
    part: int | None = None
    parts: tuple[SplitPart, ...] = ()
    seeds: tuple[str, str] | None = None

    @property
    def names(self) -> list[str]:
        """Names of the new classes that the decision makes, in order."""
        return [name for name in (self.name, *(p.name for p in self.parts)) if name is not None]


@dataclass(frozen=True)
class RunContents:
    """Classes and images to which the entries of a file may refer.

    Attributes:
        num_known: K.
        num_classes: number of all classes.
        images: ids of the unlabeled images.
    """

    num_known: int
    num_classes: int
    images: Collection[str]


def class_decision(entry: Any, where: str, run: RunContents) -> ClassDecision:
    """Return the decision of an entry.

    Raises:
        InputError: the entry is not a decision on a discovered class.
    """
    action = entry.get("action") if isinstance(entry, dict) else None
    if not isinstance(action, str) or action not in _KEYS:
        raise InputError(f"{where} has no action of {', '.join(_KEYS)}; give one")
    if entry.keys() - {"id", "action"} not in _KEYS[action] or "id" not in entry:
        wanted = sorted({"id", "action", *_KEYS[action][0]})
        raise InputError(f"{where}: {action!r} takes {wanted}; give exactly these")
    class_id = _class_id(entry["id"], where, run, first=run.num_known)
    if action == "accept":
        return ClassDecision(class_id, action, check_name(entry["name"], where))
    if action == "merge":
        into = _class_id(entry["into"], where, run)
        part = entry.get("part")
        if "part" in entry and (type(part) is not int or part < 0):
            raise InputError(f"{where} names the part {part!r:.80}; give its position from 0")
        return ClassDecision(class_id, action, into=into, part=part)
    if action == "split":
        if "seeds" in entry:
            return _seeded(class_id, entry["names"], entry["seeds"], where, run)
        parts = entry["parts"]
        if not isinstance(parts, list) or len(parts) < 2:
            raise InputError(f"{where} does not give at least two parts; save it again")
        split = tuple(_part(part, f"{where}, parts[{n}]", run) for n, part in enumerate(parts))
        return ClassDecision(class_id, action, parts=split)
    return ClassDecision(class_id, action)


def _part(entry: Any, where: str, run: RunContents) -> SplitPart:
    if not isinstance(entry, dict) or entry.keys() not in ({"name", "images"}, {"into", "images"}):
        raise InputError(
            f"{where} is not the 'images' of a part and a 'name' or 'into'; save again"
        )
    if not isinstance(entry["images"], list) or not entry["images"]:
        raise InputError(f"{where} names no images; split into fewer parts")
    images = tuple(_image_id(image, where, run) for image in entry["images"])
    if "into" in entry:
        return SplitPart(None, _class_id(entry["into"], where, run), images)
    return SplitPart(check_name(entry["name"], where), None, images)


def _seeded(class_id: int, names: Any, seeds: Any, where: str, run: RunContents) -> ClassDecision:
    pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in (names, seeds))
    if not pairs or seeds[0] == seeds[1]:
        raise InputError(f"{where} does not give two names and two images; save it again")
    first, second = (_image_id(seed, where, run) for seed in seeds)
    parts = tuple(SplitPart(check_name(name, where)) for name in names)
    return ClassDecision(class_id, "split", parts=parts, seeds=(first, second))


def moved_image(entry: Any, where: str, run: RunContents) -> tuple[str, int | None]:
    """Return the image of an entry and its class, None for no class.

    Raises:
        InputError: the entry is not an image of the run and a class.
    """
    if not isinstance(entry, dict) or entry.keys() != {"id", "to"}:
        raise InputError(f"{where} is not an image's 'id' and the class 'to' which it goes")
    target = None if entry["to"] is None else _class_id(entry["to"], where, run)
    return _image_id(entry["id"], where, run), target


def check_name(name: object, where: str) -> str:
    """Return a class name if it is suitable for files and tables.

    Args:
        name: the given value.
        where: its location, for messages.

    Raises:
        InputError: it is not text, empty, too long, has invisible or control characters, or no
            visible one.
    """
    if not isinstance(name, str):
        raise InputError(f"{where} gives {name!r:.80} as a name; give a text")
    tidy = unicodedata.normalize("NFC", name).strip()
    if not tidy or len(tidy) > MAX_NAME_LENGTH:
        raise InputError(
            f"{where} gives a name of {len(tidy)} characters; give 1 to {MAX_NAME_LENGTH}"
        )
    odd = [c for c in tidy if unicodedata.category(c) in _FORBIDDEN and c not in _JOINERS]
    if odd:
        raise InputError(
            f"{where} gives a name with the invisible character U+{ord(odd[0]):04X}; remove it"
        )
    if not any(map(_is_visible, tidy)):
        raise InputError(f"{where} gives a name without a visible character; give one")
    return tidy


def _is_visible(character: str) -> bool:
    """Return whether a character shows something alone."""
    category = unicodedata.category(character)
    return category not in _FORBIDDEN and category[0] not in "MZ" and character not in _BLANKS


def _class_id(value: Any, where: str, run: RunContents, first: int = 0) -> int:
    if type(value) is not int or value not in range(first, run.num_classes):
        kind = "discovered classes" if first else "classes"
        raise InputError(
            f"{where} names the class {value!r:.80}; {kind} are {first} to {run.num_classes - 1}"
        )
    return value


def _image_id(value: Any, where: str, run: RunContents) -> str:
    if not isinstance(value, str) or value not in run.images:
        raise InputError(
            f"{where} names {value!r:.120}, which is not an unlabeled image of the run"
        )
    return value

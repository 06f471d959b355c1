"""Review decisions, read from an untrusted file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crkd.core.errors import InputError
from crkd.runs.atomic_files import read_json

FORMAT: Final = "crkd-review"
VERSION: Final = 1
MAX_BYTES: Final = 32 * 2**20
MAX_NAME_LENGTH: Final = 100
# Emoji and several scripts need joiners; all other format characters are invisible and refused.
_JOINERS: Final = "\u200c\u200d"
_FORBIDDEN: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_KEYS: Final = {
    "accept": {"id", "action", "name"},
    "reject": {"id", "action"},
    "merge": {"id", "action", "into"},
    "split": {"id", "action", "names", "seeds"},
}


@dataclass(frozen=True)
class ClassDecision:
    """Decision on one discovered class.

    Attributes:
        id: the class.
        action: "accept", "reject", "merge" or "split".
        names: one name of an accepted class, two of a split one, else none.
        into: the accepted class into which a class is merged.
        seeds: ids of the two images that start the halves of a split class.
    """

    id: int
    action: str
    names: tuple[str, ...] = ()
    into: int | None = None
    seeds: tuple[str, str] | None = None


@dataclass(frozen=True)
class Decisions:
    """All decisions of a review.

    Attributes:
        classes: class id to decision, of every discovered class.
        moved: image id to its discovered class, or None for no class.
    """

    classes: dict[int, ClassDecision]
    moved: dict[str, int | None]


def read_decisions(
    path: Path, *, model_sha256: str, names: Sequence[str], num_known: int, images: Collection[str]
) -> Decisions:
    """Read a file that the page saved, with a check of its content.

    A class that the file does not mention is accepted with its current name.

    Args:
        path: the file.
        model_sha256: SHA-256 of the reviewed model.
        names: names of all classes by id.
        num_known: K; classes from K on are the discovered ones.
        images: ids of the images that may be named.

    Raises:
        InputError: the file is not a decisions file, is of another model, or contradicts itself.
    """
    _check_size(path)
    content = read_json(path)
    keys = {"format", "version", "model_sha256", "classes", "images"}
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"FILE {path} holds no decisions of a review; save it from the page")
    if content.get("version") != VERSION or type(content["version"]) is not int:
        raise InputError(
            f"FILE {path} has version {content.get('version')!r}, this program reads {VERSION}; "
            "write the page again and decide there"
        )
    if content.keys() != keys or not all(
        isinstance(content[name], list) for name in ("classes", "images")
    ):
        raise InputError(f"FILE {path} is damaged: its entries are not {sorted(keys)}; save again")
    if content["model_sha256"] != model_sha256:
        raise InputError(
            f"FILE {path} decides on another model than that of RUN; name the run whose page it is"
        )
    novel = range(num_known, len(names))
    classes: dict[int, ClassDecision] = {}
    for number, entry in enumerate(content["classes"]):
        decision = _class_decision(entry, f"FILE {path}, classes[{number}]", novel, images)
        if decision.id in classes:
            raise InputError(f"FILE {path} decides twice on class {decision.id}; keep one of them")
        classes[decision.id] = decision
    for class_id in novel:
        classes.setdefault(class_id, ClassDecision(class_id, "accept", (names[class_id],)))
    moved: dict[str, int | None] = {}
    for number, entry in enumerate(content["images"]):
        image, target = _moved_image(entry, f"FILE {path}, images[{number}]", novel, images)
        if moved.setdefault(image, target) != target:
            raise InputError(f"FILE {path} moves the image {image!r} to two classes; keep one")
    decisions = Decisions(dict(sorted(classes.items())), moved)
    _check_together(decisions, path, names[:num_known])
    return decisions


def check_name(name: object, where: str) -> str:
    """Return a class name if it is suitable for files and tables.

    Args:
        name: the given value.
        where: its location, for messages.

    Raises:
        InputError: it is not text, empty, too long, or has invisible or control characters.
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
    return tidy


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"FILE {path} cannot be read ({error.strerror}); check it") from None
    if not path.is_file() or size > MAX_BYTES:
        raise InputError(
            f"FILE {path} is no file of at most {MAX_BYTES // 2**20} MiB; save it from the page"
        )


def _class_decision(entry: Any, where: str, novel: range, images: Collection[str]) -> ClassDecision:
    action = entry.get("action") if isinstance(entry, dict) else None
    if not isinstance(action, str) or action not in _KEYS:
        raise InputError(f"{where} has no action of {', '.join(_KEYS)}; give one")
    if entry.keys() != _KEYS[action]:
        raise InputError(f"{where}: {action!r} takes {sorted(_KEYS[action])}; give exactly these")
    class_id = _class_id(entry["id"], where, novel)
    if action == "accept":
        return ClassDecision(class_id, action, (check_name(entry["name"], where),))
    if action == "merge":
        return ClassDecision(class_id, action, into=_class_id(entry["into"], where, novel))
    if action == "split":
        names, seeds = entry["names"], entry["seeds"]
        pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in (names, seeds))
        if not pairs or seeds[0] == seeds[1]:
            raise InputError(f"{where} does not give two names and two images; save it again")
        first, second = (_image_id(seed, where, images) for seed in seeds)
        given = tuple(check_name(name, where) for name in names)
        return ClassDecision(class_id, action, given, seeds=(first, second))
    return ClassDecision(class_id, action)


def _moved_image(
    entry: Any, where: str, novel: range, images: Collection[str]
) -> tuple[str, int | None]:
    if not isinstance(entry, dict) or entry.keys() != {"id", "to"}:
        raise InputError(f"{where} is not an image's 'id' and the class 'to' which it goes")
    target = None if entry["to"] is None else _class_id(entry["to"], where, novel)
    return _image_id(entry["id"], where, images), target


def _class_id(value: Any, where: str, novel: range) -> int:
    if type(value) is not int or value not in novel:
        raise InputError(
            f"{where} names the class {value!r:.80}; discovered classes are {novel.start} to "
            f"{novel.stop - 1}"
        )
    return value


def _image_id(value: Any, where: str, images: Collection[str]) -> str:
    if not isinstance(value, str) or value not in images:
        raise InputError(f"{where} names {value!r:.120}, which is no unlabeled image of the run")
    return value


def _check_together(decisions: Decisions, path: Path, known: Sequence[str]) -> None:
    """Check that the decisions do not contradict each other."""
    classes = decisions.classes
    for decision in classes.values():
        if decision.into is not None and classes[decision.into].action != "accept":
            raise InputError(
                f"FILE {path} merges class {decision.id} into {decision.into}, which is not "
                "accepted; merge into an accepted class"
            )
    for image, target in decisions.moved.items():
        if target is not None and classes[target].action == "reject":
            raise InputError(
                f"FILE {path} moves {image!r} to class {target}, which is rejected; choose another"
            )
    if all(decision.action == "reject" for decision in classes.values()):
        raise InputError(f"FILE {path} rejects every class; keep one, or use the parent run")
    used = {_plain(name) for name in known}
    for name in (name for decision in classes.values() for name in decision.names):
        if _plain(name) in used:
            raise InputError(
                f"FILE {path} calls a class {name!r}, a name that is taken; merge the two classes, "
                "or call one of them something else"
            )
        used.add(_plain(name))


def _plain(name: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", name)).casefold()

"""Review decisions, read from an untrusted file."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crkd.core.errors import InputError
from crkd.review.decision_entries import ClassDecision, RunContents, class_decision, moved_image
from crkd.runs.atomic_files import read_json

FORMAT: Final = "crkd-review"
VERSION: Final = 3
"""Version that the page writes.

Version 2 has no digest of what the page shows. Version 1 splits a class into two halves by two
images.
"""
MAX_BYTES: Final = 64 * 2**20


@dataclass(frozen=True)
class Decisions:
    """All decisions of a review.

    Attributes:
        classes: class id to decision, of every discovered class.
        moved: image id to its class, or None for no class.
    """

    classes: dict[int, ClassDecision]
    moved: dict[str, int | None]


def read_decisions(
    path: Path,
    *,
    model_sha256: str,
    shown_sha256: str,
    names: Sequence[str],
    num_known: int,
    images: Collection[str],
) -> Decisions:
    """Read a file that the page saved, with a check of its content.

    A class that the file does not mention is accepted with its current name.

    Args:
        path: the file.
        model_sha256: SHA-256 of the reviewed model.
        shown_sha256: digest of what the page of the run shows (:mod:`crkd.review.shown_digest`).
        names: names of all classes by id.
        num_known: K; classes from K on are the discovered ones.
        images: ids of the images that may be named.

    Raises:
        InputError: the file is not a decisions file, is of another model or page, or contradicts
            itself.
    """
    _check_size(path)
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"FILE {path} holds no decisions of a review; save it from the page")
    if content.get("version") not in range(1, VERSION + 1) or type(content["version"]) is not int:
        raise InputError(
            f"FILE {path} has version {content.get('version')!r}, this program reads 1 to "
            f"{VERSION}; write the page again and decide there"
        )
    keys = {"format", "version", "model_sha256", "classes", "images"}
    keys |= {"shown_sha256"} if content["version"] >= 3 else set()
    if content.keys() != keys or not all(
        isinstance(content[name], list) for name in ("classes", "images")
    ):
        raise InputError(f"FILE {path} is damaged: its entries are not {sorted(keys)}; save again")
    if content["model_sha256"] != model_sha256:
        raise InputError(
            f"FILE {path} decides on another model than that of RUN; name the run whose page it is"
        )
    if content.get("shown_sha256", shown_sha256) != shown_sha256:
        raise InputError(
            f"FILE {path} decides on other images or classes than those of RUN, as after another "
            "review of the same model; name the run whose page it is"
        )
    run = RunContents(num_known, len(names), images)
    classes: dict[int, ClassDecision] = {}
    for number, entry in enumerate(content["classes"]):
        decision = class_decision(entry, f"FILE {path}, classes[{number}]", run)
        if decision.id in classes:
            raise InputError(f"FILE {path} decides twice on class {decision.id}; keep one of them")
        classes[decision.id] = decision
    for class_id in range(num_known, len(names)):
        classes.setdefault(class_id, ClassDecision(class_id, "accept", names[class_id]))
    moved: dict[str, int | None] = {}
    for number, entry in enumerate(content["images"]):
        image, target = moved_image(entry, f"FILE {path}, images[{number}]", run)
        if moved.setdefault(image, target) != target:
            raise InputError(f"FILE {path} moves the image {image!r} to two classes; keep one")
    decisions = Decisions(dict(sorted(classes.items())), moved)
    _check_together(decisions, path, names[:num_known])
    return decisions


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"FILE {path} cannot be read ({error.strerror}); check it") from None
    if not path.is_file() or size > MAX_BYTES:
        raise InputError(
            f"FILE {path} is not a file of at most {MAX_BYTES // 2**20} MiB; save it from the page"
        )


def _check_together(decisions: Decisions, path: Path, known: Sequence[str]) -> None:
    """Check that the decisions do not contradict each other."""
    classes = decisions.classes
    for decision in classes.values():
        if decision.into is not None and not _takes(classes.get(decision.into), decision.part):
            raise InputError(
                f"FILE {path} merges class {decision.id} into {decision.into}, which is not "
                "accepted; merge into an accepted class"
            )
        for part in decision.parts:
            if part.into is not None and not _takes(classes.get(part.into), None):
                raise InputError(
                    f"FILE {path} puts a part of class {decision.id} into {part.into}, which is "
                    "not accepted; choose an accepted class"
                )
    for image, target in decisions.moved.items():
        if target in classes and classes[target].action == "reject":
            raise InputError(
                f"FILE {path} moves {image!r} to class {target}, which is rejected; choose another"
            )
    _check_parts(decisions, path)
    names = [name for decision in classes.values() for name in decision.names]
    if not names:
        raise InputError(
            f"FILE {path} rejects every class, or merges all into known ones; keep one, or use the "
            "parent run"
        )
    used = {_plain(name) for name in known}
    for name in names:
        if _plain(name) in used:
            raise InputError(
                f"FILE {path} calls a class {name!r}, a name that is taken; merge the two classes, "
                "or call one of them something else"
            )
        used.add(_plain(name))


def _check_parts(decisions: Decisions, path: Path) -> None:
    parts = [part for decision in decisions.classes.values() for part in decision.parts]
    twice = [
        image for image, count in Counter(i for p in parts for i in p.images).items() if count > 1
    ]
    if twice:
        raise InputError(f"FILE {path} puts the image {twice[0]!r} into two parts; keep one")


def _takes(target: ClassDecision | None, part: int | None) -> bool:
    """Return whether a class, None for a known one, can take the images of another one."""
    if target is None or target.action == "accept":
        return part is None
    if target.action != "split" or part is None or part >= len(target.parts):
        return False
    return target.parts[part].into is None


def _plain(name: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", name)).casefold()

"""Review page as a single HTML file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib.resources import files
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.review.class_summaries import FoundClass, found_classes
from crkd.review.decisions import FORMAT, MAX_NAME_LENGTH, VERSION
from crkd.review.projection_2d import on_a_plane
from crkd.review.run_outputs import Evidence, gather
from crkd.review.run_summary import recorded
from crkd.review.thumbnails import thumbnails
from crkd.runs.atomic_files import write_bytes

SHOWN: Final = 24
"""Largest number of images of a class at either end: the most typical and the most doubtful."""
MAX_POINTS: Final = 5000
THUMBNAIL_BUDGET: Final = 18_000_000
"""Maximum number of characters of all thumbnails; the whole page then stays below 25 MB."""


def review(path: str | Path, out: Path, *, device: torch.device) -> dict[str, int]:
    """Write the page of a run.

    Args:
        path: the run folder of a finished discovery.
        out: the HTML file.
        device: device of the network.

    Returns:
        Counts for the user: "classes", "images", "thumbnails" and "bytes".

    Raises:
        InputError: the run has no novel classes or no images, or the images are not found.
    """
    evidence = gather(path, device)
    data = page_data(evidence)
    content = render(data).encode()
    write_bytes(out, content)
    return {
        "classes": len(data["classes"]),
        "images": len(evidence.images),
        "thumbnails": sum("src" in image for image in data["images"]),
        "bytes": len(content),
    }


def _source(evidence: Evidence) -> str:
    """Return the name of the data set, or of the folder of own images."""
    name = evidence.opened.info.dataset
    if name != "features" or not len(evidence.images):
        return name
    return evidence.images.ids[0].split("/")[0]


def page_data(evidence: Evidence, budget: int = THUMBNAIL_BUDGET) -> dict[str, Any]:
    """Return the content of the page in plain values.

    Args:
        evidence: outputs of the run.
        budget: maximum number of characters of all thumbnails.
    """
    info, found = evidence.opened.info, found_classes(evidence)
    ends = [_ends(entry.members) for entry in found]
    sampled = map_sample(evidence.answered, MAX_POINTS)
    order = list(dict.fromkeys([*_in_turns(ends), *sampled]))
    pictures = thumbnails(evidence.images, order, budget)
    place = on_a_plane(evidence.outputs.features, evidence.answered)
    confidence, disputed = evidence.confidence, evidence.disputed
    number = {row: position for position, row in enumerate(order)}
    later = {int(row): bool(x) for e in found for row, x in zip(e.members, e.later, strict=True)}
    shown = set(sampled)
    images = [
        {
            "id": evidence.images.ids[row],
            "class": int(evidence.answered[row]),
            "confidence": round(float(confidence[row]), 4),
            "half": int(later.get(row, False)),
            **({"disputed": int(disputed[row])} if disputed[row] >= 0 else {}),
            **({"src": pictures[row]} if row in pictures else {}),
            **({"at": [round(float(v), 4) for v in place[row]]} if row in shown else {}),
        }
        for row in order
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "max_name": MAX_NAME_LENGTH,
        "model_sha256": info.model_sha256,
        "title": f"{len(found)} discovered classes in {_source(evidence)}",
        "run": str(evidence.opened.run.path),
        "num_images": len(evidence.images),
        "known": evidence.names[: evidence.num_known],
        "answered_known": int((evidence.answered < evidence.num_known).sum()),
        "classes": [
            _class_entry(evidence, entry, end, number)
            for entry, end in zip(found, ends, strict=True)
        ],
        "images": images,
        **recorded(evidence.opened),
    }


def render(data: dict[str, Any]) -> str:
    """Return the page as HTML.

    External text, such as file names, is included as JSON without ``<``, and the script inserts it
    only as text nodes. A content security policy forbids all other scripts and all external
    resources.
    """
    parts = files("crkd.review")
    texts = {n: (parts / n).read_text("utf-8") for n in ("page.html", "page.css", "page.js")}
    plain = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        plain = plain.replace(character, f"\\u{ord(character):04x}")
    fields = {
        "title": html.escape(data["title"]),
        "script-hash": _digest(texts["page.js"]),
        "style-hash": _digest(texts["page.css"]),
        "style": texts["page.css"],
        "script": texts["page.js"],
        "data": plain,
    }
    # Filled in one pass, so that inserted text is not searched for fields again.
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda field: fields[field[1]], texts["page.html"])


def map_sample(answered: NDArray[np.int64], limit: int) -> list[int]:
    """Return up to ``limit`` rows for the map, in proportion to the class sizes.

    Args:
        answered: ``(N,)`` class of every row.
        limit: maximum number of rows.
    """
    shuffled = np.random.default_rng(0).permutation(len(answered))
    order = shuffled[np.argsort(answered[shuffled], kind="stable")]
    starts = np.flatnonzero(np.diff(answered[order], prepend=-1))
    groups = [group.tolist() for group in np.split(order, starts[1:])] if len(order) else []
    return _in_turns(groups)[:limit]


def _in_turns(groups: list[list[int]]) -> list[int]:
    """Return the first of every group, then the second of every group, and so on."""
    return [row for row in chain.from_iterable(zip_longest(*groups)) if row is not None]


def _ends(members: NDArray[np.int64]) -> list[int]:
    """Return the most typical and the most doubtful rows of a class alternately, none twice."""
    typical = members[:SHOWN].tolist()
    doubtful = members[::-1][: min(SHOWN, max(0, len(members) - len(typical)))].tolist()
    return _in_turns([typical, doubtful])


def _class_entry(
    evidence: Evidence, entry: FoundClass, ends: list[int], number: dict[int, int]
) -> dict[str, Any]:
    typical = set(entry.members[:SHOWN].tolist())
    halves = None
    if entry.seeds is not None:
        later = int(entry.later.sum())
        halves = {
            "sizes": [len(entry.members) - later, later],
            "seeds": [evidence.images.ids[row] for row in entry.seeds],
        }
    return {
        "id": entry.id,
        "name": evidence.names[entry.id],
        "size": len(entry.members),
        "typical": [number[row] for row in ends if row in typical],
        "doubtful": [number[row] for row in ends if row not in typical],
        "resembles": [[known, round(share, 4)] for known, share in entry.resembles],
        "stability": None if entry.stability is None else round(entry.stability, 4),
        "halves": halves,
    }


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

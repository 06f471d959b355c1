"""Review page: one HTML file, with a folder of thumbnails if there are many images."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.projection_2d import on_a_plane
from crkd.evaluation.calibration import probabilities
from crkd.review.class_summaries import FoundClass, found_classes
from crkd.review.compact_features import compact
from crkd.review.decision_entries import MAX_NAME_LENGTH
from crkd.review.decisions import FORMAT, VERSION
from crkd.review.image_places import image_places
from crkd.review.page_folder import written_sheets
from crkd.review.run_outputs import Evidence, gather
from crkd.review.run_summary import recorded
from crkd.review.thumbnails import embedded_thumbnails
from crkd.runs.atomic_files import write_bytes

EMBEDDED: Final = 4000
"""Maximum number of images whose thumbnails are inside the HTML file."""
THUMBNAIL_BUDGET: Final = 18_000_000
"""Maximum number of characters of all thumbnails inside the HTML file."""
NEAREST: Final = 3
"""Number of other classes named for each image, the most probable ones."""
SCRIPTS: Final = (
    "elements",
    "images",
    "decisions",
    "problems",
    "storage",
    "vectors",
    "views",
    "grid",
    "selection",
    "viewer",
    "class_list",
    "class_detail",
    "split",
    "map",
    "record",
    "keys",
)
"""Scripts of the page in the order of their text; together they form one function."""


def review(path: str | Path, out: Path, *, device: torch.device) -> dict[str, int]:
    """Write the page of a run.

    Args:
        path: the run folder of a finished discovery.
        out: the HTML file. With many images, their thumbnails are in a folder next to it, which
            has the name of the file with the ending ``.files``.
        device: device of the network.

    Returns:
        Counts for the user: "classes", "images", "thumbnails" and "bytes".

    Raises:
        InputError: the run has no novel classes or no images, the images are not found, or the
            folder of the thumbnails contains other files.
    """
    return write_page(gather(path, device), out)


def write_page(evidence: Evidence, out: Path) -> dict[str, int]:
    """Write the page of the outputs of a run, as :func:`review`.

    Raises:
        InputError: the folder of the thumbnails contains other files, or a file cannot be written.
    """
    data = page_data(evidence)
    bytes_beside = 0
    if len(data["images"]) > EMBEDDED or not embed_pictures(data, evidence, THUMBNAIL_BUDGET):
        folder = out.with_suffix(".files")
        data["sheets"], bytes_beside = written_sheets(
            evidence.images, _rows(evidence), folder, data["images"]
        )
    content = render(data).encode()
    write_bytes(out, content)
    return {
        "classes": len(data["classes"]),
        "images": len(evidence.images),
        "thumbnails": sum("unreadable" not in image for image in data["images"]),
        "bytes": len(content) + bytes_beside,
    }


def embed_pictures(data: dict[str, Any], evidence: Evidence, budget: int) -> bool:
    """Add thumbnails to the images of a page; return False if they exceed the budget.

    Args:
        data: content of the page, changed.
        evidence: outputs of the run.
        budget: maximum number of characters of all thumbnails.
    """
    uris = embedded_thumbnails(evidence.images, _rows(evidence), budget)
    if uris is None:
        return False
    for image, uri in zip(data["images"], uris, strict=True):
        image |= {"unreadable": True} if uri is None else {"src": uri}
    return True


def _rows(evidence: Evidence) -> list[int]:
    """Return all rows in the order of the page: by class, the most certain first."""
    order: list[int] = np.lexsort((-evidence.confidence, evidence.answered)).tolist()
    return order


def _source(evidence: Evidence) -> str:
    """Return the name of the data set, or of the folder of own images."""
    name = evidence.opened.info.dataset
    if name != "features" or not len(evidence.images):
        return name
    return evidence.images.ids[0].split("/")[0]


def page_data(evidence: Evidence) -> dict[str, Any]:
    """Return the content of the page in plain values, without the thumbnails.

    Args:
        evidence: outputs of the run.
    """
    info, found = evidence.opened.info, found_classes(evidence)
    rows = _rows(evidence)
    root, names = image_places(evidence.images, rows)
    vectors = compact(evidence.projected, order=np.array(rows, np.int64))
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
        "classes": [_class_entry(evidence, entry) for entry in found],
        "images": _image_entries(evidence, rows, names),
        "root": root,
        "sheets": None,
        "features": {
            "width": vectors.shape[1],
            "values": base64.b64encode(vectors.tobytes()).decode(),
        },
        **recorded(evidence.opened),
    }


def _image_entries(
    evidence: Evidence, rows: list[int], names: list[str | None]
) -> list[dict[str, Any]]:
    """Return the entry of every image in the order of ``rows``.

    Args:
        evidence: outputs of the run.
        rows: positions of the images.
        names: file of each image below the root, or None.
    """
    confidence, disputed = evidence.confidence, evidence.disputed
    place = on_a_plane(evidence.outputs.features, evidence.answered)
    others, shares = _nearest(evidence)
    entries = []
    for row, name in zip(rows, names, strict=True):
        entry: dict[str, Any] = {
            "id": evidence.images.ids[row],
            "class": int(evidence.answered[row]),
            "confidence": round(float(confidence[row]), 4),
            "at": [round(float(v), 3) for v in place[row]],
            "near": [
                [int(c), round(float(share), 3)]
                for c, share in zip(others[row], shares[row], strict=True)
                if share >= 0.0005
            ],
        }
        if name is not None:
            entry["file"] = name
        label = evidence.reviewed.get(entry["id"])
        if label is not None and label.by_person:
            entry |= {"decided": True, **({"out": True} if label.taken_out else {})}
        elif disputed[row] >= 0:
            entry["disputed"] = int(disputed[row])
        entries.append(entry)
    return entries


def _nearest(evidence: Evidence) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the most probable other classes of every image and their probabilities, (N, 3)."""
    shares = probabilities(evidence.outputs.joint_logits(evidence.head), 1.0)
    rows = np.arange(len(shares))[:, None]
    shares[rows[:, 0], evidence.answered] = -1.0
    count = min(NEAREST, shares.shape[1] - 1)
    best = np.argpartition(-shares, count - 1, axis=1)[:, :count]
    best = best[rows, np.argsort(-shares[rows, best], axis=1, kind="stable")]
    return best, shares[rows, best]


def render(data: dict[str, Any]) -> str:
    """Return the page as HTML.

    External text, such as file names, is included as JSON without ``<``, and the script inserts it
    only as text nodes. A content security policy forbids all other scripts and all resources but
    image files of this computer.
    """
    parts = files("crkd.review") / "page_files"
    markup, style = ((parts / name).read_text("utf-8") for name in ("page.html", "page.css"))
    script = "\n".join((parts / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    plain = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        plain = plain.replace(character, f"\\u{ord(character):04x}")
    fields = {
        "title": html.escape(data["title"]),
        "script-hash": _digest(script),
        "style-hash": _digest(style),
        "style": style,
        "script": script,
        "data": plain,
    }
    # Filled in one pass, so that inserted text is not searched for fields again.
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda field: fields[field[1]], markup)


def _class_entry(evidence: Evidence, entry: FoundClass) -> dict[str, Any]:
    return {
        "id": entry.id,
        "name": evidence.names[entry.id],
        "resembles": [[known, round(share, 4)] for known, share in entry.resembles],
        "stability": None if entry.stability is None else round(entry.stability, 4),
    }


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

"""Review page: one HTML file, with a folder of thumbnails if there are many images."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.core.atomic_write import write_pieces
from crkd.review.class_summaries import FoundClass, found_classes
from crkd.review.compact_features import compact
from crkd.review.decision_entries import MAX_NAME_LENGTH
from crkd.review.decisions import FORMAT, VERSION
from crkd.review.image_places import ImagePlaces
from crkd.review.page_folder import check_folder, written_sheets
from crkd.review.page_html import html_pieces
from crkd.review.page_images import image_entries
from crkd.review.run_outputs import Evidence, gather
from crkd.review.run_summary import recorded
from crkd.review.thumbnails import embedded_thumbnails, source_order
from crkd.stages.vectors.data import VectorData

EMBEDDED: Final = 4000
"""Maximum number of images whose thumbnails are inside the HTML file."""
THUMBNAIL_BUDGET: Final = 18_000_000
"""Maximum number of characters of all thumbnails inside the HTML file."""


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
    count, folder = len(evidence.images), out.with_suffix(".files")
    if count > EMBEDDED:
        check_folder(folder)
    data, shown, folder_bytes = _content(evidence), count, 0
    if count <= EMBEDDED:
        data["images"] = list(data["images"])
    if count <= EMBEDDED and embed_pictures(data, evidence, THUMBNAIL_BUDGET):
        shown = sum("unreadable" not in image for image in data["images"])
    else:
        data["sheets"], readable, folder_bytes = written_sheets(
            evidence.images, evidence.order, folder
        )
        data["images"] = _marked(data["images"], readable)
        shown = int(readable.sum())
    size = write_pieces(out, (piece.encode() for piece in html_pieces(data)))
    return {
        "classes": len(data["classes"]),
        "images": count,
        "thumbnails": shown,
        "bytes": size + folder_bytes,
    }


def _marked(
    entries: Iterable[dict[str, Any]], readable: NDArray[np.bool_]
) -> Iterator[dict[str, Any]]:
    """Yield the entries of images; those of unreadable ones are marked."""
    for entry, good in zip(entries, readable.tolist(), strict=True):
        yield entry if good else entry | {"unreadable": True}


def embed_pictures(data: dict[str, Any], evidence: Evidence, budget: int) -> bool:
    """Add thumbnails to the images of a page; return False if they exceed the budget.

    Args:
        data: content of the page, changed.
        evidence: outputs of the run.
        budget: maximum number of characters of all thumbnails.
    """
    places = source_order(evidence.images, evidence.order)
    uris = embedded_thumbnails(evidence.images, evidence.order[places], budget)
    if uris is None:
        return False
    for place, uri in zip(places.tolist(), uris, strict=True):
        data["images"][place] |= {"unreadable": True} if uri is None else {"src": uri}
    return True


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
    data = _content(evidence)
    return data | {"images": list(data["images"])}


def _content(evidence: Evidence) -> dict[str, Any]:
    """Return what :func:`page_data` returns, with an iterator over the entries of the images."""
    info, found = evidence.opened.info, found_classes(evidence)
    places = ImagePlaces(evidence.images)
    vectors = compact(evidence.projected, order=evidence.order)
    return {
        "format": FORMAT,
        "version": VERSION,
        "max_name": MAX_NAME_LENGTH,
        "model_sha256": info.model_sha256,
        "shown_sha256": evidence.shown_sha256,
        "title": f"{len(found)} discovered classes in {_source(evidence)}",
        "run": str(evidence.opened.run.path),
        "num_images": len(evidence.images),
        "known": evidence.names[: evidence.num_known],
        "refits": isinstance(evidence.data, VectorData),
        "answered_known": int((evidence.assigned < evidence.num_known).sum()),
        "classes": [_class_entry(evidence, entry) for entry in found],
        "images": image_entries(evidence, places),
        "root": places.root,
        "sheets": None,
        "features": {
            "width": vectors.shape[1],
            "values": base64.b64encode(vectors.tobytes()).decode(),
        },
        **recorded(evidence.opened),
    }


def _class_entry(evidence: Evidence, entry: FoundClass) -> dict[str, Any]:
    return {
        "id": entry.id,
        "name": evidence.names[entry.id],
        "resembles": [[known, round(share, 4)] for known, share in entry.resembles],
        "stability": None if entry.stability is None else round(entry.stability, 4),
    }

"""Classes that follow from the folders of own images, in sentences for the user."""

from __future__ import annotations

from collections import Counter, defaultdict

from crkd.core.counted import counted
from crkd.core.errors import listed
from crkd.data.encoded.listing import Listing

SHOWN = 10
"""Names of known classes in a sentence, at most."""


def remarks_on_known(listing: Listing) -> list[str]:
    """Return which classes the labeled images have, and a remark if classes may be deeper folders.

    Args:
        listing: the labeled images, each with a class.
    """
    sizes = Counter(_classes(listing))
    fewest, most = min(sizes.values()), max(sizes.values())
    images = counted(most, "image")
    counts = images if fewest == most else f"{fewest:,} to {images}"
    classes = counted(len(sizes), "known class", "known classes")
    lines = [f"{classes} with {counts} each: {listed(sorted(sizes), SHOWN)}"]
    if inner := _inner_folders(listing):
        lines.append(
            f"the outermost folders in --known are the classes, not the folders in them "
            f"({listed(inner, 4)}); move these up if they are the classes"
        )
    return lines


def remarks_on_novel(listing: Listing, num_novel: int | str | None) -> list[str]:
    """Return what follows from folders of unlabeled images; nothing if no classes follow.

    Args:
        listing: the unlabeled images.
        num_novel: number of novel classes, "auto", or None if the folders give it.
    """
    names = {listing.class_of(row) for row in range(len(listing))}
    if None in names or len(names) < 2:
        return []
    shown = listed(sorted(name for name in names if name is not None), 4)
    if num_novel is not None:
        return [
            f"{len(names):,} folders of --novel are hidden labels, for accuracy only: {shown}; "
            "ignore it if they are no classes"
        ]
    return [
        f"{len(names):,} folders of --novel are the number of novel classes, and hidden labels: "
        f"{shown}; give --num-novel K if they are no classes"
    ]


def _classes(listing: Listing) -> list[str]:
    return [listing.class_of(row) or "" for row in range(len(listing))]


def _inner_folders(listing: Listing) -> list[str]:
    """Return folders with images directly below class folders that have several of them."""
    inner: dict[str, set[str]] = defaultdict(set)
    for row, name in enumerate(_classes(listing)):
        # The name of the root, then folders, then the file.
        folders = listing.image_id(row).split("/")[1:-1]
        if len(folders) > 1 and folders[0] == name:
            inner[name].add(folders[1])
    return [
        f"{name}/{folder}"
        for name, folders in sorted(inner.items())
        if len(folders) > 1
        for folder in sorted(folders)
    ]

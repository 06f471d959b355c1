"""Own images as feature vectors: each folder is embedded into a file that later runs use again."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from pathlib import Path
from typing import Any

from crkd.core.errors import InputError, listed
from crkd.data.encoded.listing import Listing
from crkd.data.sources.files import SHOWN, left_out
from crkd.data.sources.folder import check_filled, class_folders_of
from crkd.data.vectors.embedding_file import EmbeddingInfo
from crkd.embedding.plan import EmbedSettings
from crkd.embedding.run import embed
from crkd.runs.console import say
from crkd.runs.skipped_files import skipped_file


def embedded_folder(
    images: str | Path,
    place: Path,
    settings: EmbedSettings,
    *,
    like: dict[str, Any] | None = None,
    listing: Listing | None = None,
    labeled: bool = False,
) -> Path:
    """Return the file of vectors of a folder of images, which is made or brought up to date.

    Args:
        images: folder, tar file or Parquet table of images.
        place: folder of the files of vectors.
        settings: backbone, input size and runtime.
        like: ``RunInfo.embedding`` of a run whose vectors must be comparable; None uses the
            settings.
        listing: of ``images``; None lists them.
        labeled: whether they are the images of known classes.

    Raises:
        InputError: the images or the settings are unusable, or no image of a known class can be
            read.
        Interrupted: a signal came; the vectors so far are kept.
    """
    if like is not None:
        settings = settings_of(like, settings)
    path = Path(images).absolute()
    key = f"{path}\n{settings.backbone}\n{settings.image_size}\n{settings.runtime}"
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{path.stem or 'images'}-{digest}.parquet"
    made = embed(listing or [path], file, settings)
    if sentence := left_out(Path(images)):
        say(sentence)
    if made.skipped:
        names = listed(made.skipped, limit=SHOWN)
        total = made.embedded + made.reused + len(made.skipped)
        counts = f"{len(made.skipped):,} of {total:,}"
        say(f"{counts} images cannot be read, listed in {skipped_file(file)}: {names}")
        if labeled and listing is not None:
            _check_readable(images, listing, made.skipped)
    return file


def _check_readable(known: str | Path, listing: Listing, skipped: Container[str]) -> None:
    """Refuse a known class none of whose images can be read: its images would seem novel."""
    rows = range(len(listing))
    readable = {listing.class_of(row) for row in rows if listing.image_id(row) not in skipped}
    lost = {listing.class_of(row) for row in rows} - readable
    if lost:
        raise InputError(
            f"the classes {listed(sorted(map(str, lost)))} in --known {str(known)!r} have no image "
            "that can be read; repair their images or remove the classes"
        )


def settings_of(like: dict[str, Any], settings: EmbedSettings) -> EmbedSettings:
    """Return the settings that embed further images as those of a run.

    Raises:
        InputError: other settings were given.
    """
    info = EmbeddingInfo.from_plain({**like, "roots": [], "skipped": 0}, Path("run.json"))
    size = int(info.preprocessing["image_size"])
    given = {"--backbone": settings.backbone, "--image-size": settings.image_size}
    for flag, wanted in (("--backbone", info.backbone), ("--image-size", size)):
        if given[flag] not in (None, wanted):
            raise InputError(
                f"{flag} is {given[flag]}, but the run was made with {wanted}; leave it out"
            )
    return EmbedSettings(
        backbone=info.backbone,
        weights=settings.weights,
        image_size=size,
        runtime=str(info.form["runtime"]),
        device=settings.device,
        download=settings.download,
        workers=settings.workers,
    )


def check_labeled_images(known: str | Path, listing: Listing) -> None:
    """Refuse unusable labeled images of a first discovery before anything is embedded.

    Args:
        known: folder, tar file or Parquet table of labeled images.
        listing: of ``known``.

    Raises:
        InputError: an image has no class, a class folder has no image, or there are fewer than two
            known classes.
    """
    classes: set[str] = set()
    for row in range(len(listing)):
        name = listing.class_of(row)
        if name is None:
            raise InputError(
                f"the image {listing.image_id(row)!r} in --known {str(known)!r} has no class; put "
                "every image into the folder of its class"
            )
        classes.add(name)
    if Path(known).is_dir():
        check_filled(known, class_folders_of(Path(known)).values(), classes)
    if len(classes) < 2:
        raise InputError(
            f"--known {str(known)!r} has only images of the class {classes.pop()!r}; give two "
            "known classes or more"
        )


def check_num_novel_of_folder(
    novel: str | Path, listing: Listing, num_novel: int | str | None
) -> None:
    """Refuse a missing or too large number of novel classes before anything is embedded.

    Args:
        novel: folder, tar file or Parquet table of unlabeled images.
        listing: of ``novel``.
        num_novel: number of novel classes, "auto", or None if the folders give it.

    Raises:
        InputError: it is not given, and the folders do not determine it; or there are fewer images.
    """
    if isinstance(num_novel, int) and num_novel > len(listing):
        raise InputError(
            f"--num-novel {num_novel} exceeds the number of images in --novel {str(novel)!r}, "
            f"{len(listing):,}; lower it"
        )
    if num_novel is not None:
        return
    classes = {listing.class_of(row) for row in range(len(listing))}
    if None in classes or len(classes) < 2:
        raise InputError(
            f"the number of novel classes is not given, and {str(novel)!r} has no folder for each "
            "class; add --num-novel K, or --num-novel auto to estimate it"
        )

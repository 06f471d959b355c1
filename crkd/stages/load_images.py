"""Data set and split of a configuration."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset, load_dataset
from crkd.data.sources.files import left_out
from crkd.data.splits.class_split import ClassSplit, load_split
from crkd.runs.console import say
from crkd.runs.folder import RunInfo
from crkd.stages.vectors.images import embedded_images


def load_images(
    config: Config,
    *,
    download: bool = False,
    verify: bool = True,
    class_names: Sequence[str] = (),
) -> tuple[Dataset, ClassSplit]:
    """Return the configured data set and split, not yet checked against each other.

    The data set "features" gives the images behind the vectors.

    Args:
        config: the run's configuration.
        download: fetch the data set if it is missing and can be fetched.
        verify: check every own image first; otherwise an unreadable one is found when it is read.
        class_names: classes of an earlier run, for own images that extend it.
    """
    if config.dataset == "folder":
        dataset, split = _own_images(config, verify=verify, class_names=class_names)
        for folder in (config.data.known, config.data.novel):
            if folder is not None and (sentence := left_out(Path(folder))):
                say(sentence)
        return dataset, split
    if config.dataset == "features":
        dataset, split = embedded_images(config, class_names=class_names)
        return dataset, with_image_digests(dataset, split)
    dataset = load_dataset(config.dataset, config.data.root, download=download)
    return dataset, split_of(config)


def check_known(config: Config) -> None:
    """Refuse own images without labeled ones, which the training of a network needs.

    Raises:
        InputError: ``data.known`` is missing.
    """
    if config.dataset == "folder" and config.data.known is None:
        raise InputError(
            "data.known is not given; a network is trained with labeled images, --known DIR"
        )


def split_of(config: Config) -> ClassSplit:
    """Return the split of a configuration; own images are listed, not decoded.

    Raises:
        InputError: there is no such split, or own images are unusable.
    """
    check_known(config)
    if config.dataset == "folder":
        # A split has no size, and with one no image is opened to choose it. The run that reads the
        # images says what it found.
        return _own_images(_with_size(config, 1), verify=False, log=lambda line: None)[1]
    split = load_split(config.dataset, config.split)
    if config.class_order_seed is not None:
        split = split.reordered(config.class_order_seed)
    return split


def default_image_size(config: Config) -> int:
    """Return the side in pixels at which images are used without ``data.image_size``.

    Raises:
        InputError: the data set is missing, or own images are unusable.
    """
    if config.dataset == "folder":
        images = _own_images(_with_size(config, None), verify=False, log=lambda line: None)[0]
        return images.image_size
    return load_dataset(config.dataset, config.data.root).image_size


def _with_size(config: Config, size: int | None) -> Config:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=size))


def split_entry(split: ClassSplit, labeled_fraction: float, subset: float = 1.0) -> dict[str, str]:
    """Return the entry of a split in ``run.json``.

    Stage 1 depends on the known classes and their images alone, so a discovery may start from
    every run with the same ``known`` digest. Of own images, the digest covers names, sizes, begins
    and ends of the files, or their names and SHA-256 if they are embedded; ``images`` is the digest
    of the unlabeled ones.

    Args:
        split: the classes.
        labeled_fraction: of the images of known classes. A stage 1 that saw more labels does not
            fit.
        subset: fraction of all images that are used. A stage 1 of other images does not fit.
    """
    known = [split.dataset, *split.joint_names[: len(split.known)]]
    if "images/known" in split.label_hash:
        known.append(split.label_hash["images/known"])
    if labeled_fraction < 1:
        known.append(f"labeled_fraction {labeled_fraction}")
    if subset < 1:
        known.append(f"subset {subset}")
    digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()
    entry = {"name": split.name, "fingerprint": split.fingerprint(), "known": digest}
    if "images/novel" in split.label_hash:
        entry["images"] = split.label_hash["images/novel"]
    if subset < 1:
        entry["subset"] = f"{subset:g}"
    return entry


def data_notes(config: Config, dataset: Dataset) -> list[str]:
    """Return the remarks about the data that belong to every result of a run."""
    notes = [dataset.note] if dataset.note else []
    if config.data.subset < 1:
        share = f"{100 * config.data.subset:g} %"
        notes.append(f"on a subset of the data for smoke tests: {share} of each class")
    return notes


def check_same_subset(path: Path, info: RunInfo, config: Config) -> None:
    """Refuse to extend a run of a subset of the data by the whole data, or the reverse.

    Args:
        path: folder of the earlier run.
        info: its description.
        config: the configuration of the new run.

    Raises:
        InputError: their ``data.subset`` differ.
    """
    before, now = info.split.get("subset", "1"), f"{config.data.subset:g}"
    if before != now:
        raise InputError(
            f"{path} was made with data.subset {before}, this run has data.subset {now}; add --set "
            f"data.subset={before}, or name a run with data.subset {now}"
        )


def with_image_digests(dataset: Dataset, split: ClassSplit) -> ClassSplit:
    """Return the split with digests of the files of own images; the source keeps those of each."""
    source = dataset.train
    each = np.zeros((len(source), 16), np.uint8)
    joint = split.joint_ids(source.labels)
    known = (joint >= 0) & (joint < len(split.known))
    if dataset.hidden is not None:
        known &= ~dataset.hidden
    digests = {}
    for name, rows in (("known", np.flatnonzero(known)), ("novel", np.flatnonzero(~known))):
        found = hashlib.sha256()
        for row in rows.tolist():
            found.update(source.ids[row].encode("utf-8", "surrogateescape") + b"\0")
            fingerprint = source.fingerprint(row)
            found.update(fingerprint)
            each[row] = np.frombuffer(hashlib.blake2b(fingerprint, digest_size=16).digest(), "u1")
        digests[f"images/{name}"] = found.hexdigest()
    source.digests = each
    return dataclasses.replace(split, label_hash=digests)


def _own_images(
    config: Config,
    *,
    verify: bool = True,
    class_names: Sequence[str] = (),
    log: Callable[[str], None] = say,
) -> tuple[Dataset, ClassSplit]:
    from crkd.data.sources.folder import folder_dataset
    from crkd.data.sources.tar import tar_dataset, tar_files

    for flag, value in (("split", config.split), ("class-order-seed", config.class_order_seed)):
        if value is not None:
            raise InputError(
                f"the {flag} {value!r} (--{flag}, or a key of --config) does not apply to own "
                "images: the folders say which classes are known; leave it out, or add --set "
                f"{flag.replace('-', '_')}=null"
            )
    known, novel = config.data.known, config.data.novel
    folders = (None if known is None else Path(known), None if novel is None else Path(novel))
    if any(folder is not None and tar_files(folder) for folder in folders):
        dataset, split = tar_dataset(
            *folders,
            classes_so_far=class_names,
            image_size=config.data.image_size,
            mixed=config.mixed,
            log=log,
        )
        return dataset, with_image_digests(dataset, split)
    dataset, split = folder_dataset(
        *folders,
        classes_so_far=class_names,
        skip_unreadable=config.data.skip_unreadable,
        verify=verify,
        image_size=config.data.image_size,
        mixed=config.mixed,
        log=log,
    )
    return dataset, with_image_digests(dataset, split)

"""Images and labels of a run, ready on the device."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset, load_dataset
from crkd.data.splits.class_split import ClassSplit, load_split
from crkd.data.splits.partition import Subset, Subsets, partition
from crkd.data.storage.choose import ImageStore, StorageMode, choose_storage
from crkd.runs.console import console

TRAINED_PARTS = ("known_train", "novel_train")


@dataclass
class RunData:
    """Everything that a stage reads.

    Attributes:
        dataset: the images' origin.
        split: known and novel classes.
        subsets: the partition; its hidden labels are for the evaluator alone.
        image_size: side in pixels at which a network sees whole images.
        stored_size: side in pixels at which images are held; larger leaves room to crop from.
        device: where the stores hand out images.
        storage: "auto", "in_memory" or "streaming".
        notes: what has to be said beside every figure.
    """

    dataset: Dataset
    split: ClassSplit
    subsets: Subsets
    image_size: int
    device: torch.device
    stored_size: int
    storage: StorageMode
    notes: list[str]
    _stores: dict[Subset, ImageStore] = field(default_factory=dict)

    @property
    def num_known(self) -> int:
        """K."""
        return len(self.split.known)

    def store(self, part: Subset) -> ImageStore | None:
        """Return the images of a part on the device; None where the part is empty."""
        if len(part) == 0:
            return None
        if part not in self._stores:
            self._stores[part] = choose_storage(
                part, self.stored_size, self.device, mode=self.storage, log=_say
            )
        return self._stores[part]

    def evaluated(self) -> dict[str, Subset]:
        """Return the parts that the prediction table covers; empty ones are left out.

        Without a test set (own images) the held-out known images stand in its place.
        """
        test = self.subsets.test if len(self.subsets.test) else self.subsets.known_val
        parts = {"train": self.subsets.novel_train, "test": test}
        return {name: part for name, part in parts.items() if len(part)}

    def class_entries(self, num_novel: int) -> list[dict[str, Any]]:
        """Return the label space of a model with ``num_novel`` novel classes.

        Novel classes are numbered, not named: nobody has named them yet.
        """
        known = [
            {"id": i, "name": name, "kind": "known"}
            for i, name in enumerate(self.split.joint_names[: self.num_known])
        ]
        novel = [
            {"id": self.num_known + m, "name": f"novel-{m}", "kind": "novel"}
            for m in range(num_novel)
        ]
        return known + novel

    def preprocessing(self) -> dict[str, Any]:
        """Return what an image must go through before the model sees it."""
        return {
            "image_size": self.image_size,
            "mean": list(self.dataset.mean),
            "std": list(self.dataset.std),
        }

    def pixels(self, part: Subset) -> NDArray[np.float32]:
        """Return the raw pixels of a part in [0, 1], ``(n, D)``; large images at 32 pixels."""
        small = min(self.image_size, 32)
        store = choose_storage(part, small, torch.device("cpu"), mode="in_memory")
        rows = np.array_split(np.arange(len(part)), -(-len(part) // 4096))
        blocks = [block.flatten(1).numpy() for block in store.batches(rows)]
        return np.concatenate(blocks).astype(np.float32) / np.float32(255.0)


def prepare(config: Config, device: torch.device, *, download: bool = False) -> RunData:
    """Read the data set, check the split against it and divide it.

    Raises:
        InputError: the data set, the split or an image is missing or wrong.
    """
    dataset, split = load_images(config, download=download)
    if config.dataset != "folder":
        split.check(dataset)
    parts = partition(
        dataset,
        split,
        validation_fraction=config.data.validation_fraction,
        seed=config.seed,
        imbalance=config.data.imbalance,
    )
    size = config.data.image_size or dataset.image_size
    notes = [dataset.note] if dataset.note else []
    stored = round(size * config.data.stored_share)
    return RunData(dataset, split, parts, size, device, stored, config.data.storage, notes)


def prepare_incremental(
    config: Config,
    device: torch.device,
    *,
    classes: Sequence[Mapping[str, Any]],
    preprocessing: Mapping[str, Any],
    download: bool = False,
) -> RunData:
    """Read what a run needs that goes on from another one, whose old images may be gone.

    Args:
        config: the configuration of the new run; its split, or its folders, say which classes
            are new.
        device: where the stores hand out images.
        classes: label space of the earlier run.
        preprocessing: of the earlier run; the network was trained on images treated so.
        download: fetch the data set if it is missing and can be fetched.

    Raises:
        InputError: as :func:`prepare`; or the split's known classes are not as many as the run's,
            or labels were asked for that say nothing of found classes.
    """
    class_names = [entry["name"] for entry in classes]
    dataset, split = load_images(config, download=download, class_names=class_names)
    if config.dataset != "folder":
        split.check(dataset)
    if len(split.known) != len(class_names):
        raise InputError(
            f"split {split.name!r} has {len(split.known)} known classes, but the run to go on from "
            f"knows {len(class_names)}; give the split whose known classes are that run's"
        )
    size = int(preprocessing["image_size"])
    mean, std = (tuple(preprocessing[name]) for name in ("mean", "std"))
    dataset = dataclasses.replace(dataset, image_size=size, mean=mean, std=std)
    parts = partition(
        dataset,
        split,
        validation_fraction=config.data.validation_fraction,
        seed=config.seed,
        images_gone=True,
        imbalance=config.data.imbalance,
    )
    # Labels of a data set name true classes; a found class is a cluster, under an id of its own.
    foreign = config.dataset != "folder" and any("step" in entry for entry in classes)
    if foreign and config.discover.labeled:
        raise InputError(
            "discover.labeled is true, but the labels of a data set do not name the classes that "
            "a run has found; leave it out"
        )
    if foreign or config.discover.labeled is False:
        parts = parts.without_labeled()
    notes = [dataset.note] if dataset.note else []
    stored = round(size * config.data.stored_share)
    return RunData(dataset, split, parts, size, device, stored, config.data.storage, notes)


def load_images(
    config: Config,
    *,
    download: bool = False,
    verify: bool = True,
    class_names: Sequence[str] = (),
) -> tuple[Dataset, ClassSplit]:
    """Return the configured data set and split, not yet checked against each other.

    Args:
        config: the run's configuration.
        download: fetch the data set if it is missing and can be fetched.
        verify: look at every own image first; off, an unreadable one shows when it is read.
        class_names: classes that an earlier run knows, for own images that go on from it.
    """
    if config.dataset == "folder":
        return _own_images(config, verify=verify, class_names=class_names)
    dataset = load_dataset(config.dataset, config.data.root, download=download)
    return dataset, split_of(config)


def split_of(config: Config) -> ClassSplit:
    """Return the split that a configuration means; own images are listed for it, not decoded."""
    if config.dataset == "folder":
        return _own_images(config, verify=False)[1]
    split = load_split(config.dataset, config.split)
    if config.class_order_seed is not None:
        split = split.reordered(config.class_order_seed)
    return split


def split_entry(split: ClassSplit) -> dict[str, str]:
    """Return what ``run.json`` says of a split.

    Stage 1 depends on the known classes alone, so a discovery may start from every run whose
    ``known`` digest is its own.
    """
    known = [split.dataset, *split.joint_names[: len(split.known)]]
    digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()
    return {"name": split.name, "fingerprint": split.fingerprint(), "known": digest}


def _own_images(
    config: Config, *, verify: bool = True, class_names: Sequence[str] = ()
) -> tuple[Dataset, ClassSplit]:
    from crkd.data.sources.folder import folder_dataset
    from crkd.data.sources.tar import tar_dataset, tar_files

    if config.split is not None or config.class_order_seed is not None:
        raise InputError(
            "--split and --class-order-seed do not apply to own images: the folders say which "
            "classes are known; leave them out"
        )
    known, novel = config.data.known, config.data.novel
    if known is None and not class_names:
        raise InputError("data.known is not given; own images need --known DIR")
    folders = (None if known is None else Path(known), None if novel is None else Path(novel))
    if any(folder is not None and tar_files(folder) for folder in folders):
        return tar_dataset(
            *folders, classes_so_far=class_names, image_size=config.data.image_size, log=_say
        )
    return folder_dataset(
        *folders,
        classes_so_far=class_names,
        skip_unreadable=config.data.skip_unreadable,
        verify=verify,
        image_size=config.data.image_size,
        log=_say,
    )


def num_novel_classes(config: Config, data: RunData) -> tuple[int, str]:
    """Return M and a sentence that says where it comes from.

    Raises:
        InputError: nothing says how many novel classes there are.
    """
    if config.discover.num_novel == "auto":
        raise InputError(
            "--num-novel auto is not offered here; estimate it with estimate-k and give the number"
        )
    if config.discover.num_novel is not None:
        return config.discover.num_novel, "number of novel classes as given by --num-novel"
    counted = len(data.split.novel)
    if counted:
        return counted, "number of novel classes taken from the ground truth of the split"
    raise InputError(
        "the number of novel classes is not known: the novel images carry no labels to count; "
        "give --num-novel K"
    )


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)

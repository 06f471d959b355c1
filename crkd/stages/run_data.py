"""Images, labels and network outputs of a run."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.datasets.base import Dataset
from crkd.data.splits.class_split import ClassSplit
from crkd.data.splits.partition import Subset, Subsets, partition
from crkd.data.splits.session_file import only_session
from crkd.data.storage.choose import ImageStore, choose_storage
from crkd.models.network import Network
from crkd.runs.class_info import ClassInfo
from crkd.runs.console import say
from crkd.runs.sample_digests import BYTES, SampleDigests
from crkd.stages.forward import NetworkInput, Outputs, forward_store, whole_images
from crkd.stages.load_images import check_known, data_notes, load_images, split_entry

_LARGE_BYTES: Final = 2**30
"""Size of the stored images from which the choice of their storage is printed."""


@dataclass
class RunData:
    """The samples that a stage reads, and the outputs of frozen networks on them.

    Attributes:
        dataset: the images' origin.
        split: known and novel classes.
        subsets: the partition; its hidden labels are for the evaluator alone.
        image_size: side in pixels of a network's input.
        stored_size: side in pixels at which images are held; larger leaves room to crop from.
        device: where the stores hand out images.
        config: how images are stored and evaluated.
        notes: warnings and remarks about the data.
    """

    dataset: Dataset
    split: ClassSplit
    subsets: Subsets
    image_size: int
    device: torch.device
    stored_size: int
    config: Config
    notes: list[str]
    _stores: dict[Subset, ImageStore] = field(default_factory=dict)
    _outputs: WeakKeyDictionary[Network, dict[Subset, Outputs]] = field(
        default_factory=WeakKeyDictionary
    )

    @property
    def num_known(self) -> int:
        """K."""
        return len(self.split.known)

    def store(self, subset: Subset) -> ImageStore | None:
        """Return the images of a subset on the device; None where the subset is empty."""
        if len(subset) == 0:
            return None
        if subset not in self._stores:
            large = len(subset) * 3 * self.stored_size**2 >= _LARGE_BYTES
            self._stores[subset] = choose_storage(
                subset,
                self.stored_size,
                self.device,
                mode=self.config.data.storage,
                log=say if large else lambda line: None,
            )
        return self._stores[subset]

    def outputs(self, network: Network, subset: Subset) -> Outputs:
        """Return features and logits of all images of a subset, which must not be empty.

        Outputs of a frozen network are kept: each image passes it once. A network with a
        parameter that requires gradients may still change, so its outputs are computed each time.
        """
        frozen = not any(parameter.requires_grad for parameter in network.parameters())
        known = self._outputs.setdefault(network, {}) if frozen else {}
        if subset not in known:
            store = self.store(subset)
            assert store is not None
            known[subset] = forward_store(
                network,
                store,
                self.network_input(),
                batch_size=self.config.evaluation.batch_size,
                precision=self.config.loop.precision,
            )
        return known[subset]

    def network_input(self) -> NetworkInput:
        """Return the preparation of stored samples for a network in evaluation."""
        return whole_images(self.image_size, self.dataset.mean, self.dataset.std)

    def evaluated_outputs(self, network: Network) -> dict[str, Outputs]:
        """Return the outputs on the subsets that are evaluated, by name."""
        return {name: self.outputs(network, subset) for name, subset in self.evaluated().items()}

    def evaluated(self) -> dict[str, Subset]:
        """Return the subsets that the prediction table covers; empty ones are left out.

        Without a test set (own images) the held-out known images are used as the test set.
        """
        test = self.subsets.test if len(self.subsets.test) else self.subsets.known_val
        parts = {"train": self.subsets.unlabeled, "test": test}
        return {name: part for name, part in parts.items() if len(part)}

    def class_entries(self, num_novel: int) -> list[ClassInfo]:
        """Return the label space of a model with ``num_novel`` novel classes.

        Novel classes have numbers in place of names.
        """
        names = self.split.joint_names[: self.num_known]
        known = [ClassInfo(i, name, "known") for i, name in enumerate(names)]
        return known + [
            ClassInfo(self.num_known + m, f"novel-{m}", "novel") for m in range(num_novel)
        ]

    def preprocessing(self) -> dict[str, Any]:
        """Return the preprocessing of an image for the model."""
        return {
            "image_size": self.image_size,
            "mean": list(self.dataset.mean),
            "std": list(self.dataset.std),
        }

    def split_entry(self) -> dict[str, str]:
        """Return the entry of the split in ``run.json``, see :func:`.load_images.split_entry`."""
        return split_entry(self.split, self.config.data.labeled_fraction, self.config.data.subset)

    def sample_digests(self) -> SampleDigests:
        """Return digests of all samples; for a named data set of its two parts."""
        source, test = self.dataset.train, self.dataset.test
        if source.digests is not None:
            return SampleDigests(source.ids, source.digests)
        parts = {"training images": source} | ({} if test is None else {"test images": test})
        digests = {name: part.content_digest()[:BYTES] for name, part in parts.items()}
        if self.config.data.session is not None:
            names = "\n".join(self.subsets.unlabeled.ids).encode("utf-8", "surrogateescape")
            digests["images of the session"] = hashlib.sha256(names).digest()[:BYTES]
        rows = np.stack([np.frombuffer(digest, "u1") for digest in digests.values()])
        return SampleDigests(list(digests), rows)

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
    check_known(config)
    dataset, split = load_images(config, download=download)
    if config.dataset != "folder":
        split.check(dataset)
    parts = subsets_of(config, dataset, split)
    size = config.data.image_size or dataset.image_size
    return _run_data(config, dataset, split, parts, size, device)


def prepare_incremental(
    config: Config,
    device: torch.device,
    *,
    classes: Sequence[ClassInfo],
    preprocessing: Mapping[str, Any] | None,
    download: bool = False,
) -> RunData:
    """Read the data of a run that extends an earlier one; images of old classes may be missing.

    Args:
        config: the configuration of the new run; its split, or its folders, name the new classes.
        device: where the stores hand out images.
        classes: label space of the earlier run.
        preprocessing: of the earlier run; None takes that of the data.
        download: fetch the data set if it is missing and can be fetched.

    Raises:
        InputError: as :func:`prepare`; or the split has another number of known classes than the
            run, or the labels of a data set were requested for discovered classes.
    """
    class_names = [entry.name for entry in classes]
    dataset, split = load_images(config, download=download, class_names=class_names)
    if config.dataset != "folder":
        split.check(dataset)
    if len(split.known) != len(class_names):
        raise InputError(
            f"split {split.name!r} has {len(split.known)} known classes, but the earlier run "
            f"has {len(class_names)} classes; give the split whose known classes are that run's"
        )
    if preprocessing is not None:
        size = int(preprocessing["image_size"])
        mean, std = (tuple(preprocessing[name]) for name in ("mean", "std"))
        dataset = dataclasses.replace(dataset, image_size=size, mean=mean, std=std)
    if config.data.session is not None:
        # An image of a class that was found has no label, wherever a session shows it again.
        found = [entry.id for entry in classes if entry.was_discovered]
        hidden = np.isin(split.joint_ids(dataset.train.labels), found)
        dataset = dataclasses.replace(dataset, hidden=hidden)
    parts = subsets_of(config, dataset, split, allow_empty_known=True)
    # Labels of a data set name true classes; a discovered class is a cluster with its own id.
    own = config.dataset in ("folder", "features")
    foreign = not own and any(entry.was_discovered for entry in classes)
    if foreign and config.discover.labeled:
        raise InputError(
            "discover.labeled is true, but the labels of a data set do not name the classes that "
            "a run has found; leave it out"
        )
    if foreign or config.discover.labeled is False:
        parts = parts.without_labeled()
    return _run_data(config, dataset, split, parts, dataset.image_size, device)


def subsets_of(
    config: Config, dataset: Dataset, split: ClassSplit, *, allow_empty_known: bool = False
) -> Subsets:
    """Return the subsets of a run; of a session only its images.

    Args:
        config: the configuration of the run.
        dataset: its images.
        split: known and novel classes.
        allow_empty_known: whether known classes may have no image.

    Raises:
        InputError: a known class has no image, or the file of the session is unusable.
    """
    parts = partition(
        dataset,
        split,
        validation_fraction=config.data.validation_fraction,
        seed=config.seed,
        allow_empty_known=allow_empty_known,
        imbalance=config.data.imbalance,
        labeled_fraction=config.data.labeled_fraction,
        subset=config.data.subset,
    )
    session = config.data.session
    return parts if session is None else only_session(parts, Path(session))


def _run_data(
    config: Config,
    dataset: Dataset,
    split: ClassSplit,
    subsets: Subsets,
    image_size: int,
    device: torch.device,
) -> RunData:
    stored, notes = round(image_size * config.data.stored_share), data_notes(config, dataset)
    return RunData(dataset, split, subsets, image_size, device, stored, config, notes)


def check_num_novel(num_novel: int, count: int, samples: str) -> None:
    """Refuse more novel classes than there are samples to discover them in.

    Args:
        num_novel: M.
        count: number of samples.
        samples: what they are, for the message, such as "unlabeled images".

    Raises:
        InputError: M exceeds their number.
    """
    if num_novel > count:
        raise InputError(f"--num-novel {num_novel} exceeds the {count} {samples}; lower it")


def num_novel_classes(data: RunData) -> tuple[int, str]:
    """Return M and a sentence on its origin.

    Raises:
        InputError: the number of novel classes is neither given nor in the split.
    """
    config = data.config
    if config.discover.num_novel == "auto":
        raise InputError(
            "--num-novel auto is not offered here; estimate it with estimate-k and give the number"
        )
    if config.discover.num_novel is not None:
        return config.discover.num_novel, "number of novel classes as given by --num-novel"
    counted = len(data.split.novel)
    if counted:
        return counted, "number of novel classes is that of the hidden labels"
    raise InputError(
        "the number of novel classes is not known: the novel images carry no labels to count; "
        "give --num-novel K"
    )

"""A teacher that ran once: its soft labels of views that come again, looked up while training.

The idea of FKD (Shen and Xing, ECCV 2022). Views are a pure function of (seed, pass, image, view),
so nothing of them has to be stored: the loader repeats the first passes, and the labels were made
from the same pixels.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from crkd.core.errors import InputError
from crkd.core.types import Batch, HeadOutputs
from crkd.data.loader import BatchLoader
from crkd.data.storage.free_memory import free_bytes
from crkd.losses.soft_labels import LabelMode, Record, label_mode, log_probabilities
from crkd.runs.console import TrainingProgress, console
from crkd.training.checkpoint import save_state
from crkd.training.distributed import barrier, is_rank_zero
from crkd.training.interruption import Interrupted, graceful_stop
from crkd.training.loop import Loop
from crkd.training.precision import resolved_precision
from crkd.training.soft_label_files import FOLDER, LabelStore
from crkd.training.teacher import Teacher

SHARE_OF_FREE_MEMORY: Final = 0.25
"""Largest share of a GPU's memory for labels; a larger set stays in the host's memory."""

_SAMPLED_IMAGES: Final = 64


class StoredTeacher:
    """Looks the labels of a batch up by image and pass; a :class:`Teacher` without a network.

    Args:
        labels: tensors ``(E * N, V, ...)`` of E passes over N images, V large views each.
        mode: how they were compressed.
        num_images: N.
    """

    def __init__(self, labels: Record, mode: LabelMode, num_images: int) -> None:
        self._labels, self._mode, self._num_images = labels, mode, num_images
        self._device = next(iter(labels.values())).device

    def __call__(self, batch: Batch, first: int) -> HeadOutputs:
        """Return log-probabilities as known logits, and features of length 0.

        Labels in the host's memory make a GPU wait for the look-up.
        """
        rows = batch.view_epoch[first:] * self._num_images + batch.sample_id[first:]
        rows = rows.to(self._device)
        record = {name: t.index_select(0, rows).transpose(0, 1) for name, t in self._labels.items()}
        known = log_probabilities(self._mode.expand(record)).to(batch.sample_id.device)
        return HeadOutputs(known.new_zeros(*known.shape[:2], 0), known)


def store_teacher(
    loop: Loop,
    teacher: Teacher,
    network: nn.Module,
    *,
    mode: str,
    num_classes: int,
    resume: bool,
) -> StoredTeacher:
    """Run the teacher over the large views of every pass that comes again, and keep its labels.

    They are stored in the run folder; stored passes are not computed again.

    Args:
        loop: whose loader repeats the views of its first passes, and whose folder keeps the labels.
        teacher: whose known logits they are made of.
        network: of the teacher; its weights distinguish the labels of two teachers.
        mode: name of a label mode.
        num_classes: K, columns of the teacher's known logits.
        resume: False saves the state before the first step, so that the run can be resumed.

    Raises:
        InputError: the mode is unknown or unfit, the labels need too much memory, or the folder
            holds labels of another origin or damaged ones.
        Interrupted: a signal came; whole passes are kept.
    """
    loader, epochs = loop.loader, loop.loader.view_epochs
    compression = label_mode(mode, num_classes)
    images = sum(len(store) for store in loader.stores if store is not None)
    needed = epochs * images * loader.views.num_large * compression.bytes_per_label
    place = _place(needed, loop.device, epochs, mode)
    folder = loop.folder / FOLDER
    origin = {
        "teacher": _digest(network),
        "images": _sample_digest(loader),
        "counts": [0 if store is None else len(store) for store in loader.stores],
        "seed": loader.seed,
        "views": _views(loader),
        "precision": resolved_precision(loop.config.loop.precision, loop.device),
        "label_mode": mode,
        "classes": num_classes,
    }
    if not resume:
        save_state(
            loop.folder,
            stage=loop.task.stage,
            step=0,
            seconds=0.0,
            modules=loop.task.modules,
            optimizer=loop.optimizer,
            config=loop.config,
        )
    if is_rank_zero():
        _generate(LabelStore(folder, origin), teacher, loader, compression, epochs)
    barrier()
    console.print(
        f"teacher's labels: {epochs} x {images:,} images in {needed / 2**20:,.1f} MiB on {place}",
        highlight=False,
    )
    return StoredTeacher(_load(LabelStore(folder, origin), epochs, place), compression, images)


def _generate(
    store: LabelStore, teacher: Teacher, loader: BatchLoader, mode: LabelMode, epochs: int
) -> None:
    """Make the labels of every pass that the store lacks."""
    missing = [epoch for epoch in range(epochs) if epoch not in store]
    done = epochs - len(missing)
    per_epoch = sum(-(-len(s) // sum(loader.counts)) for s in loader.stores if s is not None)

    def stop_if_asked() -> None:
        if signals:
            raise Interrupted(f"stopped after {done} of {epochs} passes of the teacher")

    with (
        graceful_stop() as signals,
        TrainingProgress(
            "teacher", epochs * per_epoch, done * per_epoch, sum(loader.counts)
        ) as bar,
    ):
        for epoch in missing:
            parts = []
            for number, batch in enumerate(loader.sweep(epoch), 1):
                stop_if_asked()
                logits = teacher(batch, 0).known_logits.float()
                record = mode.compress(logits.softmax(dim=-1))
                parts.append({name: t.transpose(0, 1).cpu() for name, t in record.items()})
                bar.show(done * per_epoch + number, {})
            store.write(epoch, {name: torch.cat([p[name] for p in parts]) for name in parts[0]})
            done += 1
            stop_if_asked()


def _load(store: LabelStore, epochs: int, place: torch.device) -> Record:
    """Return the labels of all passes, one after the other, without holding them twice."""
    labels: Record = {}
    for epoch in range(epochs):
        for name, part in store.read(epoch).items():
            if name not in labels:
                shape = (epochs * len(part), *part.shape[1:])
                labels[name] = torch.empty(shape, dtype=part.dtype, device=place)
            labels[name][epoch * len(part) : (epoch + 1) * len(part)] = part
    return labels


def _place(needed: int, device: torch.device, epochs: int, mode: str) -> torch.device:
    """Return the training device if so many bytes fit there, else the host."""
    if device.type != "cpu" and needed <= SHARE_OF_FREE_MEMORY * free_bytes(device):
        return device
    host = torch.device("cpu")
    free = free_bytes(host)
    if needed > free:
        raise InputError(
            f"stored_epochs {epochs} with label_mode {mode!r} takes {needed / 2**30:,.1f} GiB, and "
            f"{free / 2**30:,.1f} GiB of memory are free; lower stored_epochs, or keep less of "
            "each label, as label_mode marginal_smoothing_k5 does"
        )
    return host


def _digest(network: nn.Module) -> str:
    """Return the SHA-256 of a network's weights and buffers."""
    total = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        total.update(name.encode())
        total.update(_bytes(tensor))
    return total.hexdigest()


def _sample_digest(loader: BatchLoader) -> str:
    """Return the SHA-256 of some images of each kind: other data, another digest."""
    total = hashlib.sha256()
    for store in loader.stores:
        if store is None:
            continue
        rows = np.linspace(0, len(store) - 1, min(len(store), _SAMPLED_IMAGES)).astype(np.int64)
        total.update(_bytes(store.get(torch.from_numpy(rows).to(store.device))))
    return total.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _views(loader: BatchLoader) -> dict[str, Any]:
    recipes = loader.views.recipes[: loader.views.num_large]
    return {
        "recipes": [dataclasses.asdict(recipe) for recipe in recipes],
        "mean": loader.views.mean,
        "std": loader.views.std,
    }

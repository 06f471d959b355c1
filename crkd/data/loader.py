"""Loader of training batches: a pure function of the seed and the step number.

No state is carried from step to step, so a resumed run sees exactly the batches of an
uninterrupted run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from crkd.core.batch_shard import shard_of
from crkd.core.errors import InputError
from crkd.core.types import Batch
from crkd.data.storage.choose import ImageStore
from crkd.data.views import Views

_UPLOAD_STEPS = 256
_DRAW_STEPS = 32
_DRAW_ROWS = 2**14
"""Number of steps, and of rows of one kind, whose view parameters are drawn at once.

Drawing takes hundreds of small operations for any number of rows. They depend on no weight, so
one draw serves many steps.
"""


_Rows = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""Images, sample numbers, epochs and view parameters of one kind of samples in one step."""


class Stream:
    """Endless shuffled epochs over ``size`` samples.

    Position ``p`` is in epoch ``p // size``, and each epoch is a new permutation. The stream
    continues over epoch boundaries, so all samples are used equally often.

    Args:
        size: number of samples.
        seed: seed of the run.
        key: distinguishes streams of one run.
    """

    def __init__(self, size: int, *, seed: int, key: int) -> None:
        self.size = size
        self._seed = seed
        self._key = key
        self._cached: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def _permutation(self, number: int) -> np.ndarray:
        if self._cached[0] != number:
            generator = np.random.default_rng([self._seed, self._key, number])
            self._cached = (number, generator.permutation(self.size).astype(np.int64))
        return self._cached[1]

    def take(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return samples and epochs of positions ``[start, start + count)``, int64."""
        positions = np.arange(start, start + count, dtype=np.int64)
        passes, offsets = np.divmod(positions, max(self.size, 1))
        index = np.empty(count, np.int64)
        for number in np.unique(passes):
            here = passes == number
            index[here] = self._permutation(int(number))[offsets[here]]
        return index, passes


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """Split ``total`` into whole numbers proportional to ``weights``, by largest remainder.

    >>> shares(512, [25000, 25000])
    [256, 256]
    >>> shares(10, [2, 1])
    [7, 3]
    >>> shares(8, [0, 5])
    [0, 8]
    """
    exact = [total * w / sum(weights) for w in weights]
    parts = [int(e) for e in exact]
    order = sorted(range(len(weights)), key=lambda i: parts[i] - exact[i])
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts


class BatchLoader:
    """Batches of fixed shape, labeled samples first.

    If several processes train together, each renders the views of its own rows of every batch.
    The views are those that one process would render.

    Args:
        labeled: images with labels, or None.
        labels: their class ids, ``(len(labeled),)`` int64.
        unlabeled: images without labels, or None.
        batch_size: samples of a batch, labeled and unlabeled together.
        labeled_share: fraction of labeled samples; None uses their fraction of all samples.
        views: the views of each image.
        view_epochs: number of epochs after which the views of an image repeat, in a new order of
            images; 0 always draws new ones.
        seed: seed of order and views.
        device: device of the batches.

    Raises:
        InputError: there is no image, or the batch is too small for both kinds.
    """

    def __init__(
        self,
        labeled: ImageStore | None,
        labels: np.ndarray,
        unlabeled: ImageStore | None,
        *,
        batch_size: int,
        views: Views,
        seed: int,
        device: torch.device,
        labeled_share: float | None = None,
        view_epochs: int = 0,
    ) -> None:
        self.stores = [labeled, unlabeled]
        sizes = [len(store) if store is not None else 0 for store in self.stores]
        if sum(sizes) == 0:
            raise InputError("there is no training image; check the split and the data folder")
        weights: list[float] = [float(s) for s in sizes]
        if labeled_share is not None:
            weights = [labeled_share, 1.0 - labeled_share]
        batch_size = min(batch_size, sum(sizes)) if labeled_share is None else batch_size
        self.counts = shares(batch_size, weights)
        for size, count, kind in zip(sizes, self.counts, ("labeled", "unlabeled"), strict=True):
            if (size > 0) != (count > 0) and labeled_share is None:
                raise InputError(
                    f"batch_size {batch_size} leaves no room for {kind} images "
                    f"({sizes[0]} labeled, {sizes[1]} unlabeled in all); raise it"
                )
            if size == 0 and count > 0:
                raise InputError(f"labeled_share {labeled_share} needs {kind} images; none given")
        self.shard = shard_of((self.counts[0], self.counts[1]))
        self.streams = [Stream(s, seed=seed, key=key) for key, s in enumerate(sizes)]
        self.offsets = [0, sizes[0]]
        self.views = views
        self.view_epochs = view_epochs
        self.seed = seed
        self.device = device
        self.steps_per_epoch = max(1, round(sum(sizes) / sum(self.counts)))
        self._labels = torch.tensor(np.asarray(labels, np.int64), device=device)

    def batches(self, start: int, stop: int, *, rendered: bool = True) -> Iterator[Batch]:
        """Yield the batches of steps ``[start, stop)``.

        Args:
            start: first step.
            stop: step after the last one.
            rendered: False leaves the views to :meth:`render`, which may then be part of a
                captured or compiled step.
        """
        sources = [
            iter(self._images(kind, start, stop)) if self.counts[kind] else None
            for kind in range(2)
        ]
        for _ in range(start, stop):
            batch = self._batch([next(s) for s in sources if s is not None])
            yield self.render(batch) if rendered else batch

    def render(self, batch: Batch) -> Batch:
        """Return the batch with rendered views; a batch that has them is returned unchanged."""
        if batch.images is None:
            return batch
        views = self.views.render(
            batch.images,
            seed=self.seed,
            epoch=batch.shown(batch.view_epoch),
            image_id=batch.shown(batch.sample_id),
            drawn=batch.drawn,
        )
        return batch._replace(views=views, images=None, drawn=None)

    def _images(self, kind: int, start: int, stop: int) -> Iterator[_Rows]:
        """Yield (images, index, epochs, drawn) of one kind of samples for each step."""
        store = self.stores[kind]
        if store is None:
            return
        for_store, for_batch = itertools.tee(self._rows(kind, start, stop))
        own = slice(None) if self.shard is None else self.shard.bounds(kind)
        images = store.batches(index[own] for index, _ in for_store)
        while ahead := list(itertools.islice(for_batch, _UPLOAD_STEPS)):
            # One upload for many steps instead of one per step.
            placed = torch.from_numpy(np.asarray(ahead))
            if self.device.type == "cuda":
                placed = placed.pin_memory()
            placed = placed.to(self.device, non_blocking=True)
            stretch = max(1, min(_DRAW_STEPS, _DRAW_ROWS // self.counts[kind]))
            for steps in torch.split(placed, stretch):
                drawn = self._drawn(kind, steps[..., own], store.size)
                for (index, passes), parameters in zip(steps, drawn, strict=True):
                    yield next(images), index, passes, parameters

    def _drawn(self, kind: int, steps: Tensor, stored_size: int) -> Sequence[Tensor | None]:
        """Return the view parameters ``(b, F)`` of each of several steps ``(steps, 2, b)``."""
        index, passes = steps.unbind(1)
        drawn = self.views.draw(
            stored_size,
            seed=self.seed,
            epoch=passes.flatten(),
            image_id=index.flatten() + self.offsets[kind],
        )
        return [None] * len(steps) if drawn is None else drawn.view(*index.shape, -1).unbind()

    def _rows(self, kind: int, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield sample numbers of one kind and the epochs of their views for each step."""
        count = self.counts[kind]
        for step in range(start, stop):
            index, passes = self.streams[kind].take(step * count, count)
            yield index, passes % self.view_epochs if self.view_epochs else passes

    def _batch(self, parts: list[_Rows]) -> Batch:
        num_labeled = self.counts[0]
        kinds = [kind for kind in range(2) if self.counts[kind]]
        images, indices, passes, drawn = zip(*parts, strict=True)
        index = torch.cat([i + self.offsets[k] for k, i in zip(kinds, indices, strict=True)])
        labels = index.new_full((len(index),), -1)
        if num_labeled:
            labels[:num_labeled] = self._labels[indices[0]]
        return Batch(
            views=(),
            labels=labels,
            sample_id=index,
            view_epoch=torch.cat(passes),
            num_labeled=num_labeled,
            num_large=self.views.num_large,
            shard=self.shard,
            images=torch.cat(images),
            drawn=None if drawn[0] is None else torch.cat(drawn),
        )

    def sweep(self, epoch: int) -> Iterator[Batch]:
        """Yield every sample once, in the order of their numbers, with the views of ``epoch``.

        Batches hold only large views and no labels; their size varies.
        """
        large = replace(self.views, recipes=self.views.recipes[: self.views.num_large])
        for store, offset in zip(self.stores, self.offsets, strict=True):
            if store is None:
                continue
            rows = np.array_split(np.arange(len(store)), -(-len(store) // sum(self.counts)))
            for index, images in zip(rows, store.batches(rows), strict=True):
                ids = torch.from_numpy(index + offset).to(self.device)
                passes = torch.full_like(ids, epoch)
                views = large.render(images, seed=self.seed, epoch=passes, image_id=ids)
                yield Batch(views, torch.full_like(ids, -1), ids, passes, 0, large.num_large)

"""Run a network over a dataset and collect features and logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.data.augment.presets import evaluation_view
from crkd.data.augment.render import make_view
from crkd.data.storage.base import ImageStore, Rows
from crkd.models.network import Network
from crkd.training.precision import autocast

NetworkInput = Callable[[Tensor], Tensor]
"""Turns stored samples ``(b, ...)`` into the input of a network."""


@dataclass(frozen=True)
class Outputs:
    """Features and logits of N samples, in the order of their store.

    Attributes:
        features: ``(N, D)`` float32 backbone features. Those of many vectors stay in a file
            (:class:`~crkd.data.vectors.row_file.RowFile`).
        known_logits: ``(N, K)`` float32.
        novel_logits: ``(H, N, M)`` float32; H is 0 before discovery.
        vectors: ``(N, V)`` float32, the samples themselves where they are vectors and are needed;
            else None.
    """

    features: NDArray[np.float32]
    known_logits: NDArray[np.float32]
    novel_logits: NDArray[np.float32]
    vectors: NDArray[np.float32] | None = None

    @classmethod
    def joined(cls, parts: Sequence[Outputs]) -> Outputs:
        """Return the outputs of several batches as one."""
        vectors = [part.vectors for part in parts if part.vectors is not None]
        return cls(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.known_logits for part in parts]),
            np.concatenate([part.novel_logits for part in parts], axis=1),
            np.concatenate(vectors) if len(vectors) == len(parts) else None,
        )

    def rows(self, index: NDArray[np.generic]) -> Outputs:
        """Return the outputs of some samples, by position or mask."""
        return Outputs(
            self.features[index],
            self.known_logits[index],
            self.novel_logits[:, index],
            None if self.vectors is None else self.vectors[index],
        )

    @property
    def known(self) -> NDArray[np.int64]:
        """Return the best known class of each image, ``(N,)``; -1 if K is 0."""
        if self.known_logits.shape[1] == 0:
            return np.full(len(self.known_logits), -1, np.int64)
        best: NDArray[np.int64] = self.known_logits.argmax(-1)
        return best

    @property
    def novel(self) -> NDArray[np.int64]:
        """Return the best novel class of each head, ``(H, N)`` in [0, M)."""
        if 0 in self.novel_logits.shape:
            return np.zeros(self.novel_logits.shape[:2], np.int64)
        best: NDArray[np.int64] = self.novel_logits.argmax(-1)
        return best

    def joint_logits(
        self, head: int, rows: slice | NDArray[np.int64] = slice(None)
    ) -> NDArray[np.float32]:
        """Return the known logits followed by the novel logits of one head, ``(n, C)``.

        Args:
            head: of the novel classes.
            rows: the samples, by position; all by default.
        """
        return np.concatenate([self.known_logits[rows], self.novel_logits[head][rows]], axis=1)

    @property
    def joint(self) -> NDArray[np.int64]:
        """Return the best of all classes for each head, ``(H, N)`` in [0, C)."""
        heads = len(self.novel_logits)
        best = [self.joint_logits(head).argmax(-1) for head in range(heads)]
        return np.stack(best) if best else np.zeros((0, len(self.known_logits)), np.int64)

    def confidence(self, head: int | None) -> NDArray[np.float32]:
        """Return the largest softmax probability of each image, of one head or the known part."""
        logits = self.known_logits if head is None else self.joint_logits(head)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        largest: NDArray[np.float32] = (1.0 / shifted.sum(axis=1)).astype(np.float32)
        return largest


def whole_images(
    image_size: int, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> NetworkInput:
    """Return the preparation of stored images for evaluation: resized, normalized, not augmented.

    Args:
        image_size: side of the network's input in pixels.
        mean: of each channel, images scaled to [0, 1].
        std: of each channel, likewise.
    """
    recipe = evaluation_view(image_size)

    def prepare(pixels: Tensor) -> Tensor:
        ids = torch.arange(len(pixels), device=pixels.device)
        return make_view(pixels, recipe, seed=0, epoch=0, image_id=ids, view=0, mean=mean, std=std)

    return prepare


def forward_batches(
    network: Network,
    store: ImageStore,
    rows: Iterable[Rows],
    network_input: NetworkInput,
    *,
    precision: str = "float32",
) -> Iterator[Outputs]:
    """Yield the outputs of ``network``, in evaluation mode, on batch after batch of a store.

    Args:
        network: on the store's device.
        store: the samples.
        rows: positions of each batch in the store.
        network_input: prepares stored samples for the network.
        precision: of the network's computation, as ``loop.precision``.
    """
    for samples in store.batches(rows):
        yield forward_batch(network, samples, network_input, precision=precision)


def forward_batch(
    network: Network, samples: Tensor, network_input: NetworkInput, *, precision: str = "float32"
) -> Outputs:
    """Return the outputs of ``network``, in evaluation mode, on one batch of stored samples.

    Args:
        network: on the device of the samples; its mode is restored afterwards.
        samples: ``(b, ...)``, as a store gives them.
        network_input: prepares stored samples for the network.
        precision: as in :func:`forward_batches`.
    """
    training = network.training
    network.eval()
    try:
        with torch.inference_mode(), autocast(precision, samples.device):
            out = network([network_input(samples)])
    finally:
        network.train(training)
    features, known = _host(out.features[0]), _host(out.known_logits[0])
    novel = np.zeros((0, len(features), 0), known.dtype)
    if out.novel_logits is not None:
        novel = _host(out.novel_logits[0])
    return Outputs(features, known, novel)


def forward_store(
    network: Network,
    store: ImageStore,
    network_input: NetworkInput,
    *,
    batch_size: int = 500,
    precision: str = "float32",
) -> Outputs:
    """Return the outputs of ``network``, in evaluation mode, on all samples of a store.

    Args:
        network: on the store's device; its mode is restored afterwards.
        store: N samples, at least one.
        network_input: prepares stored samples for the network.
        batch_size: samples in a forward pass.
        precision: as in :func:`forward_batches`.
    """
    positions = np.arange(len(store))
    rows = [positions[start : start + batch_size] for start in range(0, len(store), batch_size)]
    return Outputs.joined(
        list(forward_batches(network, store, rows, network_input, precision=precision))
    )


def _host(values: Tensor) -> NDArray[np.float32]:
    """Return values as a float32 array; float64 stays as it is."""
    wide = values if values.dtype == torch.float64 else values.float()
    array: NDArray[np.float32] = wide.cpu().numpy()
    return array

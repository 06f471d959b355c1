"""What a network says of every image of a store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.config.schema import Config
from crkd.data.augment.presets import evaluation_view
from crkd.data.augment.render import make_view
from crkd.data.splits.partition import Subset
from crkd.data.storage.choose import ImageStore
from crkd.models.network import Network
from crkd.stages.run_data import RunData
from crkd.training.precision import autocast


@dataclass(frozen=True)
class Outputs:
    """A network's answers on N images, in the store's order.

    Attributes:
        features: ``(N, D)`` float32 backbone features.
        known_logits: ``(N, K)`` float32.
        novel_logits: ``(H, N, M)`` float32; H is 0 before discovery.
    """

    features: NDArray[np.float32]
    known_logits: NDArray[np.float32]
    novel_logits: NDArray[np.float32]

    @property
    def known(self) -> NDArray[np.int64]:
        """Return the best known class of each image, ``(N,)``."""
        best: NDArray[np.int64] = self.known_logits.argmax(-1)
        return best

    @property
    def novel(self) -> NDArray[np.int64]:
        """Return the best novel class of each head, ``(H, N)`` in [0, M)."""
        if 0 in self.novel_logits.shape:
            return np.zeros(self.novel_logits.shape[:2], np.int64)
        best: NDArray[np.int64] = self.novel_logits.argmax(-1)
        return best

    def joint_logits(self, head: int) -> NDArray[np.float32]:
        """Return known and novel logits of one head side by side, ``(N, C)``."""
        return np.concatenate([self.known_logits, self.novel_logits[head]], axis=1)

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


@torch.inference_mode()
def answer(
    network: Network,
    store: ImageStore,
    *,
    image_size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device,
    batch_size: int = 500,
    precision: str = "float32",
) -> Outputs:
    """Run ``network`` in evaluation mode over every image of ``store``.

    Images pass without augmentation. The network's mode is restored afterwards.
    """
    recipe = evaluation_view(image_size)
    training = network.training
    network.eval()
    parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = []
    bounds = [
        np.arange(i, min(i + batch_size, len(store))) for i in range(0, len(store), batch_size)
    ]
    for pixels in store.batches(bounds):
        ids = torch.arange(len(pixels), device=pixels.device)
        view = make_view(pixels, recipe, seed=0, epoch=0, image_id=ids, view=0, mean=mean, std=std)
        with autocast(precision, device):
            out = network([view])
        novel = None if out.novel_logits is None else out.novel_logits[0].float().cpu()
        parts.append((out.features[0].float().cpu(), out.known_logits[0].float().cpu(), novel))
    network.train(training)
    return _joined(parts)


def _joined(parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]) -> Outputs:
    features = torch.cat([p[0] for p in parts]).numpy()
    known = torch.cat([p[1] for p in parts]).numpy()
    if parts[0][2] is None:
        return Outputs(features, known, np.zeros((0, len(features), 0), np.float32))
    novel = torch.cat([p[2] for p in parts if p[2] is not None], dim=1).numpy()
    return Outputs(features, known, novel)


def forward_subset(
    network: Network, part: Subset, data: RunData, config: Config, device: torch.device
) -> Outputs:
    """Run ``network`` over a part of the run's data, which must not be empty."""
    store = data.store(part)
    assert store is not None
    return answer(
        network,
        store,
        image_size=data.image_size,
        mean=data.dataset.mean,
        std=data.dataset.std,
        device=device,
        batch_size=config.evaluation.batch_size,
        precision=config.loop.precision,
    )

"""Feature vectors in training: their store and their views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.data.storage.base import ImageStore, Rows


class FeatureStore(ImageStore):
    """Feature vectors instead of images.

    Args:
        vectors: ``(n, D)`` float32 on the device; not copied.
    """

    def __init__(self, vectors: Tensor) -> None:
        self.size = vectors.shape[1]
        self.device = vectors.device
        self._vectors = vectors

    def __len__(self) -> int:
        """Return n."""
        return len(self._vectors)

    def get(self, index: Tensor) -> Tensor:
        """Return ``(b, D)`` float32."""
        return self._vectors.index_select(0, index)

    def batches(self, order: Iterable[Rows]) -> Iterator[Tensor]:
        """Yield ``(b, D)`` float32 for each batch."""
        for rows in order:
            yield self.get(torch.from_numpy(rows).to(self.device))


@dataclass(frozen=True)
class VectorRecipe:
    """Random operations of a view of a feature vector.

    Attributes:
        mix: the vector moves towards one of its neighbors by a fraction drawn from [0, mix].
        noise: standard deviation of Gaussian noise, relative to that of each dimension.
        dropout: fraction of the dimensions that are set to their mean.

    Raises:
        InputError: a value is out of range.
    """

    mix: float = 0.9
    noise: float = 0.5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, value, high in (("mix", self.mix, 1.0), ("dropout", self.dropout, 0.99)):
            if not 0.0 <= value <= high:
                raise InputError(f"features.{name} is {value}; it must be in [0, {high:g}]")
        if not 0.0 <= self.noise < float("inf"):
            raise InputError(f"features.noise is {self.noise}; it must be at least 0")


class FeatureViews:
    """Views of feature vectors; those of a batch are a pure function of the seed and the batch.

    A feature vector cannot be cropped or rotated. Its views are instead a step towards a near
    neighbor (of the same class if labels are known), and noise.

    Args:
        vectors: ``(N, D)`` all training vectors, by sample number.
        neighbors: ``(N, n)`` int64, sample numbers of the neighbors of each vector.
        recipe: strengths of the operations.
        num_views: number of views of each vector.
    """

    def __init__(
        self, vectors: Tensor, neighbors: Tensor, recipe: VectorRecipe, num_views: int
    ) -> None:
        self.num_large = num_views
        self._vectors, self._neighbors, self._recipe = vectors, neighbors, recipe
        self._mean = vectors.mean(dim=0)
        overall = vectors.std(dim=0, correction=0)
        # If a dimension mainly separates the classes, noise of its overall spread would mix them.
        # Distances to neighbors are much smaller.
        near = vectors[neighbors].sub(vectors[:, None]).square().mean(dim=(0, 1)).sqrt()
        self._deviation = torch.minimum(overall, 3.0 * near)

    def draw(self, stored_size: int, *, seed: int, epoch: Tensor, image_id: Tensor) -> None:
        """Return None, because views of vectors are drawn while they are rendered."""

    def render(
        self,
        images: Tensor,
        *,
        seed: int,
        epoch: Tensor,
        image_id: Tensor,
        drawn: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return ``(B, D)`` views of ``(B, D)`` vectors, one after the other."""
        generator = torch.Generator(images.device)
        # No two batches of a run start with the same sample in the same epoch.
        start = [seed, int(epoch[0]), int(image_id[0])]
        generator.manual_seed(int(np.random.SeedSequence(start).generate_state(1)[0]))
        return tuple(self._view(images, image_id, generator) for _ in range(self.num_large))

    def _view(self, vectors: Tensor, image_id: Tensor, generator: torch.Generator) -> Tensor:
        recipe, device = self._recipe, vectors.device
        choices = self._neighbors[image_id]
        place = torch.randint(
            choices.shape[1], (len(vectors), 1), generator=generator, device=device
        )
        partner = self._vectors[choices.gather(1, place).squeeze(1)]
        share = recipe.mix * torch.rand(len(vectors), 1, generator=generator, device=device)
        view = torch.lerp(vectors, partner, share)
        noise = torch.randn(vectors.shape, generator=generator, device=device)
        view = view + recipe.noise * self._deviation * noise
        dropped = torch.rand(vectors.shape, generator=generator, device=device) < recipe.dropout
        return torch.where(dropped, self._mean, view)

"""The network of a discovery on frozen feature vectors: whitened spaces and linear heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from crkd.core.errors import InputError
from crkd.models.backbones.base import Backbone
from crkd.models.heads.clustering import ClusteringHeads
from crkd.models.heads.incremental import IncrementalHead
from crkd.models.network import Network


class LinearSpace(nn.Module):
    """A map from vectors to unit-length rows: optional square root, centering, projection.

    Args:
        root: whether entries are replaced by their signed square roots first.
        mean: ``(D,)``.
        projection: ``(D, k)``.
    """

    root: Tensor
    mean: Tensor
    projection: Tensor

    def __init__(self, root: Tensor, mean: Tensor, projection: Tensor) -> None:
        super().__init__()
        self.register_buffer("root", root.to(torch.bool))
        self.register_buffer("mean", mean)
        self.register_buffer("projection", projection.contiguous())

    def forward(self, vectors: Tensor) -> Tensor:
        """Return ``(B, k)`` rows of ``(B, D)`` vectors."""
        rooted = torch.where(self.root, vectors.sign() * vectors.abs().sqrt(), vectors)
        return nn.functional.normalize((rooted - self.mean) @ self.projection, dim=-1)


class VectorSpaces(Backbone):
    """Maps vectors into the spaces of all heads; the rows of the spaces are concatenated.

    Args:
        spaces: the space whitened by the known classes first.
    """

    def __init__(self, spaces: Sequence[LinearSpace]) -> None:
        super().__init__()
        self.spaces = nn.ModuleList(spaces)
        self.num_features = sum(space.projection.shape[1] for space in spaces)
        self.map_channels = ()
        self.num_inputs = len(spaces[0].mean)

    def forward(self, images: Tensor) -> Tensor:
        """Return the ``(B, D')`` rows of ``(B, D)`` vectors in all spaces.

        Raises:
            InputError: samples are not vectors of length D.
        """
        if images.shape[1:] != (self.num_inputs,):
            raise InputError(
                f"samples have shape {tuple(images.shape[1:])}, but the network takes vectors of "
                f"length {self.num_inputs}; embed the samples with the backbone of the run"
            )
        vectors = images.to(self.spaces[0].mean.dtype)  # type: ignore[arg-type]
        return torch.cat([space(vectors) for space in self.spaces], dim=-1)

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Raise: vectors have no feature maps.

        Raises:
            InputError: always.
        """
        raise InputError("vectors have no feature maps; choose a loss that needs none")

    def blocks(self) -> list[nn.Module]:
        """Return none: nothing is trained."""
        return []


class EmbeddedSpaces(Backbone):
    """A pretrained network followed by the spaces: images to the features of a vector network.

    Args:
        body: normalized images ``(B, 3, S, S)`` to vectors ``(B, D)``.
        spaces: of the vectors.
    """

    def __init__(self, body: nn.Module, spaces: VectorSpaces) -> None:
        super().__init__()
        self.body, self.spaces = body, spaces
        self.num_features, self.map_channels = spaces.num_features, ()

    def forward(self, images: Tensor) -> Tensor:
        """Return the ``(B, D')`` features of ``(B, 3, S, S)`` images."""
        features: Tensor = self.spaces(self.body(images))
        return features

    def forward_with_maps(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Raise, as :meth:`VectorSpaces.forward_with_maps`."""
        return self.spaces.forward_with_maps(images)

    def blocks(self) -> list[nn.Module]:
        """Return none: nothing is trained."""
        return []


class GroupHead(nn.Module):
    """Logits of one group of classes: the group's score, and differences by its own head.

    The best class of the group has the score of the group, which compares across groups. The other
    classes follow at the distance that the group's own head gives them.

    Args:
        density: weights ``(k, C)`` of the scores in the first space.
        density_bias: ``(C,)``.
        weights: ``(k', C)`` of the group's head in its own space.
        biases: ``(C,)``.
        start: column of the features at which the head's space begins.
    """

    density: Tensor
    density_bias: Tensor
    weights: Tensor
    biases: Tensor

    def __init__(
        self, density: Tensor, density_bias: Tensor, weights: Tensor, biases: Tensor, start: int
    ) -> None:
        super().__init__()
        # As they are after loading: products of another layout may be rounded in another way.
        self.register_buffer("density", density.contiguous())
        self.register_buffer("density_bias", density_bias)
        self.register_buffer("weights", weights.contiguous())
        self.register_buffer("biases", biases)
        self.start = start

    def own_logits(self, features: Tensor) -> Tensor:
        """Return ``(B, C)`` logits of the group's head alone."""
        own = features[:, self.start : self.start + len(self.weights)]
        return own @ self.weights + self.biases

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, C)`` logits that compare across groups, of ``(B, D')`` features."""
        own = self.own_logits(features)
        if not len(self.biases):
            # The group of the known classes is empty if no class is known.
            return own
        scores = features[:, : len(self.density)] @ self.density + self.density_bias
        return scores.amax(dim=-1, keepdim=True) + own - own.amax(dim=-1, keepdim=True)


class NovelGroup(ClusteringHeads):
    """The last group of classes in the interface of novel heads, with H = 1.

    Args:
        group: of the novel classes.
    """

    num_heads = 1

    def __init__(self, group: GroupHead) -> None:
        super().__init__()
        self.group = group

    def single(self, head: int) -> NovelGroup:
        """Return the head itself: there is only one."""
        del head
        return self

    def projections(self, features: Tensor) -> Tensor:
        """Return the features as ``(1, B, D')``: the heads are linear."""
        return features.unsqueeze(0)

    def cosine_logits(self, directions: Tensor) -> Tensor:
        """Return ``(1, B, M)`` logits of :meth:`projections`."""
        logits: Tensor = self.group(directions[0])
        return logits.unsqueeze(0)


def vector_network(tensors: Mapping[str, Tensor]) -> Network:
    """Return the network that the tensors of a vector discovery describe.

    Args:
        tensors: ``spaces.S.{root,mean,projection}`` and
            ``groups.G.{space,density,density_bias,weights,biases}``, numbered from 0; others are
            ignored. The last of several groups holds the novel classes.

    Raises:
        InputError: a tensor is missing or does not fit the others.
    """
    try:
        spaces = [
            LinearSpace(*(tensors[f"spaces.{s}.{name}"] for name in ("root", "mean", "projection")))
            for s in range(_count(tensors, "spaces"))
        ]
        widths = [space.projection.shape[1] for space in spaces]
        groups = [
            _group_head(tensors, f"groups.{g}", widths) for g in range(_count(tensors, "groups"))
        ]
        body = VectorSpaces(spaces)
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"the tensors of the model are incomplete ({error}); restore it") from None
    first, later = groups[0], [NovelGroup(group) for group in groups[1:]]
    known: nn.Module = first if len(later) < 2 else IncrementalHead(first, later[:-1])
    network = Network(body, known, later[-1] if later else None)
    return network.requires_grad_(False).eval()


def _group_head(tensors: Mapping[str, Tensor], name: str, widths: Sequence[int]) -> GroupHead:
    density, bias, weights, biases = (
        tensors[f"{name}.{part}"] for part in ("density", "density_bias", "weights", "biases")
    )
    space = int(tensors[f"{name}.space"])
    sound = (
        0 <= space < len(widths)
        and density.shape == (widths[0], len(bias))
        and weights.shape == (widths[space], len(bias))
        and biases.shape == bias.shape
    )
    if not sound:
        raise ValueError(f"{name} does not fit its space")
    return GroupHead(density, bias, weights, biases, sum(widths[:space]))


def _count(tensors: Mapping[str, Tensor], kind: str) -> int:
    numbers = {int(name.split(".")[1]) for name in tensors if name.startswith(f"{kind}.")}
    if not numbers or numbers != set(range(len(numbers))):
        raise ValueError(f"{kind} are not numbered from 0")
    return len(numbers)

"""Feature replay: features of old classes, drawn from class statistics instead of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from crkd.clustering.low_rank_gaussians import ClassStatistics
from crkd.core.errors import InputError
from crkd.core.philox import philox
from crkd.runs.atomic_files import load_tensors, save_tensors

FILE = "replay.safetensors"


class FeatureReplay(nn.Module):
    """Draws features of known classes without images, each class equally often.

    The draws are a function of the seed and of the number of earlier draws, which is saved with
    the weights: a resumed run draws what an uninterrupted one would have drawn.

    Args:
        statistics: of the K known classes.
        count: R, features drawn a step.
        seed: of the draws.
        classes: ids of the classes to draw; None draws all.
    """

    classes: Tensor
    drawn: Tensor
    """Number of draws so far, a scalar int64 that stays on the device."""

    def __init__(
        self,
        statistics: ClassStatistics,
        count: int,
        *,
        seed: int,
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        drawn = range(statistics.num_classes) if classes is None else classes
        self.register_buffer("classes", torch.tensor(list(drawn)))
        for name, tensor in statistics.tensors().items():
            self.register_buffer(name, tensor.clone())
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))
        self.count, self.seed = count, seed

    @property
    def statistics(self) -> ClassStatistics:
        """The statistics on the module's device."""
        return ClassStatistics(**{n: self.get_buffer(n) for n in ("means", "factors", "residual")})

    @torch.no_grad()
    def forward(self) -> tuple[Tensor, Tensor]:
        """Return ``(R, D)`` float32 features and their ``(R,)`` int64 classes."""
        statistics = self.statistics
        rows = torch.arange(self.count, device=self.drawn.device)
        classes = self.classes[(rows + self.drawn * self.count) % len(self.classes)]
        normals = _normals(rows, self.drawn, statistics.num_draws, self.seed)
        self.drawn += 1
        return statistics.sample(classes, normals), classes


def _normals(rows: Tensor, turn: Tensor, count: int, seed: int) -> Tensor:
    """Return ``(R, count)`` standard normal numbers by the method of Box and Muller."""
    columns = torch.arange(-(-count // 4), device=rows.device)
    zero = torch.zeros_like(columns)
    words = philox((columns, rows[:, None], turn + zero, zero), seed).float()
    uniform = (words + 0.5) / 2**32
    radius = (-2.0 * uniform[::2].clamp(max=1 - 2**-24).log()).sqrt()
    angle = 2.0 * math.pi * uniform[1::2]
    pairs = torch.cat([radius * angle.cos(), radius * angle.sin()])
    return pairs.movedim(0, -1).flatten(1)[:, :count]


def classified(joint_logits: Tensor, classes: Tensor) -> Tensor:
    """Return each head's mean cross-entropy ``(H,)``.

    Args:
        joint_logits: ``(H, R, C)``, the known classes first.
        classes: ``(R,)`` int64 in ``[0, K)``.
    """
    wanted = classes.expand(joint_logits.shape[:2]).unsqueeze(-1)
    return -joint_logits.float().log_softmax(dim=-1).gather(-1, wanted).mean(dim=(1, 2))


def replayed_samples(
    wanted: int | None, *, unlabeled: int, num_without_images: int, num_classes: int
) -> int:
    """Return how many features a step draws.

    Args:
        wanted: the configured number; None takes as many a class as a class has unlabeled images in
            a step, but at most four times the images: the heads alone see them, yet they cost.
        unlabeled: images of a step.
        num_without_images: known classes without images.
        num_classes: classes that unlabeled images may be of.
    """
    if wanted is not None:
        return wanted
    return min(max(1, round(unlabeled * num_without_images / num_classes)), 4 * unlabeled)


def save_replay(folder: Path, statistics: ClassStatistics) -> None:
    """Write the statistics into a run folder."""
    save_tensors(folder / FILE, statistics.tensors(), {"classes": statistics.num_classes})


def load_replay(folder: Path, num_classes: int) -> ClassStatistics:
    """Read the statistics of a run's classes.

    Raises:
        InputError: the run keeps none, or they are damaged or of other classes.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(
            f"{folder} keeps no statistics of its classes, so that they could not be remembered "
            "without their images; give --known DIR, or train it again"
        )
    tensors = load_tensors(path)[0]
    sound = (
        tensors.keys() == {"means", "factors", "residual"}
        and tensors["means"].ndim == 2
        and len(tensors["means"]) == num_classes
        and tensors["factors"].shape[:2] == tensors["means"].shape == tensors["residual"].shape
        and all(t.dtype == torch.float32 for t in tensors.values())
    )
    if not sound:
        raise InputError(f"{path} does not hold the run's {num_classes} classes; restore it")
    return ClassStatistics(**tensors)

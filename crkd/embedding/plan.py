"""Plan of an embedding: backbone and form, chosen once and unchanged until the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

import crkd
from crkd.core.errors import InputError
from crkd.data.encoded.listing import Listing
from crkd.data.sources.base import UnreadableImageError
from crkd.data.vectors.embedding_file import EmbeddingInfo
from crkd.embedding.pipeline import pixels_of
from crkd.models.pretrained.base import Preprocessing, PretrainedBackbone
from crkd.models.pretrained.choose_form import AUTO, choose_form
from crkd.models.pretrained.embedder import RUNTIMES, Embedder, Form, Pixels
from crkd.models.pretrained.open import DEFAULT, open_pretrained
from crkd.runs.atomic_files import read_json, write_json

PLAN: Final = "plan.json"
TRIAL_IMAGES: Final = 2000
"""Images from which on the time for trying several forms is worth it."""


@dataclass(frozen=True)
class EmbedSettings:
    """Settings of an embedding.

    Attributes:
        backbone: name of a pretrained backbone; None takes that of the output file, or lite0.
        weights: weight file for a timm model.
        image_size: side of the input in pixels; None takes that of the output file, or of the
            backbone.
        runtime: "auto", "torch", "torch-bf16" or "onnx".
        device: "cpu" or "cuda".
        download: fetch weights that are not on this machine.
        workers: number of threads; None is one for each processor.
    """

    backbone: str | None = None
    weights: Path | None = None
    image_size: int | None = None
    runtime: str = AUTO
    device: str = "cpu"
    download: bool = False
    workers: int | None = None


def check_settings(settings: EmbedSettings) -> None:
    """Refuse values that no embedding can have.

    Raises:
        InputError: the runtime is unknown, or there are no workers.
    """
    if settings.runtime not in (AUTO, *RUNTIMES):
        raise InputError(
            f"--runtime {settings.runtime!r} is unknown; use auto, {', '.join(RUNTIMES)}"
        )
    if settings.workers is not None and settings.workers < 1:
        raise InputError(f"--workers {settings.workers} is below 1; leave it out")


def open_backbone(settings: EmbedSettings, before: EmbeddingInfo | None) -> PretrainedBackbone:
    """Return the backbone of the settings, or that of an earlier call.

    Args:
        settings: of this call.
        before: how the vectors that are there were made.

    Raises:
        InputError: the backbone cannot be opened, or differs from that of the earlier call.
    """
    size = settings.image_size
    if before is not None and size is None:
        size = Preprocessing.from_plain(before.preprocessing).image_size
    backbone = open_pretrained(
        settings.backbone or (before.backbone if before else DEFAULT),
        weights=settings.weights,
        image_size=size,
        download=settings.download,
    )
    if before is not None:
        _check_same(backbone, settings, before)
    return backbone


def reopen(info: EmbeddingInfo, *, weights: Path | None = None, download: bool = False) -> Embedder:
    """Return what computed the vectors of a file, for further images.

    Args:
        info: how the vectors were made.
        weights: weight file for a timm model whose weights are not in the hub's cache.
        download: fetch weights that are not on this machine.

    Raises:
        InputError: the backbone cannot be opened or has changed, or its form cannot be used here.
    """
    settings = EmbedSettings(weights=weights, download=download)
    return Embedder(open_backbone(settings, info), Form.from_plain(info.form))


def _check_same(
    backbone: PretrainedBackbone, settings: EmbedSettings, before: EmbeddingInfo
) -> None:
    remedy = "name another --out, or delete that file and its folder .parts"
    if backbone.weights_sha256 != before.weights_sha256:
        raise InputError(
            f"--backbone {backbone.name!r} has the weights {backbone.weights_sha256[:12]}, and the "
            f"vectors in --out are of {before.backbone!r} with the weights "
            f"{before.weights_sha256[:12]}; {remedy}"
        )
    if backbone.preprocessing.plain() != before.preprocessing:
        raise InputError(
            f"--image-size {backbone.preprocessing.image_size} or other preprocessing differs from "
            f"that of the vectors in --out ({before.preprocessing}); {remedy}"
        )
    if settings.runtime not in (AUTO, before.form["runtime"]):
        raise InputError(
            f"--runtime {settings.runtime} differs from that of the vectors in --out, "
            f"{before.form['runtime']}; leave --runtime out, or {remedy}"
        )


def settle(
    backbone: PretrainedBackbone,
    settings: EmbedSettings,
    before: EmbeddingInfo | None,
    listing: Listing,
    log: Callable[[str], None],
) -> tuple[EmbeddingInfo, Embedder]:
    """Return how the vectors are made; the form of an earlier call is kept.

    Args:
        backbone: as :func:`open_backbone` returns it.
        settings: of this call.
        before: how the vectors that are there were made.
        listing: the images, for the trial.
        log: receives what the trial measured.

    Raises:
        InputError: the form cannot be used on this machine.
    """
    if before is not None:
        embedder = Embedder(backbone, Form.from_plain(before.form))
    else:
        chosen = choose_form(
            backbone,
            _samples(listing, backbone.preprocessing),
            runtime=settings.runtime,
            device=settings.device,
            trial=len(listing) >= TRIAL_IMAGES,
        )
        embedder = chosen.embedder
        if chosen.rates:
            rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in chosen.rates.items())
            log(f"trial, images/s of one processor: {rates}")
    info = EmbeddingInfo(
        crkd=crkd.__version__,
        backbone=backbone.name,
        weights_sha256=backbone.weights_sha256,
        num_features=backbone.num_features,
        preprocessing=backbone.preprocessing.plain(),
        form=embedder.form.plain(),
    )
    return info, embedder


def _samples(listing: Listing, preprocessing: Preprocessing) -> Pixels:
    """Return some images of the job; noise where the first ones cannot be read."""
    wanted = 16
    images: list[Pixels] = []
    for row in range(min(len(listing), 4 * wanted)):
        try:
            images.append(pixels_of(listing.read(row), listing.image_id(row), preprocessing))
        except UnreadableImageError:
            continue
        if len(images) == wanted:
            break
    while len(images) < wanted:
        side = preprocessing.image_size
        noise = np.random.default_rng(len(images)).integers(0, 256, (side, side, 3), np.uint8)
        images.append(noise)
    return np.stack(images)


def write_plan(folder: Path, info: EmbeddingInfo) -> None:
    """Keep how the vectors of unfinished parts are made."""
    write_json(folder / PLAN, asdict(replace(info, roots=(), skipped=0)))


def read_plan(folder: Path) -> EmbeddingInfo | None:
    """Return how the vectors of unfinished parts are made; None where there are none.

    Raises:
        InputError: the plan is damaged.
    """
    path = folder / PLAN
    if not path.is_file():
        return None
    values = read_json(path)
    return EmbeddingInfo.from_plain(values if isinstance(values, dict) else {}, path)

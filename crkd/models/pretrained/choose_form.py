"""The fastest form of a backbone on this machine, found by a short timed trial."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from crkd.core.device import computes_in_bfloat16
from crkd.core.errors import InputError
from crkd.models.pretrained.base import PretrainedBackbone
from crkd.models.pretrained.embedder import (
    BATCH_SIZE,
    GPU_BATCH_SIZE,
    Embedder,
    Form,
    Pixels,
    check_runtime,
    one_thread_each,
)

AUTO: Final = "auto"
TRIAL_SECONDS: Final = 0.3
"""Processor time for one form; at least two batches are timed."""


@dataclass(frozen=True)
class Chosen:
    """A form, and what the trial measured.

    Attributes:
        embedder: the backbone in the chosen form.
        rates: images for each second of one processor, by runtime; empty without a trial.
        refused: why a runtime could not be tried.
    """

    embedder: Embedder
    rates: dict[str, float]
    refused: dict[str, str]


def choose_form(
    backbone: PretrainedBackbone,
    pixels: Pixels,
    *,
    runtime: str = AUTO,
    device: str = "cpu",
    trial: bool = True,
) -> Chosen:
    """Return a backbone in the form that is fastest here, or in the form that is asked for.

    The time of the processor is compared, so that other work on the machine does not decide.

    Args:
        backbone: the network or ONNX file.
        pixels: ``(b, S, S, 3)`` uint8 images of the job, b at least 1.
        runtime: "auto", or one of ``RUNTIMES``.
        device: "cpu" or "cuda", where a network of torch computes.
        trial: False takes the form that is usually fastest, without measuring.

    Raises:
        InputError: the runtime is unknown, or the backbone cannot be used in it.
    """
    if runtime != AUTO:
        check_runtime(backbone, runtime)
        return Chosen(_independent(backbone, runtime, pixels, device), {}, {})
    candidates = _candidates(backbone, device)
    if len(candidates) == 1 or not trial:
        return Chosen(_independent(backbone, candidates[0], pixels, device), {}, {})
    rates: dict[str, float] = {}
    refused: dict[str, str] = {}
    embedders: dict[str, Embedder] = {}
    for candidate in candidates:
        try:
            embedders[candidate] = _independent(backbone, candidate, pixels, device)
            rates[candidate] = _rate(embedders[candidate], pixels)
        except InputError as error:
            refused[candidate] = str(error)
    if not rates:
        raise InputError("; ".join(refused.values()))
    best = max(rates, key=lambda name: rates[name])
    return Chosen(embedders[best], rates, refused)


def _candidates(backbone: PretrainedBackbone, device: str) -> list[str]:
    """Return the runtimes that may be fastest, the most likely first."""
    if backbone.network is None:
        return ["onnx"]
    if device == "cuda":
        return ["torch-bf16", "torch"]
    found = ["torch-bf16"] if computes_in_bfloat16(torch.device("cpu")) else []
    found.append("torch")
    if all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx")):
        found.append("onnx")
    return found


def _independent(
    backbone: PretrainedBackbone, runtime: str, pixels: Pixels, device: str
) -> Embedder:
    """Return an embedder whose vectors do not depend on the place of an image in its batch."""
    fixed = _fixed_batch(backbone)
    size = fixed or (GPU_BATCH_SIZE if device == "cuda" else BATCH_SIZE)
    with one_thread_each():
        embedder = Embedder(backbone, Form(runtime, size, device))
        # A full batch, so that every place is tried, also with few images.
        batch = pixels[np.arange(size) % len(pixels)]
        turned = embedder(batch[::-1])[::-1]
        same = bool((embedder(batch) == turned).all())
        return embedder if same or size == 1 else Embedder(backbone, Form(runtime, 1, device))


def _fixed_batch(backbone: PretrainedBackbone) -> int | None:
    """Return the size of batch that an ONNX file was made for; None where it takes any."""
    if backbone.onnx is None:
        return None
    from crkd.models.pretrained.onnx_file import onnx_session

    size = onnx_session(backbone.onnx, backbone.name).get_inputs()[0].shape[0]
    return size if isinstance(size, int) and size > 0 else None


def _rate(embedder: Embedder, pixels: Pixels) -> float:
    """Return images for each second of processor time, from the fastest batch."""
    size, best, spent, rounds = embedder.form.batch_size, float("inf"), 0.0, 0
    # On a GPU the thread waits, which costs no time of the processor.
    clock = time.monotonic if embedder.form.device == "cuda" else time.thread_time
    with one_thread_each():
        while rounds < 2 or (spent < TRIAL_SECONDS and rounds < 10):
            began = clock()
            embedder(pixels[:size])
            seconds = clock() - began
            best, spent, rounds = min(best, seconds), spent + seconds, rounds + 1
    return min(size, len(pixels)) / max(best, 1e-9)

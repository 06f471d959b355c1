"""Small, fast runs on the embedded digits."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import torch

from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import ImageSource
from crkd.losses.term import TERMS
from crkd.stages import incremental, run_data
from crkd.training import loop

SMALL = (
    "model.hidden=16",
    "model.projection=8",
    "model.num_heads=2",
    "pretrain.epochs=1",
    "pretrain.num_views=1",
    "discover.epochs=1",
    "evaluation.kmeans_restarts=1",
    "loop.log_every=2",
)


def small_config(*settings: str, **flags: object) -> Config:
    return load_config("digits", [*SMALL, *settings], flags)


def thin_data_sets(patch: pytest.MonkeyPatch) -> None:
    """Keep every fourth image of a data set, after the split was checked against all of them.

    A quarter of the images in batches of a quarter makes as many steps for a fraction of the time.
    """
    honest = run_data.partition

    def thinned(dataset, split, **options):  # type: ignore[no-untyped-def]
        train, test = _every_fourth(dataset.train), _every_fourth(dataset.test)
        return honest(dataclasses.replace(dataset, train=train, test=test), split, **options)

    for module in (run_data, incremental):
        patch.setattr(module, "partition", thinned)


def _every_fourth(source: ImageSource | None) -> ArraySource | None:
    if source is None:
        return None
    kept = range(0, len(source), 4)
    images, ids = np.stack([source.read(n) for n in kept]), [source.ids[n] for n in kept]
    return ArraySource(images, source.labels[::4], source.class_names, ids=ids)


def with_term(stage: str, name: str, **more: object) -> tuple[str, ...]:
    """Return the settings by which a stage trains with one term alone."""
    needs = TERMS.get(name).needs
    entry = {"name": name, **more}
    if stage == "discover" and "labels" in needs:
        entry["options"] = {"on": "pseudo"}
    key = "method" if stage == "distill" else "distillation"
    settings = [f"{stage}.{key}={json.dumps([entry])}"]
    if "stored_views" in needs:
        settings.append(f"{stage}.stored_epochs=1")
    return tuple(settings)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def interrupt_at(
    step: int, monkeypatch: pytest.MonkeyPatch, number_of_signal: int = signal.SIGTERM
) -> None:
    """Send this process a signal while it works on ``step``."""
    honest = loop.Loop.step

    def interrupted(self, batch, number):  # type: ignore[no-untyped-def]
        if number == step:
            os.kill(os.getpid(), number_of_signal)
        honest(self, batch, number)

    monkeypatch.setattr(loop.Loop, "step", interrupted)


def scramble_hidden_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Permute the labels of the novel images, after the split was checked against the data."""
    honest = run_data.partition

    def scrambled(dataset, split, **options):  # type: ignore[no-untyped-def]
        sources = []
        for source in (dataset.train, dataset.test):
            labels = source.labels.copy()
            novel = np.isin(labels, split.novel)
            labels[novel] = np.random.default_rng(7).permutation(labels[novel])
            changed = object.__new__(type(source))
            changed.__dict__.update(source.__dict__)
            changed.labels = labels
            sources.append(changed)
        return honest(
            dataclasses.replace(dataset, train=sources[0], test=sources[1]), split, **options
        )

    monkeypatch.setattr(run_data, "partition", scrambled)

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
from crkd.data.splits.partition import HiddenLabels
from crkd.losses.term import TERMS
from crkd.stages import incremental, run_data
from crkd.training import loop

SMALL = (
    "data.image_size=8",
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
        hidden = None if dataset.hidden is None else dataset.hidden[::4]
        fewer = dataclasses.replace(dataset, train=train, test=test, hidden=hidden)
        return honest(fewer, split, **options)

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
    """Draw new labels for all unlabeled images, after the split was checked against the data.

    They are drawn from the old ones with replacement, so that class sizes change too. Of the test
    images, those of novel classes get new labels.
    """
    honest = run_data.partition

    def scrambled(dataset, split, **options):  # type: ignore[no-untyped-def]
        parts = honest(dataset, split, **options)
        hidden = {"unlabeled": parts.hidden.unlabeled(), "test": parts.hidden.test()}
        rows = {
            "unlabeled": np.arange(len(parts.unlabeled)),
            "test": np.flatnonzero(hidden["test"] >= len(split.known)),
        }
        changed = {}
        for name, chosen in rows.items():
            drawn, subset = (
                np.random.default_rng(7).choice(chosen, len(chosen)),
                getattr(parts, name),
            )
            hidden[name][chosen] = hidden[name][drawn]
            source = object.__new__(type(subset.source))
            source.__dict__.update(subset.source.__dict__)
            source.labels = subset.source.labels.copy()
            source.labels[subset.indices[chosen]] = subset.source.labels[subset.indices[drawn]]
            changed[id(subset.source)] = source
        subsets = {
            name: dataclasses.replace(subset, source=changed.get(id(subset.source), subset.source))
            for name in ("known_train", "known_val", "unlabeled", "test")
            for subset in [getattr(parts, name)]
        }
        return dataclasses.replace(parts, hidden=HiddenLabels(**hidden), **subsets)

    monkeypatch.setattr(run_data, "partition", scrambled)

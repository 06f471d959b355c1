"""Priors of the assignment where the novel classes are a long tail, three seeds each.

The digits with 5 known classes, pixels as vectors; the novel training vectors are thinned so that
the largest class has ten times the vectors of the smallest. Told is the accuracy on the novel test
images, which are even, task-aware: every class counts the same, and a cluster stands for the class
to which it was matched on those images, as ``metrics.json`` says it. Sizes of classes are told to
the prior ``given`` alone, which is an upper bound. A finished run is a line of a file beside the
output.
"""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.campaign import finished
from benchmarks.rows import row
from crkd.config.load import load_config
from crkd.evaluation.matching import contingency, match
from crkd.models.backbones.features import FeatureBackbone
from crkd.stages.arrays.training import stage1, stage2
from crkd.stages.arrays.vectors import forward_vectors, lengthened, material_of_vectors
from crkd.stages.pretrain.run import architecture_of
from crkd.stages.run_data import prepare

SEEDS = (0, 1, 2)
RATIO = 10
PRIORS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "estimated": {"prior": "estimated"},
    "relaxed": {"relaxation": 0.1},
    "estimated and relaxed": {"prior": "estimated", "relaxation": 0.1},
    "given": {"prior": "given"},
}


class Run(NamedTuple):
    """One discovery.

    Attributes:
        prior: a key of ``PRIORS``.
        seed: of everything drawn.
    """

    prior: str
    seed: int


def rows(out: Path, *, jobs: int = 1) -> list[dict[str, Any]]:
    """Return mean and spread of the class-balanced accuracy for every prior.

    Args:
        out: the result file; finished runs stand beside it in ``NAME.runs.jsonl``.
        jobs: processes, of one thread each.
    """
    wanted = [Run(prior, seed) for prior in PRIORS for seed in SEEDS]
    lines = finished(wanted, measure, out, jobs=jobs)
    made = []
    for prior in PRIORS:
        values = [line["accuracy"] for line in lines if line["run"]["prior"] == prior]
        told = row("long-tail", "%", prior, statistics.fmean(values), complete=False)
        made.append({**told, "spread": round(statistics.stdev(values), 2), "seeds": len(values)})
    return made


def measure(run: Run) -> dict[str, Any]:
    """Discover the tail and return the class-balanced accuracy on even test images, in percent."""
    device = torch.device("cpu")
    images = load_config("digits", [f"data.imbalance={RATIO}"], {"seed": run.seed})
    data = prepare(images, device)
    parts = data.subsets
    known, novel, test = (
        torch.from_numpy(data.pixels(part))
        for part in (parts.known_train, parts.novel_train, parts.test)
    )
    sizes = np.bincount(parts.hidden.novel_train())[data.num_known :]
    config = load_config(None, [], {"dataset": "features", "seed": run.seed, "device": "cpu"})
    given = {"prior_weights": tuple(sizes.tolist())} if run.prior == "given" else {}
    assignment = dataclasses.replace(config.discover.assignment, **PRIORS[run.prior], **given)
    discover = dataclasses.replace(config.discover, assignment=assignment)
    config = lengthened(dataclasses.replace(config, discover=discover), len(known), len(novel))
    material = material_of_vectors(known, parts.known_train.labels, novel, config)
    shape = architecture_of(config, data, num_known=data.num_known, num_novel=len(sizes))
    shape = dataclasses.replace(shape, image_size=known.shape[1])
    teacher = stage1(
        material, dataclasses.replace(shape, num_novel=0), config, device, lambda line: None
    )
    assert isinstance(teacher.backbone, FeatureBackbone)
    network, head = stage2(material, shape, teacher, config, device, lambda line: None)
    truth = parts.hidden.test() - data.num_known
    answers = forward_vectors(network, test).novel[head]
    kept = truth >= 0
    counts = contingency(answers[kept], truth[kept], len(sizes), len(sizes))
    class_of = match(counts)
    right = [counts[cluster, label] for cluster, label in enumerate(class_of) if label >= 0]
    total = counts.sum(axis=0)
    shares = [n / total[c] for n, c in zip(right, class_of[class_of >= 0], strict=True)]
    return {"accuracy": 100 * float(np.sum(shares) / len(sizes))}

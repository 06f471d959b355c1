"""The supervised upper bound: the same network trained with the novel labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from crkd.config.schema import Config
from crkd.core.device import pick_device
from crkd.core.errors import InputError
from crkd.data.splits.partition import partition
from crkd.runs.folder import RunFolder, RunInfo
from crkd.stages.forward import Outputs
from crkd.stages.pretrain.run import SupervisedTraining
from crkd.stages.results import Results
from crkd.stages.run_data import RunData, prepare
from crkd.training.session import begin_run, running

NOTE = "supervised upper bound: trained WITH the labels of the novel images"


def supervised_upper_bound(
    config: Config, out: str | Path, *, resume: bool = False, download: bool = False
) -> RunFolder:
    """Train the stage-1 network on the labels of all classes and score it like a discovery.

    The one place that trains on labels of novel images; the run says so.

    Args:
        config: the configuration of the run.
        out: the run folder.
        resume: continue the run in ``out`` from its saved state.
        download: fetch the data set if it is missing and can be fetched.

    Raises:
        InputError: the novel images carry no labels, or are to be thinned to a long tail.
    """
    if config.data.imbalance > 1:
        raise InputError(
            f"data.imbalance is {config.data.imbalance:g}, but the supervised upper bound trains "
            "on all images of all classes; leave it out"
        )
    device = pick_device(config.device)
    data = prepare(config, device, download=download)
    training = SupervisedTraining(config, _with_all_labels(config, data), device)
    # One head predicts all classes, and the run's label space says which of them are novel.
    architecture = dataclasses.replace(
        training.architecture,
        num_known=data.num_known,
        num_novel=len(data.split.novel),
        joint=True,
    )
    info = RunInfo(
        kind="baseline",
        dataset=config.dataset,
        split=data.split_entry(),
        classes=data.class_entries(len(data.split.novel)),
        preprocessing=data.preprocessing(),
        architecture=architecture.plain(),
        chosen_head=0,
        seed=config.seed,
        notes=[*data.notes, NOTE],
        baseline="supervised",
    )
    run = begin_run(out, info, config, device, resume=resume, samples=data.sample_digests())
    with running(run):
        seconds = training.train(run, resume=resume)
        outputs = {
            name: _divided(joint, data.num_known)
            for name, joint in data.evaluated_outputs(training.network).items()
        }
        results = Results(run, data, outputs, chosen_head=0)
        results.write_model(training.network.state_dict())
        results.write_predictions()
        results.complete(seconds)
    return run


def _with_all_labels(config: Config, data: RunData) -> RunData:
    if not data.split.novel:
        raise InputError(
            f"split {data.split.name!r} has no novel class with labels; the supervised upper bound "
            "needs labels of all classes"
        )
    known = dataclasses.replace(data.split, known=data.split.order, novel=())
    parts = partition(
        dataclasses.replace(data.dataset, hidden=None),
        known,
        validation_fraction=config.data.validation_fraction,
        seed=config.seed,
        subset=config.data.subset,
    )
    # Without test images, the run is evaluated on the held-out ones of the known classes.
    seen = np.isin(parts.known_train.indices, data.subsets.known_val.indices)
    parts = dataclasses.replace(parts, known_train=parts.known_train.at(np.flatnonzero(~seen)))
    return dataclasses.replace(data, split=known, subsets=parts, _stores={})


def _divided(outputs: Outputs, num_known: int) -> Outputs:
    """Return the logits of all classes as those of a known and of one novel head."""
    logits = outputs.known_logits
    return Outputs(outputs.features, logits[:, :num_known], np.asarray(logits[None, :, num_known:]))

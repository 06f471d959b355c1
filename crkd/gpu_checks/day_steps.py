"""Steps of the list of GPU measurements: each is a command of this program with a time limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from crkd.core.device import pick_device
from crkd.core.errors import InputError
from crkd.data.datasets.base import load_dataset

EXPERIMENTS: Final = (
    "cifar100-50-50-100",
    "cifar100-50-50-100-selfsup",
    "cifar100-50-50-100-swapped",
    "cifar100-80-20-100",
)
"""Experiments in the order in which they run; seed 0 of all of them comes first."""


@dataclass(frozen=True)
class Step:
    """One entry of the list.

    Attributes:
        name: unique in the list.
        arguments: arguments of ``crkd``, the command first.
        seconds: time limit of one attempt.
        result: file that the step writes, relative to the state folder.
        copied_as: name of that file among the results; "" stores its content in the state of the
            list, because a remote machine may return only a few files.
        resumable: whether the same command continues after an interruption.
        red_codes: exit codes of a step that finished and found a problem.
        needs_data: whether it waits until CIFAR-100 is available.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: float
    result: str
    copied_as: str
    resumable: bool = False
    red_codes: tuple[int, ...] = (1,)
    needs_data: bool = False


@dataclass(frozen=True)
class Place:
    """Folders, device and settings of the measurements.

    Attributes:
        state: folder that is kept between calls.
        out: folder of the small result files.
        device: "cuda", or "cpu" for a rehearsal.
        data_root: folder of the data sets, or None for the usual folders.
        settings: ``key=value`` strings that change every experiment.
    """

    state: Path
    out: Path
    device: str = "cuda"
    data_root: str | None = None
    settings: tuple[str, ...] = ()


def steps(place: Place, failed_checks: Sequence[str] = ()) -> list[Step]:
    """Return the list of steps.

    Args:
        place: folders, device and settings.
        failed_checks: names of failed GPU checks; training avoids the parts that they check.
    """
    measured = [
        replace(_bench(place, "machine", 60), copied_as=""),
        Step("checks", ("check-gpu", *_json(place, "checks")), 300, "checks.json", ""),
        _experiment(place, EXPERIMENTS[0], 1, failed_checks, smoke=True),
        _bench(place, "sinkhorn", 240),
        replace(_bench(place, "train", 300), needs_data=True),
        Step(
            "sanitizer",
            # No check has this name: the step "checks" has run them, and only the tools run here.
            ("check-gpu", "--only", "no check", "--sanitize", *_json(place, "sanitizer")),
            300,
            "sanitizer.json",
            "",
        ),
    ]
    experiments = [
        _experiment(place, experiment, seeds, failed_checks)
        for seeds in (1, 2, 3)
        for experiment in EXPERIMENTS
    ]
    return [*measured, *experiments, _bench(place, "sinkhorn-layouts", 400)]


def _json(place: Place, name: str) -> tuple[str, str]:
    return "--json", str(place.state / f"{name}.json")


def _bench(place: Place, part: str, seconds: float) -> Step:
    arguments = ("bench", part, "--device", place.device, *_json(place, part))
    return Step(part, arguments, seconds, f"{part}.json", f"{part}.json")


def _experiment(
    place: Place, experiment: str, seeds: int, failed_checks: Sequence[str], *, smoke: bool = False
) -> Step:
    folder = "smoke" if smoke else "experiments"
    settings = ["loop.checkpoint_every=1", "loop.loggers=[]", *avoided(failed_checks)]
    settings += place.settings
    if smoke:
        # One epoch each and the whole evaluation, so that an error in it appears early.
        settings += ["pretrain.epochs=1", "discover.epochs=1"]
    arguments = ["reproduce", experiment, "--seeds", str(seeds), "--out", str(place.state / folder)]
    arguments += ["--device", place.device]
    arguments += ["--data-root", place.data_root] if place.data_root else []
    for setting in settings:
        arguments += ["--set", setting]
    return Step(
        "smoke" if smoke else f"{experiment}, seed {seeds - 1}",
        tuple(arguments),
        180 if smoke else 3600,
        f"{folder}/{experiment}/result.json",
        "" if smoke else f"{experiment}.json",
        resumable=True,
        needs_data=True,
    )


def avoided(failed_checks: Iterable[str]) -> list[str]:
    """Return settings with which training avoids the parts whose checks failed.

    >>> avoided(["sinkhorn: parity with float64"])
    ['discover.assignment.backend=torch']
    """
    failed = list(failed_checks)
    found = []
    if any(name.startswith("sinkhorn:") for name in failed):
        found.append("discover.assignment.backend=torch")
    if any(name.startswith("training:") and "CUDA graph" in name for name in failed):
        found.append("loop.step=eager")
    return found


def check_place(place: Place) -> None:
    """Check that the list can start, before any folder is created.

    Raises:
        InputError: there is no such device, or the folder of the data sets does not exist.
    """
    pick_device(place.device)
    if place.data_root is not None and not Path(place.data_root).is_dir():
        raise InputError(
            f"--data-root {place.data_root} is not a folder; name the one that holds the data sets"
        )


def missing_data(place: Place) -> str | None:
    """Return the reason why CIFAR-100 cannot be used yet, or None if it can.

    A machine that receives its files in several transfers may have only some of them at first.
    """
    try:
        load_dataset("cifar100", place.data_root)
    except InputError as error:
        return str(error)
    return None

"""The runs of a sweep as commands, and the state of each in the sweep's folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from crkd.config.check import plain
from crkd.config.load import dump_config, load_config
from crkd.config.schema import Config
from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.evaluation.steps import parse_plan
from crkd.runs.atomic_files import read_json, write_json
from crkd.runs.comparison.reading import flat
from crkd.runs.folder import RunFolder
from crkd.runs.lock import locked
from crkd.stages.incremental import plan_splits
from crkd.stages.load_images import split_of
from crkd.stages.reproduce import stage1_folder
from crkd.stages.sweep.file import Configuration, Sweep
from crkd.training.checkpoint import differences

RECIPES: Final = "sweep.json"
"""Name of the file with the configuration of every run in the folder."""

State = Literal["open", "begun", "complete"]


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        name: its name in messages, and its log file.
        out: its folder.
        words: arguments of ``crkd`` but ``--out``, ``--device`` and ``--resume``.
        group: name of its configuration; None for a stage 1 that runs share.
        seed: its seed.
        needs: the shared stage 1 that must be complete before.
        is_plan: whether it is several discoveries one after another.
        restarts: whether an unfinished run begins again in an empty folder.
    """

    name: str
    out: Path
    words: tuple[str, ...]
    group: str | None
    seed: int
    needs: Job | None = None
    is_plan: bool = False
    restarts: bool = False

    @property
    def log(self) -> Path:
        """The file of its output."""
        folder = self.out.parent if self.group is None else self.out.parent.parent
        name = self.out.name if self.group is None else f"{self.out.parent.name}-{self.out.name}"
        return folder / "logs" / f"{name}.log"

    def state(self) -> State:
        """Return whether its folder is empty, holds a part of it, or is complete."""
        if self.is_plan:
            return _plan_state(self.out)
        if not (self.out / "run.json").is_file():
            return "open"
        return "complete" if RunFolder(self.out).read_info().status == "complete" else "begun"

    def seconds(self) -> float | None:
        """Return the time that the complete run took; None for an unfinished one."""
        if self.state() != "complete":
            return None
        if not self.is_plan:
            return _seconds_of(self.out)
        # Step 0 is a copy of the shared stage 1.
        return sum(_seconds_of(file.parent) for file in self.out.glob("step-[1-9]*/run.json"))

    def command(self, device: str) -> list[str]:
        """Return the arguments of ``crkd`` that begin or continue it."""
        if self.state() != "begun":
            return [*self.words, "--device", device, "--out", str(self.out)]
        words, begun = list(self.words), self.out / "config.yaml"
        if self.group is None and begun.is_file():
            # Another configuration with the same stage 1 may have begun it.
            words[words.index("--config") + 1] = str(begun)
        return [*words, "--device", device, "--out", str(self.out), "--resume"]

    def prepare(self) -> None:
        """Copy the shared stage 1 of a plan to its place, step 0; empty a folder to begin again."""
        if self.restarts and self.state() == "begun":
            # A folder in which another process still works is kept; the command then refuses it.
            with contextlib.suppress(InputError), locked(self.out, "--out"):
                shutil.rmtree(self.out)
        place = self.out / "step-0"
        if not self.is_plan or self.needs is None or place.is_dir():
            return
        unfinished = self.out / ".step-0.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(self.needs.out, unfinished)
        unfinished.rename(place)


def _seconds_of(folder: Path) -> float:
    """Return the time from the begin to the end of a complete run, without interruptions."""
    info = RunFolder(folder).read_info()
    if "resumed" in info.provenance or not info.started or info.finished is None:
        return info.seconds
    span = datetime.fromisoformat(info.finished) - datetime.fromisoformat(info.started)
    return max(span.total_seconds(), info.seconds)


def _plan_state(out: Path) -> State:
    if not out.is_dir() or not any(out.iterdir()):
        return "open"
    file = out / "metrics.json"
    found = read_json(file) if file.is_file() else {}
    is_whole = bool(found) and len(found["steps"]) == len(found["plan"])
    return "complete" if is_whole else "begun"


def jobs_of(sweep: Sweep, place: Path) -> list[Job]:
    """Return the runs of a sweep, seed by seed, each stage 1 before the first run that needs it.

    Nothing is written.
    """
    found: dict[Path, Job] = {}
    for seed in sweep.seeds:
        for entry in sweep.configurations:
            stage1 = _stage1(entry, seed, place)
            if stage1 is not None:
                stage1 = found.setdefault(stage1.out, stage1)
            is_plan = entry.plan is not None
            words = _words(entry, seed, place)
            if stage1 is not None and not is_plan:
                words += ["--from", str(stage1.out)]
            out = place / entry.folder / f"seed{seed}"
            name = f"{entry.name}, seed {seed}"
            # A baseline on vectors takes no --resume.
            restarts = entry.config.dataset == "features" and entry.run[0] == "baseline"
            found[out] = Job(name, out, tuple(words), entry.name, seed, stage1, is_plan, restarts)
    return list(found.values())


def _words(entry: Configuration, seed: int, place: Path) -> list[str]:
    """Return the command of a run, except the run that it starts from."""
    if entry.config.dataset == "features":
        # Vectors are named on the command line, which then takes no configuration file.
        words = [*entry.run, "--features", *entry.config.data.features]
        for key, value in _own_settings(entry.config).items():
            words += ["--set", f"{key}={json.dumps(value)}"]
    elif entry.plan is not None:
        words = ["increments", "--plan", entry.plan, "--method", *entry.run[1:]]
        words += ["--config", str(_config_file(entry, place))]
    else:
        words = [*entry.run, "--config", str(_config_file(entry, place))]
    return [*words, "--seed", str(seed)]


def _own_settings(config: Config) -> dict[str, Any]:
    """Return the settings of a run on vectors that differ from the defaults, as dotted keys."""
    defaults = flat(plain(load_config(None, (), {"dataset": config.dataset})))
    return {
        key: value
        for key, value in flat(json.loads(json.dumps(plain(config)))).items()
        if key not in ("dataset", "data.features", "seed", "device")
        and value != json.loads(json.dumps(defaults.get(key)))
    }


def _config_file(entry: Configuration, place: Path) -> Path:
    return place / "configs" / f"{entry.folder}.yaml"


def _plan_files(entry: Configuration, place: Path) -> tuple[Path, Path]:
    """Return the files of configuration and classes of the stage 1 of a plan."""
    folder = place / "configs"
    return folder / f"{entry.folder}-stage1.yaml", folder / f"{entry.folder}-stage1-classes.yaml"


def _stage1(entry: Configuration, seed: int, place: Path) -> Job | None:
    """Return the stage 1 that a run starts from; None if it needs none."""
    config, file = dataclasses.replace(entry.config, seed=seed), _config_file(entry, place)
    if entry.run in (("pretrain",), ("baseline", "supervised")) or config.dataset == "features":
        return None
    if entry.plan is not None:
        # The stage 1 of a plan depends on the first group of classes alone.
        first = entry.plan.split("-")[0]
        config = dataclasses.replace(config, split=f"{config.split}, first {first} classes")
        file = _plan_files(entry, place)[0]
    out = stage1_folder(config, place)
    name = f"stage 1 ({out.name.split('-')[1]}), seed {seed}"
    words = ("pretrain", "--config", str(file), "--seed", str(seed))
    return Job(name, out, words, None, seed)


def check_recipes(sweep: Sweep, place: Path) -> None:
    """Check that the folder holds no runs of other configurations under the same names.

    Raises:
        InputError: it does; the message names the settings that differ.
    """
    kept = _kept_recipes(place)
    for entry in sweep.configurations:
        made, wanted = kept.get(entry.folder), entry.recipe()
        if made is not None and made != wanted and (place / entry.folder).is_dir():
            raise InputError(
                f"the runs in {place / entry.folder} were made with another configuration: "
                f"{differences(made, wanted)}; name another folder with --out, or delete this one"
            )


def write_recipes(sweep: Sweep, place: Path) -> None:
    """Write the configurations of a sweep for its commands."""
    for entry in sweep.configurations:
        write_bytes(_config_file(entry, place), dump_config(entry.config).encode())
        if entry.plan is not None:
            file, classes = _plan_files(entry, place)
            plan_splits(split_of(entry.config), parse_plan(entry.plan))[0].save(classes)
            config = dataclasses.replace(entry.config, split=str(classes), class_order_seed=None)
            write_bytes(file, dump_config(config).encode())
    recipes = {entry.folder: entry.recipe() for entry in sweep.configurations}
    write_json(place / RECIPES, {**_kept_recipes(place), **recipes})


def _kept_recipes(place: Path) -> dict[str, Any]:
    file = place / RECIPES
    kept = read_json(file) if file.is_file() else {}
    if not isinstance(kept, dict):
        raise InputError(f"{file} holds no configurations of a sweep; restore it")
    return kept


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that are not complete; a stage 1 counts if an unfinished run needs it."""
    left = [job for job in jobs if job.state() != "complete"]
    needed = {job.needs.out for job in left if job.needs is not None}
    return [job for job in left if job.group is not None or job.out in needed]


def estimate(jobs: Iterable[Job], done: Sequence[Job]) -> float | None:
    """Return the expected seconds of jobs one after another, from the time of finished ones.

    A run takes as long as the finished runs of its configuration, or else of its command.

    Returns:
        None if there is no finished run to judge a job by.
    """
    times: dict[tuple[str, ...], list[float]] = {}
    for job in done:
        seconds = job.seconds()
        if seconds is not None:
            for key in _alike(job):
                times.setdefault(key, []).append(seconds)
    total = 0.0
    for job in jobs:
        known = next((times[key] for key in _alike(job) if key in times), None)
        if known is None:
            return None
        total += sum(known) / len(known)
    return total


def _alike(job: Job) -> list[tuple[str, ...]]:
    """Return keys of the jobs that take as long, the most similar first."""
    command = ("command", job.words[0], *(job.words[1:2] if job.words[0] == "baseline" else ()))
    return [("group", job.group), command] if job.group is not None else [command]

"""The stage-1 run from which a discovery or a baseline starts: named, found, or trained."""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from crkd.commands.flags import config_words
from crkd.commands.output import RUNS
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.search import SHARED_PARTS, find_stage1, free_folder, is_stage1, runs_below


def stage1_run(config: Config, given: argparse.Namespace, out: Path) -> Path:
    """Return the stage-1 run to start from; ``--pretrain`` makes it if there is none.

    A resumed run starts from the run that its ``run.json`` names, whatever was trained since.

    Args:
        config: the configuration of the run.
        given: the parsed flags of the verb.
        out: folder of the run that will start from it.

    Raises:
        InputError: there is none; the message gives the exact command that makes one. Or the
            configuration names files of vectors, on which no network is trained.
    """
    if config.dataset == "features":
        raise InputError(
            "the configuration has the dataset 'features', on which no network is trained; name "
            "the files of vectors with --features KNOWN NOVEL, without --config or --dataset"
        )
    if given.parent is not None:
        return Path(given.parent)
    if given.resume and (out / "run.json").is_file():
        return _recorded(out)

    from crkd.stages.load_images import split_entry, split_of

    data = config.data
    known = split_entry(split_of(config), data.labeled_fraction, data.subset)["known"]
    fits = _fits(config)
    places = list(dict.fromkeys([out.parent, RUNS]))
    found = find_stage1(places, dataset=config.dataset, known=known, seed=config.seed, fits=fits)
    # The spread over seeds needs a stage-1 run for each seed.
    other_seed = found is not None and found[1].seed != config.seed
    if found is not None and not (given.pretrain and other_seed):
        remark = f" (seed {found[1].seed}; this run has seed {config.seed}, see --pretrain)"
        print(f"stage 1: {found[0]}{remark if other_seed else ''}", file=sys.stderr)
        return found[0]
    if given.pretrain:
        return _new_stage1_run(config, given, out, known, fits)
    command = shlex.join(["crkd", "pretrain", *config_words(given)])
    searched = " or ".join(map(str, places))
    raise InputError(
        f"no finished stage-1 run of {config.dataset} in {searched} has this split, "
        f"image size, backbone {config.model.backbone!r} and known_head "
        f"{config.model.known_head!r}; make one with '{command}', or add --pretrain"
    )


def _recorded(out: Path) -> Path:
    """Return the run from which an unfinished run started."""
    parent = RunFolder(out).read_info().parent
    if parent is None:
        raise InputError(
            f"--resume: the run in {out} did not start from a stage-1 run; use the command that "
            "started it"
        )
    path = Path(parent["path"])
    if not (path / "run.json").is_file():
        raise InputError(
            f"--resume: the run in {out} started from {path}, which is no run folder now; restore "
            "it, or name its new place with --from RUN"
        )
    return path


def _fits(config: Config) -> Callable[[Path, RunInfo], bool]:
    """Return whether a stage-1 run has the network and the image size that a discovery needs."""

    @functools.cache
    def default_size() -> int:
        # It reads the data set, so it is asked for only where the settings of two runs differ.
        from crkd.stages.load_images import default_image_size

        return default_image_size(config)

    def fits(folder: Path, info: RunInfo) -> bool:
        network = info.architecture or {}
        if any(network.get(part) != getattr(config.model, part) for part in SHARED_PARTS):
            return False
        asked, made = config.data.image_size, network.get("image_size")
        if asked is not None:
            return made == asked
        try:
            given = RunFolder(folder).read_config().data.image_size
        except InputError:
            # A run that was killed at its begin has no configuration.
            return False
        return given is None or made == default_size()

    return fits


def _new_stage1_run(
    config: Config,
    given: argparse.Namespace,
    out: Path,
    known: str,
    fits: Callable[[Path, RunInfo], bool],
) -> Path:
    from crkd.stages.pretrain.run import pretrain
    from crkd.training.interruption import Interrupted

    folder = out.parent / f"pretrain-seed{config.seed}"
    begun = _unfinished(folder, config, known, fits) if given.resume else None
    try:
        return pretrain(
            config,
            begun or free_folder(folder),
            resume=begun is not None,
            download=given.download,
        ).path
    except Interrupted as stop:
        raise stop.within("stage 1", out) from None


def _unfinished(
    folder: Path, config: Config, known: str, fits: Callable[[Path, RunInfo], bool]
) -> Path | None:
    """Return the newest unfinished stage 1 of this seed, one that fits before all others.

    Where none fits, the training refuses to continue the newest and says what differs.
    """
    found = [
        (is_stage1(info, config.dataset, known) and fits(path, info), info.started, path)
        for path, info in runs_below(*folder.parent.glob(f"{folder.name}*"))
        if info.kind == "supervised" and info.seed == config.seed and info.status != "complete"
    ]
    return max(found)[2] if found else None

"""``crkd discover``: stage 2, discovery of the novel classes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crkd.commands.discover.path_of_flags import uses_vectors
from crkd.commands.discover.stage1 import stage1_run
from crkd.commands.discover.vectors import (
    add_vector_flags,
    checked_vector_config,
    run_on_vectors,
)
from crkd.commands.flags import add_config_flags, add_run_flags, check_resume, config_of
from crkd.commands.output import check_out, print_protocols, run_name, suggest_cpu_recipe
from crkd.config.schema import Config
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from crkd.runs.folder import RunFolder

__all__ = ["DESCRIPTION", "add_arguments", "run"]

DESCRIPTION = """\
Stage 2: find the novel classes among unlabeled images.

Own images (--known DIR --novel DIR) are embedded by a pretrained network, and
the classes are discovered on its feature vectors, in minutes on a CPU.
Without --known, no class is known, and all classes are discovered.

A named data set trains its own network. The discovery starts from a finished
stage-1 run of the same data set and split. --from names this run. --pretrain
runs stage 1 first if there is none.

--from RUN --novel DIR extends a finished run of any kind by the classes of new
images. This needs no earlier images. --decisions applies a review to the run
in --from before the extension.

  crkd discover --known products/ --novel new-photos/ --num-novel 12
  crkd discover --from runs/new-photos/discover-seed0 --novel this-week/ \\
      --num-novel 4
  crkd discover --novel photos/ --num-novel 12
  crkd discover --features known.parquet novel.parquet --num-novel 12
  crkd discover --dataset cifar100 --pretrain
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_config_flags(parser)
    add_run_flags(parser)
    parser.add_argument("--from", dest="parent", metavar="RUN", help="run to start from")
    parser.add_argument(
        "--decisions", metavar="FILE", help="review decisions to apply to the run in --from"
    )
    parser.add_argument(
        "--pretrain",
        action="store_true",
        help="run stage 1 first if there is no stage-1 run of the same seed",
    )
    add_vector_flags(parser)


def run(given: argparse.Namespace) -> int:
    """Run stage 2; return the exit code."""
    if given.decisions is not None:
        _check_with_decisions(given)
    check_resume(given)
    if given.decisions is not None:
        if given.novel is not None:
            # The reviewed run will have the kind and the configuration of the run in --from.
            (checked_vector_config if uses_vectors(given) else _checked_config)(given)
        given.parent = reviewed_run(given)
        if given.novel is None:
            return 0

    from crkd.training.interruption import Interrupted

    try:
        finished = run_on_vectors(given) if uses_vectors(given) else _trained(given)
    except Interrupted as stop:
        print(f"crkd discover: {stop}", file=sys.stderr)
        return 130
    print_protocols(finished)
    return 0


def _trained(given: argparse.Namespace) -> RunFolder:
    """Run stage 2 on images from a stage-1 run, and return the finished run."""
    from crkd.runs.search import free_folder
    from crkd.stages.discover.run import discover

    config = _checked_config(given)
    out = Path(given.out) if given.out else free_folder(run_name(config, "discover"))
    check_out(out, resume=given.resume)
    suggest_cpu_recipe(config, given)
    resume = given.resume and (out / "run.json").is_file()
    parent = stage1_run(config, given, out)
    return discover(config, out, parent, resume=resume, download=given.download)


def _checked_config(given: argparse.Namespace) -> Config:
    """Return the configuration of a discovery on images.

    Raises:
        InputError: a folder or a flag is missing or unusable.
    """
    config = config_of(given, base=_extended_config(given))
    if config.dataset != "folder":
        return config
    if config.data.novel is None:
        raise InputError("--novel is not given; name the folder of unlabeled images")
    from crkd.data.encoded.listing import find_encoded
    from crkd.stages.vectors.folders import check_num_novel_of_folder

    novel = str(config.data.novel)
    check_num_novel_of_folder(novel, find_encoded([novel]), config.discover.num_novel)
    return config


def _extended_config(given: argparse.Namespace) -> Config | None:
    """Return the configuration of the run that new images extend; None for a first discovery.

    ``--from RUN --novel DIR`` without a data set extends the run: it holds its classes and its
    configuration.
    """
    named = (given.config, given.dataset, given.split)
    if given.parent is None or given.novel is None or any(value is not None for value in named):
        return None
    from crkd.runs.folder import RunFolder
    from crkd.stages.incremental import extension

    run = RunFolder.open(given.parent)
    if given.known is not None and run.read_info().num_novel == 0:
        # A stage-1 run and its images: a first discovery, with the usual configuration.
        return None
    return extension(run)


def _check_with_decisions(given: argparse.Namespace) -> None:
    """Check the flags of the extension before the reviewed run is written.

    Raises:
        InputError: a flag does not apply, or a folder is unusable.
    """
    if given.parent is None:
        raise InputError("--decisions is given without --from; name the run that was reviewed")
    if given.features is not None:
        raise InputError(
            "--features does not go with --decisions; use crkd apply-review, and name the run that "
            "it writes in --from"
        )
    if given.novel is None:
        if given.out is not None:
            raise InputError(
                "--out needs --novel DIR; use crkd apply-review for a folder of your choice"
            )
        for flag in ("num_novel", "resume"):
            if getattr(given, flag):
                raise InputError(
                    f"--{flag.replace('_', '-')} needs --novel DIR, the new images; add it, or "
                    "leave both out to write the reviewed run alone"
                )
        return
    if not Path(given.novel).exists():
        raise InputError(f"--novel {given.novel!r} does not exist; name a folder of images")
    if given.out is not None:
        check_out(Path(given.out), resume=given.resume)


def reviewed_run(given: argparse.Namespace) -> Path:
    """Return the run that results from the run in ``--from`` and the review in ``--decisions``.

    Raises:
        InputError: the file does not belong to the run.
    """
    from crkd.core.device import pick_device
    from crkd.review.reviewed_run import named_run

    device = pick_device(given.device or "auto")
    made = named_run(given.parent, Path(given.decisions), device=device)
    print(f"reviewed: {made}", file=sys.stderr)
    return made

"""Default run folders, and the lines that commands print about a run."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.core.paths import shipped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from crkd.evaluation.predictions import Predictions
    from crkd.runs.folder import RunFolder

RUNS = Path("runs")


def run_name(config: Config, stage: str) -> Path:
    """Return the default folder of a run: ``runs/DATA-SPLIT/STAGE-seedN``."""
    split = Path(config.split).stem if config.split else "default"
    order = "" if config.class_order_seed is None else f"-order{config.class_order_seed}"
    return RUNS / f"{config.dataset}-{split}{order}" / f"{stage}-seed{config.seed}"


def check_out(out: Path, *, resume: bool) -> None:
    """Refuse a run folder that cannot be written, before any work starts.

    Raises:
        InputError: the folder holds files and is not to be resumed, or its run is complete.
    """
    from crkd.runs.folder import RunFolder, check_free

    if not resume:
        check_free(out)
    elif (out / "run.json").is_file() and RunFolder(out).read_info().status == "complete":
        raise InputError(f"--resume: the run in {out} is complete; start another with --out")


def suggest_cpu_recipe(config: Config, given: argparse.Namespace) -> None:
    """Name the recipe for a CPU, if there is one and the default recipe will run on a CPU.

    Args:
        config: the configuration of the run.
        given: the parsed flags; with ``--config`` the recipe was chosen.
    """
    if given.config is not None or given.resume:
        return
    from crkd.core.device import pick_device
    from crkd.data.splits.class_split import DEFAULT_SPLITS

    split = config.split or DEFAULT_SPLITS.get(config.dataset)
    name = f"{config.dataset}-{split}-fast"
    recipe = shipped("configs") / "presets" / f"{name}.yaml"
    if pick_device(config.device).type == "cpu" and recipe.is_file():
        print(
            f"note: the default recipe is for a GPU; --config {name} is one for a CPU",
            file=sys.stderr,
        )


def print_protocols(run: RunFolder) -> None:
    """Print the metrics of a run as a table, then its notes and its folder.

    Without a label of a novel image the sizes of the discovered classes take the place of metrics.
    They follow the metrics where the labels are of another number of classes, such as folders by
    date.
    """
    import numpy as np
    from rich.console import Console

    from crkd.evaluation.predictions_file import load_predictions
    from crkd.evaluation.tables import protocol_table

    info = run.read_info()
    console = Console()
    table = run.path / "predictions.parquet"
    if not table.is_file():
        console.print("no images for evaluation: set data.validation_fraction to hold some out")
    else:
        predictions = load_predictions(table)
        labels = predictions.label[predictions.of("train")]
        labeled = bool((labels >= 0).any())
        if labeled or info.num_novel == 0:
            console.print(protocol_table(run.read_metrics()))
        found = len(np.unique(labels[labels >= info.num_known]))
        if info.num_novel and found != info.num_novel:
            title = "discovered classes" if labeled else "discovered classes (no labels)"
            console.print(_class_table(run, predictions, title))
    if (run.path / "contest.json").is_file():
        _print_contest(console, run)
    for note in info.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    console.print(f"run: {run.path}", highlight=False, markup=False, soft_wrap=True)
    of_images = not info.on_vectors or info.embedding is not None
    if info.num_novel and info.kind == "discovered" and of_images:
        command = shlex.join(["crkd", "review", str(run.path)])
        console.print(f"next: {command}", highlight=False, markup=False, soft_wrap=True)


def _class_table(run: RunFolder, predictions: Predictions, title: str) -> Table:
    """Return the number of images of each discovered class, and its stability if measured."""
    import numpy as np
    from rich import box
    from rich.table import Table

    from crkd.runs.stability import read_stability

    info = run.read_info()
    names = [entry.name for entry in info.classes if entry.is_novel]
    head, train = info.chosen_head or 0, predictions.of("train")
    if run.read_config().mixed:
        train &= predictions.joint_heads[head] >= info.num_known
    sizes = np.bincount(predictions.novel_heads[head][train], minlength=len(names))
    values = read_stability(run)
    # A narrower table would break its title.
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, min_width=len(title))
    table.add_column("class")
    table.add_column("images", justify="right")
    if values:
        table.add_column("stability", justify="right")
    for index in np.argsort(-sizes, kind="stable"):
        name = names[index]
        stability = [f"{100 * values[name]:.0f} %"] if name in values else []
        table.add_row(name, f"{sizes[index]:,}", *stability)
    return table


def _print_contest(console: Console, run: RunFolder) -> None:
    """Print the candidates of a discovery on vectors and the chosen one.

    An incremental step holds no contest: it keeps the method of the first discovery.
    """
    from rich import box
    from rich.table import Table

    from crkd.stages.vectors.start import read_contest

    contest = read_contest(run)
    if run.read_info().parent is not None and run.read_config().vectors.method == "auto":
        line = f"method: {contest.chosen}, that of the first discovery"
        console.print(line, highlight=False, markup=False)
        return
    if contest.scores:
        title = "contest on hidden known classes, clustering accuracy in percent"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title)
        table.add_column("method")
        table.add_column("mean", justify="right")
        table.add_column("each draw", justify="right")
        for score in contest.scores:
            draws = "  ".join(f"{value:.1f}" for value in score.accuracies)
            chosen = " (chosen)" if score.candidate == contest.chosen else ""
            table.add_row(score.candidate + chosen, f"{score.mean:.1f}", draws)
        console.print(table)
    console.print(f"method: {contest.chosen}; {contest.reason}", highlight=False, markup=False)

"""Single changes to the published recipe of discovery, compared at the same budget.

Every recipe is trained with the same three seeds, and its gain is the mean over seeds of the
difference to the published recipe with the same seed; a gain counts when it exceeds the spread of
these differences. A CPU takes ten known and ten novel classes of CIFAR-100 shrunk to 16 px, a
ResNet-8 and bfloat16; a GPU takes the published table's setting with 100 + 100 epochs. No metric
of this benchmark takes part in training: recipes are compared after the last epoch.

Finished runs are lines of a file next to the output; stage-1 runs are kept as run folders and
shared by all recipes with the same stage 1.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.campaign import finished, is_complete
from benchmarks.rows import row
from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain

SEEDS = (0, 1, 2)
PUBLISHED = "published"
STAGES = Path("runs") / "bench-recipes"
SIZES = {
    "cpu": (
        "cifar100-10-10",
        ("data.image_size=16", "loop.precision=bfloat16", "pretrain.epochs=30"),
    ),
    "cuda": ("cifar100-50-50-100", ()),
}
"""Device to the configuration and what differs from it. The published one of a GPU has the strong
views in stage 1 already."""

CONTRAST = "{name: contrastive, weight: 1.0}"
RELATIONS = "{name: class_relation, weight: 0.1}"
STAGE1 = {
    "plain": (),
    "strong views": ("pretrain.num_views=2", "pretrain.view={recipe: large}"),
    "self-supervised": (
        "pretrain.num_views=2",
        "pretrain.unlabeled=true",
        f"pretrain.distillation=[{CONTRAST}]",
    ),
}
"""Ways to train stage 1, by name."""


class Recipe(NamedTuple):
    """Differences from the published recipe.

    Attributes:
        stage1: a key of ``STAGE1``.
        settings: of stage 2.
    """

    stage1: str = "plain"
    settings: tuple[str, ...] = ()


RECIPES = {
    PUBLISHED: Recipe(),
    "no distillation": Recipe(settings=("discover.distillation=[]",)),
    "averaged student": Recipe(settings=("discover.average=0.99",)),
    "prototypes from k-means": Recipe(settings=("discover.prototypes=kmeans",)),
    "over-clustering x 3": Recipe(settings=("model.overclustering=3",)),
    "stage 1: strong views": Recipe("strong views"),
    "stage 1: self-supervision": Recipe("self-supervised"),
    "both stages: self-supervision": Recipe(
        "self-supervised",
        (f"discover.distillation=[{RELATIONS}, {{name: contrastive, weight: 0.3}}]",),
    ),
}
"""By name, in the order of the table."""

METRICS = {
    "novel": ("task_aware", "train", "novel"),
    "test_all": ("joint_hungarian", "test", "all"),
    "test_known": ("joint_hungarian", "test", "known"),
    "test_novel": ("joint_hungarian", "test", "novel"),
}
"""Protocol, part and group of each metric."""


class Run(NamedTuple):
    """One discovery.

    Attributes:
        recipe: a key of ``RECIPES``.
        seed: of everything drawn.
        device: "cpu" or "cuda".
    """

    recipe: str
    seed: int
    device: str

    @property
    def stage1(self) -> Path:
        """Folder of its stage-1 run."""
        name = RECIPES[self.recipe].stage1.replace(" ", "-")
        return STAGES / f"{self.device}-{name}-seed{self.seed}"


def rows(out: Path, device: str, *, jobs: int = 1) -> list[dict[str, Any]]:
    """Return mean, spread and gain of every recipe.

    Args:
        out: the result file; finished runs are stored next to it in ``NAME.runs.jsonl``.
        device: "cpu" or "cuda".
        jobs: processes, of one thread each.
    """
    wanted = [Run(name, seed, device) for name in RECIPES for seed in SEEDS]
    return _rows(finished(wanted, train, out, prepare=_first_stages, jobs=jobs))


def _first_stages(missing: Sequence[Run]) -> list[Callable[[], None]]:
    """Return the trainings of stage 1 that missing runs start from."""
    first = {run.stage1: run for run in missing if not is_complete(run.stage1)}
    return [partial(train_stage1, run) for run in first.values()]


def train_stage1(run: Run) -> None:
    """Train the stage 1 of a run, from the start if an earlier training did not finish."""
    shutil.rmtree(run.stage1, ignore_errors=True)
    pretrain(_config(run), run.stage1)


def train(run: Run) -> dict[str, Any]:
    """Discover and return the metrics, in percent."""
    with tempfile.TemporaryDirectory() as folder:
        found = discover(_config(run), Path(folder) / "run", run.stage1)
        metrics, info = found.read_metrics(), found.read_info()
        return {
            **{
                name: 100 * metrics[protocol][part][group]["acc"]
                for name, (protocol, part, group) in METRICS.items()
            },
            "kmeans": 100
            * metrics["baselines"]["kmeans_features"]["task_aware"]["train"]["novel"]["acc"],
            "seconds": info.seconds,
            "commit": info.provenance["commit"],
        }


def _config(run: Run) -> Config:
    name, size = SIZES[run.device]
    recipe = RECIPES[run.recipe]
    settings = [*size, *STAGE1[recipe.stage1], *recipe.settings, "evaluation.kmeans_restarts=3"]
    return load_config(name, settings, {"device": run.device, "seed": run.seed})


def _rows(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    by_recipe: dict[str, dict[int, dict[str, float]]] = {}
    for line in lines:
        run = Run(**line["run"])
        by_recipe.setdefault(run.recipe, {})[run.seed] = line
    base = by_recipe[PUBLISHED]
    made = []
    for name, by_seed in by_recipe.items():
        mean, spread, gain, gain_spread = {}, {}, {}, {}
        for key in METRICS:
            values = [by_seed[seed][key] for seed in SEEDS]
            gains = [by_seed[seed][key] - base[seed][key] for seed in SEEDS]
            mean[key], spread[key] = statistics.fmean(values), statistics.stdev(values)
            gain[key], gain_spread[key] = statistics.fmean(gains), statistics.stdev(gains)
        baseline = (
            None if name == PUBLISHED else statistics.fmean(s["novel"] for s in base.values())
        )
        made.append(
            {
                **_row(name, mean["novel"], baseline),
                "seeds": len(SEEDS),
                **{
                    title: {key: round(value, 2) for key, value in each.items()}
                    for title, each in (
                        ("mean", mean),
                        ("spread", spread),
                        ("gain", gain),
                        ("gain_spread", gain_spread),
                    )
                },
            }
        )
    kmeans = statistics.fmean(s["kmeans"] for s in base.values())
    return [_row("k-means on stage-1 features", kmeans), *made]


_row = partial(row, "recipes", "% novel, training images, task-aware", complete=False)

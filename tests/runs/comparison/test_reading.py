"""Run folders and plan folders as entries of a comparison."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from crkd.config.load import load_config
from crkd.core.errors import InputError
from crkd.evaluation.comparison import grouped
from crkd.runs.comparison.reading import is_plan_folder, read_plan, read_run, short_names
from crkd.runs.folder import RunFolder
from tests.support.compared_runs import changed_run, plan_folder


def identities(*paths: Path) -> int:
    return len(grouped([read_run(path, path.name).entry for path in paths]))


def test_seed_device_places_and_logs_do_not_divide_a_group(tmp_path: Path) -> None:
    first = changed_run(tmp_path / "a", seed=0)
    second = changed_run(
        tmp_path / "b",
        seed=1,
        settings={
            "device": "cuda:1",
            "data": {"root": "/elsewhere", "storage": "streaming"},
            "loop": {"log_every": 7, "loggers": ["tensorboard"]},
            "distill": {"epochs": 3},
            "vectors": {"method": "kmeans"},
        },
    )
    assert identities(first, second) == 1


def test_the_method_of_a_discovery_on_vectors_divides_no_baselines(tmp_path: Path) -> None:
    for kind, groups in ({"kind": "discovered"}, 2), ({"kind": "baseline", "baseline": "x"}, 1):
        runs = [
            changed_run(
                tmp_path / f"{method}-{groups}",
                seed=seed,
                settings={"vectors": {"method": method}},
                info={"dataset": "features", **kind},
            )
            for seed, method in enumerate(("heads", "kmeans"))
        ]
        assert identities(*runs) == groups


@pytest.mark.parametrize(
    "settings",
    [
        {"discover": {"epochs": 6}},
        {"discover": {"distillation": []}},
        {"pretrain": {"optimizer": {"lr": 0.01}}},
        {"loop": {"precision": "float32"}},
        {"data": {"labeled_fraction": 0.5}},
        {"discover": {"method": "frost"}},
    ],
    ids=str,
)
def test_every_other_setting_divides_it(tmp_path: Path, settings: dict[str, Any]) -> None:
    first = changed_run(tmp_path / "a", seed=0)
    assert identities(first, changed_run(tmp_path / "b", seed=1, settings=settings)) == 2


@pytest.mark.parametrize(
    "info",
    [
        {"dataset": "other"},
        {"split": {"name": "5-5", "fingerprint": "f", "known": "k"}},
        {"kind": "baseline", "baseline": "kmeans"},
        {"kind": "distilled"},
    ],
    ids=str,
)
def test_data_and_method_divide_it(tmp_path: Path, info: dict[str, Any]) -> None:
    first = changed_run(tmp_path / "a", seed=0)
    assert identities(first, changed_run(tmp_path / "b", seed=1, info=info)) == 2


def test_baselines_have_their_names_and_older_ones_the_name_of_their_note(tmp_path: Path) -> None:
    new = [("kmeans", {"baseline": "kmeans"}), ("semi-kmeans", {"baseline": "semi-kmeans"})]
    old = [
        ("kmeans", {"notes": ["x", "baseline: k-means on stage-1 features, joint predictions"]}),
        ("semi-kmeans", {"notes": ["baseline: semi-supervised k-means on stage-1 features"]}),
        ("supervised", {"notes": ["supervised upper bound: trained WITH the labels"]}),
    ]
    for number, (method, info) in enumerate([*new, *old]):
        run = changed_run(tmp_path / str(number), info={"kind": "baseline", **info})
        assert read_run(run, "x").entry.method == method
    both = [changed_run(tmp_path / n, info={"kind": "baseline", **i}) for n, i in dict(new).items()]
    assert identities(*both) == 2


def test_a_stage_1_of_another_configuration_divides_a_group(tmp_path: Path) -> None:
    parents = [
        changed_run(tmp_path / name, "pretrained", settings={"pretrain": {"epochs": epochs}})
        for name, epochs in (("short", 5), ("long", 50), ("same", 5))
    ]
    runs = [
        changed_run(
            tmp_path / f"run{seed}",
            seed=seed,
            info={"parent": {"path": str(parent), "model_sha256": "x"}},
            settings={"pretrain": {"epochs": 5}},
        )
        for seed, parent in enumerate(parents)
    ]
    groups = grouped([read_run(run, run.name).entry for run in runs])
    assert [group.seeds for group in groups] == [[0, 2], [1]]
    assert groups[1].name == "discover, pretrain.epochs=50"


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    unfinished = changed_run(tmp_path / "a", info={"status": "interrupted"})
    with pytest.raises(InputError, match=r"is not finished \(status 'interrupted'\); finish it"):
        read_run(unfinished, "a")
    bare = changed_run(tmp_path / "b")
    (bare / "predictions.parquet").unlink()
    with pytest.raises(InputError, match=r"has no predictions \(no predictions.parquet in it\)"):
        read_run(bare, "b")


def test_a_plan_is_read(tmp_path: Path) -> None:
    plan = plan_folder(tmp_path / "plan", seed=3, final=(0.5, 0.75, 0.25), lost=(0.2, -0.1))
    assert is_plan_folder(plan)
    assert not is_plan_folder(plan / "step-0")
    entry = read_plan(plan, "p").entry
    assert (entry.kind, entry.method, entry.seed) == ("plan", "remember", 3)
    assert entry.data["split"] == "4-3-3"
    assert entry.scores == {
        "final/all": 0.5,
        "final/old": 0.75,
        "final/new": 0.25,
        "forgetting/labeled": 0.2,
        "forgetting/mean": pytest.approx(0.05),
    }
    # A plan on images has a configuration too; the settings are still those of its last step.
    RunFolder(plan).write_config(load_config("digits", ["discover.epochs=3"]))
    again = read_plan(plan, "p").entry
    assert (again.data, again.settings) == (entry.data, entry.settings)


def test_plans_are_grouped_by_plan_method_and_configuration(tmp_path: Path) -> None:
    plans = [
        plan_folder(tmp_path / "0", seed=0),
        plan_folder(tmp_path / "1", seed=1),
        plan_folder(tmp_path / "2", seed=0, method="frost"),
        plan_folder(tmp_path / "3", seed=0, plan=(6, 2, 2)),
        plan_folder(tmp_path / "4", seed=0, settings={"discover": {"epochs": 9}}),
    ]
    groups = grouped([read_plan(plan, plan.name).entry for plan in plans])
    assert [[entry.name for entry in group.entries] for group in groups] == [
        ["0", "1"],
        *(["2"], ["3"], ["4"]),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": []}, "the plan in .* is not finished"),
        ({"plan": [4, 2, 2, 2]}, "the plan in .* is not finished"),
        ({"seed": "one"}, "seed is 'one', but must be a whole number"),
        ({"forgetting": [7]}, "forgetting is"),
        ({"steps": [{}, {}, {"acc": {"all": "x"}}]}, "no block 'acc' of shares"),
    ],
)
def test_unfinished_and_damaged_plans_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    plan = plan_folder(tmp_path / "plan")
    file = plan / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=message):
        read_plan(plan, "p")
    file.unlink()
    with pytest.raises(InputError, match="is not finished"):
        read_plan(plan, "p")


def test_names_of_folders() -> None:
    assert short_names([Path("a/b"), Path("c/b"), Path("c/d")]) == ["a/b", "c/b", "c/d"]
    assert short_names([Path("a"), Path("a")]) == ["1: a", "2: a"]


def test_run_json_keeps_the_name_of_a_baseline(tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(changed_run(tmp_path / "a"), tmp_path / "b"))
    info = run.read_info()
    assert info.baseline is None
    run.write_info(dataclasses.replace(info, baseline="kmeans"))
    assert run.read_info().baseline == "kmeans"

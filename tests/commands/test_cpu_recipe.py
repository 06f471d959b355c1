"""The hint at a recipe for a CPU."""

from __future__ import annotations

import argparse

import pytest
import torch

from crkd.commands.output import suggest_cpu_recipe
from crkd.config.load import load_config
from crkd.core import device
from crkd.core.paths import shipped


def hint(capsys: pytest.CaptureFixture[str], *settings: str, **given: object) -> str:
    flags = argparse.Namespace(**{"config": None, "resume": False, **given})
    config = load_config(None, ["device=cpu", *settings])
    suggest_cpu_recipe(config, flags)
    return capsys.readouterr().err


@pytest.mark.parametrize("split", [None, "50-50", "10-10"])
def test_recipe_has_the_data_set_and_split_of_the_run(
    split: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    advice = hint(capsys, "dataset=cifar100", *([] if split is None else [f"split={split}"]))
    name = advice.split("--config ")[1].split()[0]
    recipe = load_config(name)
    assert (recipe.dataset, recipe.split) == ("cifar100", split or "50-50")
    assert recipe.loop.precision == "fast"


@pytest.mark.parametrize(
    "settings", [("dataset=digits",), ("dataset=cifar100", "split=80-20"), ("dataset=folder",)]
)
def test_without_such_a_recipe_nothing_is_printed(
    settings: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not hint(capsys, *settings)


def test_a_chosen_recipe_and_a_resumed_run_are_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not hint(capsys, "dataset=cifar100", config="published-cifar")
    assert not hint(capsys, "dataset=cifar100", resume=True)


def test_on_a_gpu_nothing_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "pick_device", lambda _: torch.device("cuda"))
    assert not hint(capsys, "dataset=cifar100")


def test_there_are_such_recipes() -> None:
    assert len(list((shipped("configs") / "presets").glob("*-fast.yaml"))) == 2

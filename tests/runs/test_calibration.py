from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.core.errors import InputError
from crkd.evaluation.calibration import (
    Calibration,
    calibrate,
    expected_calibration_error,
    probabilities,
)
from crkd.runs.calibration import missing_temperature, read_calibration, write_calibration
from crkd.runs.load import open_run
from crkd.stages.pretrain.run import pretrain
from crkd.stages.run_data import prepare
from tests.support.small_runs import small_config
from tests.support.untrained_runs import untrained_run


def drawn(temperature: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true probabilities are their softmax at ``temperature``, and labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 3.0, (count, 4))
    exact = torch.tensor(logits / temperature).softmax(dim=1).numpy()
    labels = (exact.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return logits, labels


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_the_true_temperature_is_found(truth: float) -> None:
    found = calibrate(*drawn(truth))
    assert found is not None
    assert found.temperature == pytest.approx(truth, rel=0.05)
    assert found.nll_after <= found.nll_before
    assert found.ece_after < 0.02
    if truth != 1.0:
        assert found.ece_after < found.ece_before


def test_it_is_the_minimum_that_torch_finds() -> None:
    logits, labels = drawn(2.0, count=300)
    found = calibrate(logits, labels)
    inverse = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([inverse], max_iter=100, tolerance_grad=1e-12)
    scores, truth = torch.tensor(logits), torch.tensor(labels)

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = torch.nn.functional.cross_entropy(scores * inverse, truth)
        value.backward()
        return value

    search.step(loss)
    assert found is not None
    assert found.temperature == pytest.approx(1 / inverse.item(), rel=1e-4)
    assert found.nll_after == pytest.approx(loss().item(), abs=1e-9)


def test_images_that_fix_no_temperature_give_none() -> None:
    logits = np.tile([[2.0, 0.0], [0.0, 1.0]], (50, 1))
    right, half = np.tile([0, 1], 50), np.tile([0, 1, 0, 0], 25)
    assert calibrate(logits, right) is None, "all right: sharper is always better"
    assert calibrate(200 * logits, right) is None, "and no loss that could fall"
    assert calibrate(logits, 1 - right) is None, "all wrong: flatter is always better"
    assert calibrate(logits, half) is not None
    assert calibrate(logits[:49], half[:49]) is None, "too few"


def test_the_prediction_is_the_same_at_every_temperature() -> None:
    logits, _ = drawn(1.0, count=50)
    for temperature in (0.1, 7.0):
        shares = probabilities(logits, temperature)
        np.testing.assert_array_equal(shares.argmax(1), logits.argmax(1))
        np.testing.assert_allclose(shares.sum(1), 1.0)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.15, 0.15])
    correct = np.array([True, False, False, True])
    # Two bins of two images, each half right: 0.45 off and 0.35 off.
    assert expected_calibration_error(confidence, correct, num_bins=10) == pytest.approx(0.4)
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_calibration_error_against_a_loop(rows: list[tuple[float, bool]]) -> None:
    confidence = np.array([row[0] for row in rows])
    correct = np.array([row[1] for row in rows])
    expected = 0.0
    for bin_ in range(15):
        inside = np.ceil(confidence * 15) == bin_ + 1
        inside |= (bin_ == 0) & (confidence == 0)
        if inside.any():
            gap = abs(confidence[inside].mean() - correct[inside].mean())
            expected += gap * inside.mean()
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-12)


def test_a_finished_run_holds_the_temperature_of_its_validation_images(tmp_path: Path) -> None:
    config = small_config(
        "model.backbone=resnet8", "data.validation_fraction=0.3", "pretrain.batch_size=64"
    )
    run = pretrain(config, tmp_path / "run")
    found = read_calibration(run)
    assert found is not None
    data = prepare(config, torch.device("cpu"))
    network = open_run(run.path, torch.device("cpu")).network
    outputs = data.outputs(network, data.subsets.known_val)
    grid = np.geomspace(0.05, 20.0, 4000)
    scores = torch.tensor(outputs.known_logits, dtype=torch.float64)
    truth = torch.tensor(data.subsets.known_val.labels)
    losses = [torch.nn.functional.cross_entropy(scores / t, truth).item() for t in grid]
    assert found.temperature == pytest.approx(grid[int(np.argmin(losses))], rel=0.003)
    assert found.num_images == len(truth)
    known = run.read_metrics()["validation"]["known"]
    assert known["ece"] == {"before": found.ece_before, "after": found.ece_after}
    assert known["num_images"] == found.num_images
    assert known["acc"] == (scores.argmax(1) == truth).double().mean().item()


def test_a_run_without_validation_images_has_no_temperature(stage1: Path) -> None:
    assert not (stage1 / "calibration.json").exists()


@pytest.mark.parametrize(
    ("validation", "reason"),
    [
        (None, "the run held out no known images"),
        ({"acc": 0.9, "num_images": 49}, "held out 49 known images, and a temperature needs 50"),
        ({"acc": 1.0, "num_images": 50}, "determine no temperature"),
        # A run of an earlier version did not count them.
        ({"acc": 0.9}, "determine no temperature"),
    ],
)
def test_the_reason_of_a_missing_temperature_is_true(
    tmp_path: Path, validation: dict[str, float] | None, reason: str
) -> None:
    run = untrained_run(tmp_path / "run")
    if validation is not None:
        run.write_metrics({"validation": {"known": validation}})
    assert reason in missing_temperature(run)


@pytest.mark.parametrize(
    ("count", "end"),
    [
        (24, "images, or hold out more of them (--set data.validation_fraction=0.25)"),
        (12, "images, or hold out more of them (--set data.validation_fraction=0.45)"),
        (9, "give more known images"),
        (0, "give more known images"),
    ],
)
def test_the_fraction_that_is_named_holds_out_enough(tmp_path: Path, count: int, end: str) -> None:
    run = untrained_run(tmp_path / "run", "data.validation_fraction=0.1")
    run.write_metrics({"validation": {"known": {"num_images": count}}})
    assert missing_temperature(run).endswith(end)


@pytest.mark.parametrize("content", ["[]", "{}", '{"temperature": 1}', "1e999", "no"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    run = untrained_run(tmp_path / "run")
    (run.path / "calibration.json").write_text(content)
    with pytest.raises(InputError, match=r"calibration\.json"):
        read_calibration(run)


def test_a_temperature_of_zero_is_refused(tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run")
    sound = Calibration(1.5, 10, 1.0, 0.9, 0.2, 0.1)
    write_calibration(run, sound)
    assert read_calibration(run) == sound
    write_calibration(run, dataclasses.replace(sound, temperature=0.0))
    with pytest.raises(InputError, match="damaged"):
        read_calibration(run)

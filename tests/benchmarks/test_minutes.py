from __future__ import annotations

import time
from itertools import count

import pytest

from benchmarks.minutes import PLAIN, SWEEP, minutes_of
from crkd.stages.sweep.file import find_sweep, load_sweep
from tests.support.small_runs import small_config


@pytest.mark.usefixtures("few_images")
def test_minutes_are_the_time_of_a_step_times_the_steps(monkeypatch: pytest.MonkeyPatch):
    small = ("pretrain.batch_size=16", "discover.batch_size=32")
    configs = {
        "short": small_config(*small, "pretrain.epochs=1", "discover.epochs=2"),
        "long": small_config(*small, "pretrain.epochs=3", "discover.epochs=2"),
    }
    # Every look at the clock is 12 seconds after the one before; two steps are between two looks.
    looks = count()
    monkeypatch.setattr(time, "process_time", lambda: 12.0 * next(looks))
    found = minutes_of(configs, rounds=2, steps=2)
    assert found["long"][0] == pytest.approx(3 * found["short"][0])
    assert found["long"][1] == found["short"][1]
    # 0.1 minutes a step.
    assert found["short"][0] == pytest.approx(0.1 * round(found["short"][0] / 0.1))


def test_the_sweep_has_one_plain_configuration():
    names = [entry.name for entry in load_sweep(find_sweep(SWEEP), {"discover": ()}).configurations]
    assert sum(name.startswith(PLAIN) for name in names) == 1

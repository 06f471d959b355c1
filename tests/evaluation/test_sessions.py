from __future__ import annotations

import numpy as np
import pytest

from crkd.evaluation.sessions import plan_metrics, session_entry


def test_entry_of_a_session_counted_by_hand() -> None:
    outputs = np.array([0, 1, 0, 2, 2, 3, 3, 3])
    truth = np.array([0, 1, 1, 2, 2, 3, 3, 2])
    entry = session_entry(outputs, np.arange(4), truth, (2, 1, 1))
    found = {name: round(value, 3) for name, value in entry["hungarian"].items()}
    assert found == {"all": 0.75, "old": 0.667, "new": 0.8, "seen": 0.667, "unseen": 1.0}
    assert entry["acc"] == {"all": 0.75, "old": pytest.approx(4 / 6), "new": 1.0}


def test_forgetting_is_the_largest_drop_of_the_base_classes() -> None:
    def step(old: float, new: float | None, groups: list[float]) -> dict[str, object]:
        return {"hungarian": {"old": old, "new": new, "unseen": new}, "groups": groups}

    steps = [step(0.9, None, [0.9]), step(0.7, 0.6, [0.7, 0.6]), step(0.8, 0.4, [0.8, 0.5, 0.3])]
    found = plan_metrics(steps)
    assert found["max_forgetting"] == pytest.approx(0.2)
    assert found["mean_discovery"] == pytest.approx(0.5)

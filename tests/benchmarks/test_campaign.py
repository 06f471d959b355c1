"""Campaigns of trainings: what an interruption keeps, and what it does not begin."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks import campaign


class Trial(NamedTuple):
    number: int


class Pool(ThreadPoolExecutor):
    """A pool of threads of this process; work waits for its shutdown after the first trial."""

    closing = threading.Event()

    def __init__(self, jobs: int, *rest: object, **options: object) -> None:
        super().__init__(jobs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        self.closing.set()
        super().shutdown(wait=wait)


def test_an_interruption_begins_no_further_trial_and_keeps_the_finished_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, out, begun = [Trial(number) for number in range(5)], tmp_path / "rows.json", []

    def train(trial: Trial) -> dict[str, Any]:
        begun.append(trial.number)
        if trial.number:
            Pool.closing.wait(60)
        return {"square": trial.number**2}

    def interrupted(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(campaign, "ProcessPoolExecutor", Pool)
    with monkeypatch.context() as patch:
        patch.setattr(campaign, "_say", interrupted)
        with pytest.raises(KeyboardInterrupt):
            campaign.finished(trials, train, out)
    assert 0 in begun
    assert set(begun) <= {0, 1}, "one process works on one trial"
    # A process that is killed leaves half of its last line.
    kept = tmp_path / "rows.runs.jsonl"
    kept.write_bytes(kept.read_bytes() + b'{"run": {"num')
    begun.clear()
    Pool.closing.set()
    lines = campaign.finished(trials, train, out)
    assert [line["square"] for line in lines] == [0, 1, 4, 9, 16]
    assert 0 not in begun

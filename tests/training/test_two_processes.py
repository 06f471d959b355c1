"""Two gloo processes that divide every batch train as one process does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from crkd.core.batch_shard import BatchShard, shard_of
from crkd.core.errors import InputError
from crkd.stages.run_data import RunData
from tests.support.forked import forks
from tests.support.processes import (
    CASES,
    data_of_cases,
    first_views,
    loop_of,
    one_of_two,
    trained,
)

# Sums in another order, over some steps.
RELATIVE, ABSOLUTE = 1e-5, 1e-6
Results = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def data() -> RunData:
    return data_of_cases()


@pytest.fixture(scope="module")
def of_both(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """Final state of each of the two processes."""
    folder = tmp_path_factory.mktemp("processes")
    with forks(2) as pool:
        running = [pool.submit(one_of_two, rank, folder) for rank in (0, 1)]
        return [torch.load(process.result(600), weights_only=True) for process in running]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(
    name: str, of_both: list[Results], data: RunData, tmp_path: Path
) -> None:
    """Losses, terms, accuracies, weights, statistics, queues and priors after a few steps."""
    alone = trained(name, tmp_path, data)
    first, second = (results[name] for results in of_both)
    assert first.keys() == second.keys() == alone.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
        torch.testing.assert_close(
            value,
            alone[key],
            rtol=RELATIVE,
            atol=ABSOLUTE,
            msg=lambda text, key=key: f"{key}: {text}",
        )


def test_two_processes_make_the_views_that_one_would(
    of_both: list[Results], data: RunData, tmp_path: Path
) -> None:
    loader = loop_of("discover", tmp_path, data).loader
    whole = first_views(loader)
    for rank, results in enumerate(of_both):
        share = BatchShard(rank, 2, (loader.counts[0], loader.counts[1]))
        assert torch.equal(results["views"]["views"], share.own(whole, 1))


def test_a_share_is_refused_where_a_process_would_have_no_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crkd.core.batch_shard.processes", lambda: (0, 4))
    with pytest.raises(InputError, match=r"3 labeled and 9 unlabeled .* 4 processes"):
        shard_of((3, 9))
    assert shard_of((0, 9)) == BatchShard(0, 4, (0, 9))

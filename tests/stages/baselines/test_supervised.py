from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crkd.core.errors import InputError
from crkd.stages.baselines.supervised import _with_all_labels, supervised_upper_bound
from crkd.stages.run_data import prepare
from tests.support.small_runs import small_config


def test_a_long_tail_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.imbalance is 10, but the supervised upper bound"):
        supervised_upper_bound(small_config("data.imbalance=10"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("labeled_fraction", [0.5, 1.0])
def test_held_out_images_that_are_evaluated_are_not_trained_on(labeled_fraction: float) -> None:
    config = small_config(
        f"data.labeled_fraction={labeled_fraction}", "data.validation_fraction=0.2"
    )
    data = prepare(config, torch.device("cpu"))
    every = _with_all_labels(config, data)
    held = set(data.subsets.known_val.ids)
    assert held
    assert not held & set(every.subsets.known_train.ids)
    # All other images of the known classes take part, but for those that the bound holds out.
    used = {*every.subsets.known_train.ids, *every.subsets.known_val.ids, *held}
    assert {*data.subsets.known_train.ids, *data.subsets.unlabeled.ids} <= used

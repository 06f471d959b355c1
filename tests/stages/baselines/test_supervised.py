from __future__ import annotations

from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.stages.baselines.supervised import supervised_upper_bound
from tests.support.small_runs import small_config


def test_a_long_tail_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.imbalance is 10, but the supervised upper bound"):
        supervised_upper_bound(small_config("data.imbalance=10"), tmp_path / "run")
    assert not (tmp_path / "run").exists()

from __future__ import annotations

from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.runs.stability import read_stability, write_stability
from tests.support.untrained_runs import untrained_run


def test_what_is_written_is_read(tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run")
    assert read_stability(run) == {}
    write_stability(run, {"novel-0": 1.0, "novel-1": 1 / 3})
    assert read_stability(run) == {"novel-0": 1.0, "novel-1": 1 / 3}


@pytest.mark.parametrize("content", ["[]", '{"a": "b"}', '{"a": NaN}', "no"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    run = untrained_run(tmp_path / "run")
    (run.path / "stability.json").write_text(content)
    with pytest.raises(InputError, match=r"stability\.json"):
        read_stability(run)

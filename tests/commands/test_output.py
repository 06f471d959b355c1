"""Lines that commands print about a run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from crkd.commands.output import print_protocols
from tests.support.untrained_runs import untrained_run


def test_the_next_command_can_be_pasted_into_a_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained_run(tmp_path / 'It\'s "my" photographs & more' / ("long" * 20))
    print_protocols(run)
    *_, last = capsys.readouterr().out.splitlines()
    assert shlex.split(last) == ["next:", "crkd", "review", str(run.path)]

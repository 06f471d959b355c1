"""Lines that commands print about a run."""

from __future__ import annotations

import dataclasses
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


def test_vectors_without_images_are_not_sent_to_a_review(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained_run(tmp_path / "run")
    architecture = {**run.read_info().architecture, "backbone": "vectors"}
    for embedding, printed in ((None, False), ({"backbone": "lite0"}, True)):
        info = dataclasses.replace(run.read_info(), architecture=architecture, embedding=embedding)
        run.write_info(info)
        print_protocols(run)
        assert ("next: crkd review" in capsys.readouterr().out) is printed

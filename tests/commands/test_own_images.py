"""Flags of own images are refused where they would not be used."""

from __future__ import annotations

import pytest

from crkd.commands.main import run_verb


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--novel", "new"], "--known is not given, and --novel 'new' is not for the data set"),
        (["--set", "data.novel=new"], "--known is not given"),
        (["--set", "data.known=old"], "--known 'old' is for own images, and the data set is"),
        (["--dataset", "digits", "--known", "old"], "give --dataset folder, or leave --known out"),
    ],
)
def test_own_images_are_not_ignored(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("check-data", flags) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""

from __future__ import annotations

from pathlib import Path

import pytest

from crkd.core.errors import InputError
from crkd.runs.appended_lines import AppendedLines


def test_lines_come_back_in_their_order(tmp_path: Path) -> None:
    lines = AppendedLines(tmp_path / "a.jsonl")
    assert list(lines.read()) == []
    lines.append([{"a": 1}, {"name": "caf\udce9\n"}])
    lines.append([])
    lines.append([{"b": None}])
    assert list(lines.read()) == [{"a": 1}, {"name": "caf\udce9\n"}, {"b": None}]


def test_a_file_cut_at_any_byte_keeps_its_complete_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    values = [{"n": n, "text": "x" * n} for n in range(4)]
    AppendedLines(path).append(values)
    content = path.read_bytes()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        kept = content[:size].count(b"\n")
        assert list(AppendedLines(path).read()) == values[:kept]
        AppendedLines(path).append([{"next": size}])
        assert list(AppendedLines(path).read()) == [*values[:kept], {"next": size}]


def test_a_long_incomplete_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for before in (b"", b'{"a": 1}\n'):
        path.write_bytes(before + b"x" * 200_000)
        assert len(list(AppendedLines(path).read())) == before.count(b"\n")
        assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [b"{\n", b"[1]\n", b"\0\0\n", b"\xff\n"])
def test_a_damaged_line_is_refused(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + damage + b'{"a": 2}\n')
    with pytest.raises(InputError, match=r"line 2 of .*a\.jsonl is damaged"):
        list(AppendedLines(path).read())


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        AppendedLines(tmp_path / "missing" / "a.jsonl").append([{"a": 1}])


def test_a_link_is_refused_and_its_target_keeps_its_last_line(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.write_text("no line end")
    lines = AppendedLines(tmp_path / "a.jsonl")
    lines.path.symlink_to(target)
    with pytest.raises(InputError, match=r"a\.jsonl is a symbolic link"):
        list(lines.read())
    with pytest.raises(InputError, match=r"a\.jsonl is a symbolic link"):
        lines.append([{"a": 1}])
    assert target.read_text() == "no line end"

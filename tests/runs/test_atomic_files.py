from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.runs.atomic_files import MAX_JSON, load_tensors, read_json, save_tensors, write_json


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).view(2, 3), "b": torch.tensor(1.5, dtype=torch.float64)}
    digest = save_tensors(tmp_path / "x.safetensors", tensors, {"step": 3})
    loaded, metadata = load_tensors(tmp_path / "x.safetensors", digest)
    assert metadata == {"step": 3}
    assert all(torch.equal(loaded[n], t) and loaded[n].dtype == t.dtype for n, t in tensors.items())


def test_a_write_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f.json"
    write_json(file, {"old": 1})

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crkd.core.atomic_write.os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_json(file, {"new": 2})
    assert read_json(file) == {"old": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["f.json"]


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    digest = save_tensors(file, {"a": torch.arange(4.0)}, {"step": 3})
    content = file.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 0x40
        file.write_bytes(damaged)
        with pytest.raises(InputError, match="SHA-256"):
            load_tensors(file, digest)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 7, b"\xff" * 64, b"{}", b"\x02" + b"\0" * 7 + b"{}"]
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError, match="damaged or not of this program"):
        load_tensors(file)


def test_bytes_of_a_name_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    value = {"caf\udce9.png": "naïve 猫"}
    write_json(tmp_path / "f.json", value)
    assert read_json(tmp_path / "f.json") == value
    assert "naïve 猫" in (tmp_path / "f.json").read_text(encoding="utf-8")


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "f.json", {"x": float("nan")})


def test_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_bytes(tmp_path / "file" / "below", b"x")


def test_a_file_without_end_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f"
    file.touch()
    honest = Path.open

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        assert path != file, "the file is read"
        return honest(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    os.truncate(file, MAX_JSON + (1 << 20))
    with pytest.raises(InputError, match=r"f has 65\.0 MiB, but at most 64\.0 MiB are read"):
        read_json(file)
    # A file with a hole may be larger than any memory.
    os.truncate(file, 1 << 40)
    with pytest.raises(InputError, match=r"f' needs 2\.0 TiB of memory, .*; restore it, or use a"):
        load_tensors(file)

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from crkd.core.errors import InputError
from crkd.training.soft_label_files import INDEX, LabelStore

ORIGIN = {"teacher": "abc", "seed": 3, "views": {"scale": (0.5, 1.0)}}


def record(value: int) -> dict[str, torch.Tensor]:
    return {
        "index": torch.full((4, 2, 1), value, dtype=torch.uint8),
        "value": torch.rand(4, 2, 1),
    }


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    store = LabelStore(tmp_path / "labels", ORIGIN)
    for epoch in range(2):
        store.write(epoch, record(epoch))
    return tmp_path / "labels"


def test_what_was_written_comes_back(tmp_path: Path):
    store = LabelStore(tmp_path, ORIGIN)
    given = record(7)
    assert 5 not in store
    store.write(5, given)
    again = LabelStore(tmp_path, ORIGIN)
    assert 5 in again
    assert 4 not in again
    found = again.read(5)
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], given[name]) for name in given)
    assert all(found[name].dtype == given[name].dtype for name in given)


def test_nothing_is_made_before_the_first_label(tmp_path: Path):
    LabelStore(tmp_path / "labels", ORIGIN)
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("teacher", "abd"), ("seed", 4), ("views", {"scale": [0.4, 1.0]})]
)
def test_labels_of_another_origin_are_refused(filled: Path, key: str, value: object):
    with pytest.raises(
        InputError, match=rf"labels of another origin \(different: {key}\); delete it, or use"
    ):
        LabelStore(filled, {**ORIGIN, key: value})


def test_a_file_that_the_page_does_not_name_is_unfinished(filled: Path):
    page = json.loads((filled / INDEX).read_text())
    del page["files"]["epoch-0001.safetensors"]
    (filled / INDEX).write_text(json.dumps(page))
    store = LabelStore(filled, ORIGIN)
    assert 1 not in store
    store.write(1, record(9))
    assert LabelStore(filled, ORIGIN).read(1)["index"].unique().tolist() == [9]


def test_one_changed_bit_is_noticed(filled: Path):
    file = filled / "epoch-0001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    store = LabelStore(filled, ORIGIN)
    assert store.read(0)["index"].unique().tolist() == [0]
    with pytest.raises(InputError, match=r"differs from the file this run wrote.*or delete"):
        store.read(1)


def test_a_missing_or_swapped_file_is_noticed(filled: Path):
    first, second = (filled / f"epoch-000{n}.safetensors" for n in range(2))
    second.write_bytes(first.read_bytes())
    first.unlink()
    store = LabelStore(filled, ORIGIN)
    with pytest.raises(InputError, match=r"cannot be read.*or delete"):
        store.read(0)
    with pytest.raises(InputError, match="differs from the file"):
        store.read(1)


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"origin": {}}', '{"origin": 3, "files": {}}', '{"origin": {}, "fi']
)
def test_a_damaged_page_is_refused(filled: Path, content: str):
    (filled / INDEX).write_text(content)
    with pytest.raises(InputError, match=r"labels\.json"):
        LabelStore(filled, ORIGIN)

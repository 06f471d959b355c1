import builtins
import io
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crkd.core.errors import InputError
from crkd.data.check_dataset import check_dataset
from crkd.data.sources.folder import folder_dataset, training_size
from crkd.data.splits.partition import partition


def picture(path: Path, color: int = 0, size: tuple[int, int] = (40, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (color, 0, 0)).save(path, "PNG")
    return path


@pytest.fixture
def known(tmp_path: Path) -> Path:
    for name in ("cat", "ant"):
        for number in range(3):
            picture(tmp_path / f"known/{name}/{number}.png", number)
    return tmp_path / "known"


def test_a_folder_a_class_and_hidden_labels(known: Path, tmp_path: Path) -> None:
    picture(tmp_path / "novel/yak/deep/er/1.png")
    picture(tmp_path / "novel/bee/1.png")
    picture(tmp_path / "novel/bee/2.jpeg")
    lines: list[str] = []
    dataset, split = folder_dataset(known, tmp_path / "novel", log=lines.append)
    assert dataset.class_names == ("ant", "cat", "bee", "yak")
    assert (split.known, split.novel) == ((0, 1), (2, 3))
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3]
    assert dataset.train.ids[0] == "known/ant/0.png"
    assert dataset.train.ids[-1] == "novel/yak/deep/er/1.png"
    assert dataset.test is None
    assert any("hidden labels" in line and "give --num-novel K" in line for line in lines)
    split.check(dataset)
    parts = partition(dataset, split, validation_fraction=0.0, seed=0)
    assert parts.unlabeled.labels.tolist() == [-1, -1, -1]
    assert parts.hidden.unlabeled().tolist() == [2, 2, 3]
    assert len(parts.test) == 0


@pytest.mark.parametrize("extra", ["novel/loose.png", None])
def test_no_hidden_labels_without_folders_for_all(
    known: Path, tmp_path: Path, extra: str | None
) -> None:
    picture(tmp_path / "novel/one/1.png")
    if extra is not None:
        picture(tmp_path / "novel/two/1.png")
        picture(tmp_path / extra)
    dataset, split = folder_dataset(known, tmp_path / "novel")
    assert split.novel == ()
    assert set(dataset.train.labels[6:].tolist()) == {-1}
    parts = partition(dataset, split, validation_fraction=0.0, seed=0)
    assert len(parts.unlabeled) == (3 if extra else 1)
    assert set(parts.hidden.unlabeled().tolist()) == {-1}


def test_novel_folder_with_a_known_name_never_becomes_labeled(known: Path, tmp_path: Path) -> None:
    picture(tmp_path / "novel/cat/1.png")
    picture(tmp_path / "novel/bee/1.png")
    dataset, split = folder_dataset(known, tmp_path / "novel")
    assert dataset.class_names == ("ant", "cat", "bee", "cat (novel)")
    parts = partition(dataset, split, validation_fraction=0.0, seed=0)
    assert len(parts.known_train) == 6
    assert len(parts.unlabeled) == 2


def test_in_the_mixed_setting_it_is_the_known_class_without_a_label(
    known: Path, tmp_path: Path
) -> None:
    picture(tmp_path / "novel/cat/1.png")
    picture(tmp_path / "novel/bee/1.png")
    dataset, split = folder_dataset(known, tmp_path / "novel", mixed=True)
    assert split.joint_names == ("ant", "cat", "bee")
    assert len(split.novel) == 1
    parts = partition(dataset, split, validation_fraction=0.0, seed=0)
    assert len(parts.known_train) == 6
    assert parts.unlabeled.labels.tolist() == [-1, -1]
    assert parts.hidden.unlabeled().tolist() == [2, 1]


def test_unlabeled_images_do_not_fill_an_empty_class_folder(known: Path, tmp_path: Path) -> None:
    (known / "yak").mkdir()
    picture(tmp_path / "novel/yak/1.png")
    picture(tmp_path / "novel/bee/1.png")
    with pytest.raises(InputError, match=r"yak.* hold no image"):
        folder_dataset(known, tmp_path / "novel", mixed=True)


def no_opening(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """Fail where a file with a suffix is opened: a named pipe would wait for ever."""
    honest = io.open

    def guarded(file, *arguments, **options):  # type: ignore[no-untyped-def]
        assert not str(file).endswith(suffix), f"{file} was opened"
        return honest(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", guarded)
    monkeypatch.setattr(io, "open", guarded)


@pytest.mark.parametrize("place", ["known/cat", "novel"])
@pytest.mark.parametrize("kind", ["a named pipe", "a socket"])
def test_a_file_that_is_not_regular_is_refused_by_name_without_opening_it(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kind: str
) -> None:
    picture(tmp_path / "novel/1.png")
    odd = tmp_path / place / "odd.png"
    with socket.socket(socket.AF_UNIX) as bound:
        if kind == "a socket":
            # The path of a socket must be short.
            monkeypatch.chdir(odd.parent)
            bound.bind(odd.name)
        else:
            os.mkfifo(odd)
        no_opening(monkeypatch, odd.name)
        message = rf"1 of 8 images cannot be read: .*odd\.png \({kind}, not a regular file\)"
        with pytest.raises(InputError, match=message):
            folder_dataset(known, tmp_path / "novel")
        kept = folder_dataset(known, tmp_path / "novel", skip_unreadable=True)[0].train
        assert len(kept) == 7
        # Listed, not checked: reading the split must not wait either.
        listed = folder_dataset(known, tmp_path / "novel", verify=False, image_size=32)[0].train
        assert [listed.fingerprint(row) for row in range(8)].count(b"") == 1


def test_one_class_is_an_error(tmp_path: Path) -> None:
    picture(tmp_path / "known/cat/1.png")
    with pytest.raises(InputError, match="has only the class folder 'cat'; give"):
        folder_dataset(tmp_path / "known")


def test_empty_class_is_an_error(known: Path) -> None:
    (known / "dog").mkdir()
    (known / "dog" / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match="class folders dog"):
        folder_dataset(known)


def test_missing_empty_and_overlapping_folders(known: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--known .*is not a folder"):
        folder_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"--novel .*is not a folder"):
        folder_dataset(known, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"--novel .*holds no image"):
        folder_dataset(known, tmp_path / "empty")
    for novel in (known, known / "cat", tmp_path):
        with pytest.raises(InputError, match="contains the other"):
            folder_dataset(known, novel)


def test_image_outside_a_class_folder(known: Path) -> None:
    picture(known / "stray.png")
    with pytest.raises(InputError, match=r"stray\.png"):
        folder_dataset(known)


def test_each_class_folder_is_walked_once(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (known / "ant/deep").mkdir()
    listed: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda place: listed.append(Path(place).name) or scan(place))
    folder_dataset(known, verify=False)
    assert [listed.count(name) for name in ("ant", "deep", "cat")] == [1, 1, 1]


def test_unreadable_images_are_listed_or_left_out(known: Path) -> None:
    (known / "cat" / "bad.jpg").write_bytes(b"not an image")
    whole = (known / "ant" / "0.png").read_bytes()
    (known / "ant" / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="2 of 8 images") as caught:
        folder_dataset(known)
    for part in ("bad.jpg", "half.png", "--skip-unreadable"):
        assert part in str(caught.value)
    unseen, _ = folder_dataset(known, verify=False)
    assert [len(part.unreadable) for part in check_dataset(unseen).parts] == [2]
    lines: list[str] = []
    dataset, _ = folder_dataset(known, skip_unreadable=True, log=lines.append)
    assert len(dataset.train) == 6
    assert any("left out 2 of 8" in line for line in lines)


def test_class_whose_images_are_all_unreadable(known: Path) -> None:
    picture(known / "dog/x.png").write_bytes(b"")
    with pytest.raises(InputError, match="class folders dog"):
        folder_dataset(known, skip_unreadable=True)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_odd_names(tmp_path: Path) -> None:
    names = ["a b", "ünï — 猫", "<b>'\"&", "=1+1", "no"]
    for name in names:
        picture(tmp_path / "known" / name / "x y.PNG")
    raw = os.fsencode(tmp_path / "known") + b"/bytes\xff"
    os.mkdir(raw)
    picture(Path(os.fsdecode(raw)) / "1.png", color=9)
    dataset, _ = folder_dataset(tmp_path / "known")
    assert set(dataset.class_names) == {*names, r"bytes\xff"}
    for name in (*dataset.class_names, *dataset.train.ids):
        assert name.encode("utf-8").decode("utf-8") == name
    row = list(dataset.train.ids).index(r"known/bytes\xff/1.png")
    assert dataset.train.read(row)[0, 0, 0] == 9


def test_hidden_files_and_link_loops_are_passed_over(known: Path) -> None:
    picture(known / "cat/.thumbnail.png")
    picture(known / ".cache/1.png")
    (known / "cat" / "loop").symlink_to(known)
    dataset, _ = folder_dataset(known)
    assert len(dataset.train) == 6


def test_a_training_size_may_be_limited() -> None:
    said: list[str] = []
    assert training_size([500, 90, 700], said.append) == 224
    assert training_size([500, 90, 700], said.append, largest=64) == 64
    assert training_size([40, 20, 700], said.append, largest=64) == 32
    assert said[1] == "a training uses images of 64 px (median shorter side 500 px)"


@pytest.mark.parametrize(("side", "expected"), [(8, 32), (40, 32), (70, 64), (300, 224)])
def test_training_size_follows_the_images(tmp_path: Path, side: int, expected: int) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"known/{name}/1.png", size=(side, side + 5))
    for way in ({}, {"verify": False}, {"skip_unreadable": True}):
        assert folder_dataset(tmp_path / "known", **way)[0].image_size == expected
    assert folder_dataset(tmp_path / "known", image_size=48)[0].image_size == 48


def test_order_does_not_depend_on_when_files_were_written(tmp_path: Path) -> None:
    for number in np.random.default_rng(0).permutation(20):
        picture(tmp_path / f"known/{number % 2}/{number:02d}.png")
    ids = list(folder_dataset(tmp_path / "known")[0].train.ids)
    assert ids == sorted(ids)

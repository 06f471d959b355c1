from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crkd.commands.verbs import parsers
from crkd.inference.watching.state import Outlier
from crkd.review.unknown_images import FOLDER, LIST, PICTURE, write_unknown
from tests.support.untrained_runs import save_noise

Make = Callable[..., list[Outlier]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that saves images and returns them as outliers."""

    def made(*names: str) -> list[Outlier]:
        for name in names:
            save_noise(tmp_path / "inbox" / name, len(name))
        return [Outlier(name, f"{n}" * 64, "cat", np.zeros(2)) for n, name in enumerate(names, 1)]

    return made


def write(place: Path, *groups: list[Outlier]) -> str | None:
    (place / "state").mkdir(exist_ok=True)
    return write_unknown(place / "state", place / "inbox", groups, place / "my runs")


def files_of(place: Path) -> set[str]:
    return {path.name for path in (place / "state" / FOLDER).iterdir()}


def test_the_files_and_the_command(make: Make, tmp_path: Path) -> None:
    outliers = make("a.png", "sub/b.PNG", "new\nline.png")
    command = write(tmp_path, outliers[:2], outliers[2:])
    text = (tmp_path / "state" / LIST).read_text().splitlines()
    inbox = tmp_path / "inbox"
    assert text[0] == f"# next: {command}"
    assert text[2:5] == ["# group 1: 2 images", f"{inbox}/a.png", f"{inbox}/sub/b.PNG"]
    assert text[6:] == ["# group 2: 1 image", f"{inbox}/new\\nline.png"]
    assert files_of(tmp_path) == {f"{n}" * 16 + ".png" for n in range(1, 4)}
    assert command is not None
    words = shlex.split(command)[2:]
    given = parsers("discover")[1]["discover"].parse_args(words)
    assert given.parent == str(tmp_path / "my runs")
    assert (given.novel, given.num_novel) == (str(tmp_path / "state" / FOLDER), "2")


def test_the_folder_follows_the_groups(make: Make, tmp_path: Path) -> None:
    first, second, third = make("a.png", "b.png", "c.png")
    write(tmp_path, [first, second])
    assert files_of(tmp_path) == {"1" * 16 + ".png", "2" * 16 + ".png"}
    write(tmp_path, [second, third])
    assert files_of(tmp_path) == {"2" * 16 + ".png", "3" * 16 + ".png"}
    content = (tmp_path / "inbox" / "c.png").read_bytes()
    (tmp_path / "inbox" / "c.png").unlink()
    assert (tmp_path / "state" / FOLDER / ("3" * 16 + ".png")).read_bytes() == content
    assert write(tmp_path) is None
    assert not (tmp_path / "state" / LIST).exists()


def test_files_of_a_person_stay_in_the_folder(make: Make, tmp_path: Path) -> None:
    first, second = make("a.png", "b.png")
    write(tmp_path, [first])
    folder = tmp_path / "state" / FOLDER
    (folder / "mine").mkdir()
    save_noise(folder / "mine.png", 3)
    # What a process was killed at.
    (folder / f".{'1' * 16}.png.unfinished").touch()
    write(tmp_path, [second])
    assert files_of(tmp_path) == {"2" * 16 + ".png", "mine.png", "mine"}


def test_without_hard_links_the_images_are_copied(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(old: Path, new: Path) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    write(tmp_path, make("a.png"))
    (copy,) = (tmp_path / "state" / FOLDER).iterdir()
    assert copy.read_bytes() == (tmp_path / "inbox" / "a.png").read_bytes()
    assert copy.stat().st_nlink == 1


def test_unchanged_groups_are_not_written_again(make: Make, tmp_path: Path) -> None:
    outliers = make("a.png", "b.png")
    write(tmp_path, outliers)
    before = (tmp_path / "state" / LIST).stat().st_mtime_ns
    picture = tmp_path / "state" / PICTURE
    picture.unlink()
    write(tmp_path, outliers)
    assert (tmp_path / "state" / LIST).stat().st_mtime_ns == before
    assert not picture.exists()


def test_the_picture_has_one_row_for_each_group(make: Make, tmp_path: Path) -> None:
    outliers = make("a.png", "b.png", "c.png")
    sizes = []
    for groups in ([outliers], [outliers[:1], outliers[1:]]):
        write(tmp_path, *groups)
        with Image.open(tmp_path / "state" / PICTURE) as image:
            sizes.append(image.size)
    assert sizes[0][0] == sizes[1][0]
    assert 1.5 < sizes[1][1] / sizes[0][1] < 2

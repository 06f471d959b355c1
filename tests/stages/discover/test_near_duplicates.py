from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crkd.commands.main import main
from crkd.data.sources import files
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import Pixels
from crkd.data.sources.decode import decode_image
from crkd.data.storage.resize import fit_square
from crkd.stages.discover.near_duplicates import SmallSquares


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Six known images of smooth noise, six new ones, and two of the known ones saved again."""
    generator = np.random.default_rng(0)

    def picture() -> Image.Image:
        small = generator.integers(0, 255, (5, 5, 3), dtype=np.uint8)
        return Image.fromarray(small).resize((40, 40), Image.Resampling.BICUBIC)

    known, novel = tmp_path / "known", tmp_path / "novel"
    novel.mkdir()
    for number in range(6):
        place = known / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        image = picture()
        image.save(place / f"{number}.png")
        picture().save(novel / f"new{number}.png")
        if number < 2:
            darker = image.point(lambda value: 0.8 * value + 20).resize((64, 64))
            darker.save(novel / f"again{number}.jpg", quality=85)
    return known, novel


def test_a_picture_saved_again_is_found(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["check-data", "--known", str(folders[0]), "--novel", str(folders[1])]
    assert main([*flags, "--near-duplicates"]) == 0
    notice = next(line for line in capsys.readouterr().out.splitlines() if "nearly repeat" in line)
    assert notice.startswith("2 unlabeled images")
    assert "again0.jpg shows" in notice
    assert "again1.jpg shows" in notice
    assert "new" not in notice.split(": ", 1)[1]
    assert main(flags) == 0
    assert "nearly repeat" not in capsys.readouterr().out
    assert main([*flags, "--near-duplicates", "3"]) == 2
    assert "cosine is 3" in capsys.readouterr().err


def test_each_image_is_decoded_once(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []

    def noted(data: Path, where: str, *, at_least: int | None = None) -> Pixels:
        decoded.append(data)
        return decode_image(data, where, at_least=at_least)

    monkeypatch.setattr(files, "decode_image", noted)
    known, novel = folders
    assert (
        main(["check-data", "--known", str(known), "--novel", str(novel), "--near-duplicates"]) == 0
    )
    assert sorted(decoded) == sorted([*known.rglob("*.png"), *novel.iterdir()])
    decoded.clear()
    # There is nothing to search in, which is clear before the work.
    assert main(["check-data", "--novel", str(novel), "--near-duplicates"]) == 2
    assert not decoded


@pytest.mark.parametrize(("size", "side"), [(96, 32), (24, 24)])
def test_small_squares_are_those_of_the_images_that_were_read(size: int, side: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    source = SmallSquares(ArraySource(images, [0, 1, -1], ["a", "b"]), size)
    for row in (2, 0):
        np.testing.assert_array_equal(source.read(row), images[row])
        np.testing.assert_array_equal(source.squares[row], fit_square(images[row], side))
    assert source.squares.shape == (3, 3, side, side)
    assert not source.squares[1].any()

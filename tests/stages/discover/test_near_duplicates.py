from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crkd.commands.main import main


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

from __future__ import annotations

from pathlib import Path

import pytest

from crkd.commands.main import main
from tests.support.color_folders import color_folders


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A discovery on vectors of images; ``known`` and ``novel`` next to it hold the images."""
    root = tmp_path_factory.mktemp("photographs")
    color_folders(root)
    out = root / "run"
    arguments = ["--known", str(root / "known"), "--novel", str(root / "novel")]
    arguments += ["--num-novel", "2", "--image-size", "64", "--runtime", "torch"]
    arguments += ["--method", "whitened_kmeans", "--out", str(out)]
    assert main(["discover", *arguments]) == 0
    return out

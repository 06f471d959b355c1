"""Whether a step on images is refused because its images look like known classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.core.errors import InputError
from crkd.data.datasets.base import load_dataset
from crkd.stages.discover import parent
from crkd.stages.pretrain.run import pretrain
from tests.support.small_runs import small_config

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def every_image_looks_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """To this check, all images look like those of known classes, as to a weak network."""
    monkeypatch.setattr(parent, "ONLY_KNOWN", 0.0)
    monkeypatch.setattr(parent, "MAX_KNOWN_AUROC", 1.0)


def test_novel_images_of_a_split_need_not_look_novel(stage1: Path) -> None:
    start = parent.open_parent(small_config("discover.labeled=false"), stage1, CPU)
    assert len(start.data.subsets.known_train) == 0
    count = len(start.data.subsets.unlabeled)
    (note,) = (note for note in start.notes if "near to the known classes" in note)
    assert f" of {count} unlabeled images are as near" in note


def test_a_split_of_other_classes_does_not_say_so(stage1: Path) -> None:
    """Its novel classes may be the very classes that stage 1 has learned."""
    config = small_config("discover.labeled=false", "class_order_seed=1")
    with pytest.raises(InputError, match=r"look like classes that .* no class is added"):
        parent.open_parent(config, stage1, CPU)


def test_folders_do_not_say_so_either(tmp_path: Path) -> None:
    """The unlabeled folder may hold known images by mistake."""
    source = load_dataset("digits").train
    for digit, part in ((0, "known/0"), (1, "known/1"), (2, "novel")):
        (tmp_path / part).mkdir(parents=True)
        for row in np.flatnonzero(source.labels == digit)[:24].tolist():
            Image.fromarray(source.read(row)).save(tmp_path / part / f"{row}.png")
    data = {name: str(tmp_path / name) for name in ("known", "novel")}
    few = ("pretrain.batch_size=8", "discover.labeled=false", "discover.num_novel=2")
    config = small_config(*few, dataset="folder", data=data | {"image_size": 16})
    stage1 = pretrain(config, tmp_path / "stage-1").path
    with pytest.raises(InputError, match=r"look like classes that .* no class is added"):
        parent.open_parent(config, stage1, CPU)

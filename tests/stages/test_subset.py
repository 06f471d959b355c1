"""``data.subset``: a smaller data set for smoke tests, never taken for the whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from crkd.core.device import pick_device
from crkd.core.errors import InputError
from crkd.runs.search import find_stage1, is_stage1
from crkd.stages.discover.run import discover
from crkd.stages.load_images import split_entry, split_of
from crkd.stages.pretrain.run import pretrain
from crkd.stages.run_data import prepare
from crkd.stages.vectors.data import vector_data
from tests.support.small_runs import small_config
from tests.support.vector_clouds import cloud_files, config_of

SUBSET = "data.subset=0.1"
NOTE = "on a subset of the data for smoke tests: 10 % of each class"


def test_a_whole_discovery_does_not_start_from_a_stage_1_of_a_subset(tmp_path: Path) -> None:
    config = small_config(SUBSET, "discover.batch_size=32")
    info = pretrain(config, tmp_path / "stage1").read_info()
    assert NOTE in info.notes
    assert info.split["subset"] == "0.1"
    place = {"dataset": "digits", "seed": 0}
    known = split_entry(split_of(config), 1.0, 0.1)["known"]
    assert find_stage1([tmp_path], known=known, **place) is not None
    for subset in (1.0, 0.2):
        other = split_entry(split_of(config), 1.0, subset)["known"]
        assert not is_stage1(info, "digits", other)
        assert find_stage1([tmp_path], known=other, **place) is None

    with pytest.raises(InputError, match=r"the same .* data\.subset"):
        discover(small_config("discover.batch_size=32"), tmp_path / "whole", tmp_path / "stage1")
    assert not (tmp_path / "whole").exists()
    found = discover(config, tmp_path / "smoke", tmp_path / "stage1").read_info()
    assert NOTE in found.notes
    whole = small_config("discover.labeled=false", "discover.batch_size=32")
    with pytest.raises(InputError, match=r"stage1 was made with data\.subset 0\.1, this .* 1;"):
        discover(whole, tmp_path / "whole", tmp_path / "stage1")


def test_images_of_a_named_data_set() -> None:
    data = prepare(small_config(SUBSET), pick_device("cpu"))
    subsets = data.subsets
    # A tenth of the 721 labeled, 717 unlabeled and 359 test images, rounded for each digit.
    sizes = [len(part) for part in (subsets.known_train, subsets.unlabeled, subsets.test)]
    assert sizes == [72, 71, 40]
    whole = prepare(small_config(), pick_device("cpu"))
    assert whole.notes == []
    assert set(subsets.unlabeled.ids) < set(whole.subsets.unlabeled.ids)


def test_feature_vectors(tmp_path: Path) -> None:
    files = cloud_files(tmp_path)
    whole, smaller = (vector_data(config_of(files, *more)) for more in ((), (SUBSET,)))
    assert len(smaller.subsets.unlabeled) == round(0.1 * len(whole.subsets.unlabeled))
    vectors = smaller.of(smaller.subsets.unlabeled)
    assert len(vectors) == len(smaller.subsets.unlabeled)
    assert NOTE in smaller.notes
    assert smaller.split_entry()["subset"] == "0.1"

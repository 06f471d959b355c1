"""Each frozen network sees each image once in a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from crkd.stages import run_data
from crkd.stages.discover.run import discover
from crkd.stages.run_data import RunData
from tests.support.small_runs import small_config


@pytest.mark.usefixtures("few_draws")
def test_each_network_sees_each_image_once(tmp_path: Path, stage1_held_out: Path) -> None:
    """With filter, class count, k-means prototypes, baseline and statistics."""
    config = small_config(
        "discover.mixed=true",
        "data.validation_fraction=0.2",
        "discover.prototypes=kmeans",
        "discover.num_novel=auto",
    )
    passes: Counter[int] = Counter()
    images: Counter[int] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        forward = run_data.forward_store

        def counted(network, store, *rest, **options):
            passes[id(network.backbone)] += 1
            images[id(network.backbone)] += len(store)
            return forward(network, store, *rest, **options)

        patch.setattr(run_data, "forward_store", counted)
        seen: list[RunData] = []
        prepare = run_data.prepare
        patch.setattr(
            "crkd.stages.discover.parent.prepare",
            lambda *given, **named: seen.append(prepare(*given, **named)) or seen[-1],
        )
        discover(config, tmp_path / "run", stage1_held_out)
    subsets = seen[0].subsets
    everything = sum(
        len(part)
        for part in (subsets.known_train, subsets.known_val, subsets.unlabeled, subsets.test)
    )
    assert len(passes) == 2, "the teacher and the finished student"
    assert max(passes.values()) <= 4
    assert max(images.values()) <= everything

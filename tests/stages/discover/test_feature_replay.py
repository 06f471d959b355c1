from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy import stats

from crkd.clustering.low_rank_gaussians import ClassStatistics, class_statistics
from crkd.core.errors import InputError
from crkd.stages.discover.feature_replay import FeatureReplay, load_replay, save_replay


def statistics() -> ClassStatistics:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(50)
    features = torch.randn(150, 5, generator=generator) + 20.0 + 10.0 * labels[:, None]
    return class_statistics(features, labels, 3, rank=2)


def test_every_class_comes_equally_often():
    replay = FeatureReplay(statistics(), 4, seed=1)
    classes = torch.cat([replay()[1] for _ in range(6)])
    assert classes.bincount().tolist() == [8, 8, 8]


def test_draws_are_normal_and_never_repeat():
    centered = statistics()
    plain = ClassStatistics(
        centered.means * 0 + 100.0, centered.factors * 0, torch.ones_like(centered.residual)
    )
    replay = FeatureReplay(plain, 2000, seed=1)
    first, second = replay()[0] - 100.0, replay()[0] - 100.0
    assert stats.kstest(first.flatten().numpy(), "norm").pvalue > 1e-3
    # Near 100 a float32 is a multiple of 2^-17, so that a few of 10,000 draws coincide.
    assert first.flatten().unique().numel() > 0.98 * first.numel()
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.03
    columns = torch.corrcoef(first.T) - torch.eye(5)
    assert columns.abs().max() < 0.1


def test_a_restored_replay_continues_where_it_was():
    straight, resumed = (FeatureReplay(statistics(), 6, seed=3) for _ in range(2))
    straight()
    state = {name: tensor.clone() for name, tensor in straight.state_dict().items()}
    wanted = straight()[0]
    resumed.load_state_dict(state)
    assert torch.equal(resumed()[0], wanted)


def test_statistics_of_a_run_are_read_back(tmp_path: Path):
    save_replay(tmp_path, statistics())
    assert torch.equal(load_replay(tmp_path, 3).factors, statistics().factors)
    with pytest.raises(InputError, match="4 classes"):
        load_replay(tmp_path, 4)
    with pytest.raises(InputError, match="--known DIR"):
        load_replay(tmp_path / "none", 3)


def test_only_classes_without_images_are_drawn():
    replay = FeatureReplay(statistics(), 4, seed=1, classes=(0, 2))
    assert replay()[1].tolist() == [0, 2, 0, 2]

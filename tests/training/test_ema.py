from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crkd.models.architecture import Architecture
from crkd.models.build import build_network
from crkd.stages.discover.run import discover
from crkd.training.ema import AveragedNetwork
from tests.support.small_runs import same, small_config
from tests.support.steps import CPU, loop_of, tiny

pytestmark = pytest.mark.usefixtures("few_images")


def network(seed: int):
    shape = Architecture(
        "resnet8", 16, num_known=3, num_novel=2, num_heads=2, hidden=8, projection=4
    )
    return build_network(shape, seed=seed)


def test_weights_and_statistics_follow_the_formula_and_prototypes_stay_of_length_one():
    start, new = network(0), network(1)
    new.backbone.register_buffer("seen", torch.tensor(3))
    start.backbone.register_buffer("seen", torch.tensor(1))
    average = AveragedNetwork(start, 0.75)
    for _ in range(2):
        average.update(new)
    found, old, late = average.network.state_dict(), start.state_dict(), new.state_dict()
    kept = 0.75**2
    for name, value in found.items():
        if "prototypes" in name:
            lengths = value.norm(dim=-1)
            torch.testing.assert_close(lengths, torch.ones_like(lengths))
        elif value.is_floating_point():
            torch.testing.assert_close(value, kept * old[name] + (1 - kept) * late[name])
    assert int(found["backbone.seen"]) == 3
    assert not any(p.requires_grad for p in average.parameters())


def test_the_average_lags_behind_and_predicts(stage1: Path, tmp_path: Path):
    loop = loop_of(tiny("discover.average=0.5"))
    for step, batch in enumerate(loop.loader.batches(0, 4)):
        loop.step(batch, step)
    averaged, last = loop.task.final_network(), loop.task.modules.network
    assert averaged is not last
    assert not same(dict(averaged.named_parameters()), dict(last.named_parameters()))

    plain = discover(small_config(), tmp_path / "plain", stage1)
    run = discover(small_config("discover.average=0.9"), tmp_path / "averaged", stage1)
    weights = [load_file(r.path / "model.safetensors") for r in (plain, run)]
    assert weights[0].keys() == weights[1].keys()
    assert not same(*weights)
    # Training itself is the same: only the predicting network differs.
    lines = [(r.path / "log.jsonl").read_text().splitlines()[-1] for r in (plain, run)]
    plain_loss, loss = (json.loads(line)["loss"] for line in lines)
    assert plain_loss == loss


def test_without_decay_nothing_is_kept():
    loop = loop_of(tiny())
    assert loop.task.modules.averaged is None
    assert loop.task.final_network() is loop.task.modules.network
    assert next(loop.task.final_network().parameters()).device == CPU


@pytest.mark.parametrize("value", ["1.0", "-0.1"])
def test_a_share_out_of_range_is_refused(value: str):
    from crkd.core.errors import InputError

    with pytest.raises(InputError, match=r"discover\.average"):
        tiny(f"discover.average={value}")

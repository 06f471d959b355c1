"""Steps of a discovery on the digits, by one process or by one of two, in float32 or float64.

As a script: file for the results, stage-1 run, "float32" or "float64", number of threads; then, of
two processes, rank and file for the rendezvous.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from crkd.config.load import load_config
from crkd.models.network import Network
from crkd.runs.console import console
from crkd.stages.discover import run as stage2
from crkd.stages.discover.parent import ParentRun, open_parent
from crkd.stages.discover.task import DiscoveryTask
from crkd.training.loop import Loop
from tests.support.processes import double_views

STEPS = (1, 4, 8, 16, 22)
"""Steps after which weights and predictions are noted; an epoch has 11."""
CPU = torch.device("cpu")


def images_of(start: ParentRun) -> Tensor:
    """Return the unlabeled training images and the test images as a network's input."""
    data, prepared = start.data, start.data.network_input()
    blocks = []
    for subset in (data.subsets.unlabeled, data.subsets.test):
        store = data.store(subset)
        assert store is not None
        blocks += [prepared(part) for part in store.batches([np.arange(len(subset))])]
    return torch.cat(blocks)


def predictions(network: Network, images: Tensor) -> Tensor:
    """Return the joint prediction of each image by the first head, in evaluation mode."""
    network.eval()
    with torch.no_grad():
        out = network([images])
    network.train()
    return torch.cat([out.known_logits[0], out.novel_logits[0, 0]], -1).argmax(-1)


def steps_of(stage1: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return all weights in one vector, and the predictions, after each of ``STEPS``."""
    config = load_config("digits", ["discover.epochs=2", "discover.optimizer.warmup_epochs=0"])
    start = open_parent(config, stage1, CPU)
    student = stage2._student(start, config, CPU)
    task = DiscoveryTask(student, start.teacher, config, CPU, num_known=start.data.num_known)
    loop = Loop(
        task,
        stage2.discovery_loader(config, start.data, CPU),
        config=config,
        optimizer=config.discover.optimizer,
        epochs=config.discover.epochs,
        run=None,
        device=CPU,
    )
    task.modules.to(dtype)
    task.teacher_network.to(dtype)
    found = {}
    images = images_of(start).to(dtype)
    if dtype == torch.float64:
        loop.loader.views = double_views(loop.loader.views)
    for step, batch in enumerate(loop.loader.batches(0, max(STEPS))):
        if step % loop.loader.steps_per_epoch == 0:
            task.start_epoch(step // loop.loader.steps_per_epoch)
        loop.step(batch, step)
        if step + 1 in STEPS:
            network = task.modules.network
            weights = [value.double().flatten() for value in network.state_dict().values()]
            found[f"weights {step + 1}"] = torch.cat(weights)
            found[f"predictions {step + 1}"] = predictions(network, images)
    return found


def main() -> None:
    results, stage1, dtype, threads, *process = sys.argv[1:]
    console.quiet = True
    torch.set_num_threads(int(threads))
    if process:
        rank, meeting = process
        dist.init_process_group("gloo", f"file://{meeting}", rank=int(rank), world_size=2)
    found = steps_of(stage1, getattr(torch, dtype))
    if not process or process[0] == "0":
        torch.save(found, results)
    if process:
        dist.barrier()
        # Torch's threads may outlive the group, and there is nothing left to tidy up.
        os._exit(0)


if __name__ == "__main__":
    main()

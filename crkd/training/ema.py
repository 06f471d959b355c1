"""An exponential average of a network's weights, often more accurate than the last weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from crkd.models.network import Network


class AveragedNetwork(nn.Module):
    """The exponential moving average of a network's weights and running statistics.

    Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017, eq. 2. It starts
    as a copy, is never trained itself, and is saved and restored with everything else. torch's
    own ``AveragedModel`` asks the device in every step whether it is the first one.

    Args:
        network: which is trained.
        decay: share of the old average that a step keeps, in (0, 1).
    """

    def __init__(self, network: Network, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Move towards the present weights; nothing here looks at a value on the device.

        Whole numbers, such as the count of batches that batch norm has seen, are copied.
        """
        pairs: list[tuple[Tensor, Tensor]] = list(
            zip(self.network.state_dict().values(), network.state_dict().values(), strict=True)
        )
        moving = [(old, new) for old, new in pairs if old.is_floating_point()]
        torch._foreach_lerp_([p[0] for p in moving], [p[1] for p in moving], 1 - self.decay)
        for old, new in pairs:
            if not old.is_floating_point():
                old.copy_(new)
        self.network.normalize_prototypes()

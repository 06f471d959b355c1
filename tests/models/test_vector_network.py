from __future__ import annotations

import torch

from crkd.models.vector_network import GroupHead, LinearSpace


def test_weights_have_the_layout_that_a_file_gives_them() -> None:
    """Else the last bits of a prediction change when a model is saved and loaded."""
    column_major = torch.randn(3, 12).T
    head = GroupHead(column_major, torch.zeros(3), column_major, torch.zeros(3), 0)
    space = LinearSpace(torch.zeros(12), torch.zeros(12), column_major)
    assert not column_major.is_contiguous()
    assert all(value.is_contiguous() for value in (*head.buffers(), *space.buffers()))

"""Sources of the teacher's outputs on a batch."""

from __future__ import annotations

import torch

from crkd.core.types import Batch
from crkd.training.teacher import FixedTeacher


def test_a_fixed_teacher_gives_each_view_the_outputs_of_its_image() -> None:
    logits = torch.arange(15.0).view(5, 3)
    teacher = FixedTeacher(logits)
    numbers = torch.tensor([4, 0, 2])
    none = torch.zeros(3, dtype=torch.long)
    views = (torch.zeros(3, 3, 2, 2),) * 3
    # Views of later passes are compared with the same outputs; the third view is a small one.
    batch = Batch(views, none - 1, numbers, none + 7, 1, 2)
    outputs = teacher(batch, 0)
    assert teacher.num_classes == 3
    assert outputs.known_logits.shape == (2, 3, 3)
    assert torch.equal(outputs.known_logits[0], logits[numbers])
    assert torch.equal(outputs.known_logits[1], logits[numbers])
    assert torch.equal(teacher(batch, 1).known_logits[0], logits[numbers[1:]])
    assert outputs.features.shape == (2, 3, 0)

"""Packing of all random parameters of a view into one float32 row per image.

Float32 holds every field exactly: windows, orders and marks are small whole numbers, and the
other parameters are float32 already.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.data.augment.parameters import ViewParameters

_WHOLE = ("top", "left", "height", "width")
_MARKS = ("flip", "jitter", "grayscale", "blur", "solarize", "equalize")
_STRENGTHS = tuple(
    name for name in ViewParameters._fields if name not in (*_WHOLE, *_MARKS, "order")
)
_SIZES = [len(_WHOLE) + 4, len(_MARKS), len(_STRENGTHS)]
WIDTH = sum(_SIZES)


def pack(parameters: ViewParameters) -> Tensor:
    """Return the parameters of B views as ``(WIDTH, B)`` float32."""
    values = parameters._asdict()
    whole, marks, strengths = (
        torch.stack([values[name] for name in names]) for names in (_WHOLE, _MARKS, _STRENGTHS)
    )
    # Concatenation converts integers and booleans to float32.
    return torch.cat((whole, parameters.order.t(), marks, strengths))


def unpack(packed: Tensor) -> ViewParameters:
    """Return the parameters that :func:`pack` packed."""
    whole, marks, strengths = torch.split(packed, _SIZES)
    whole = whole.to(torch.int64)
    named = dict(zip(_WHOLE, whole.unbind(), strict=False))
    named["order"] = whole[len(_WHOLE) :].t()
    named |= zip(_MARKS, marks.to(torch.bool).unbind(), strict=True)
    named |= zip(_STRENGTHS, strengths.unbind(), strict=True)
    return ViewParameters(**named)

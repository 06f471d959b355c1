"""Color jitter on the CPU: in place, on channel planes, only on the affected images."""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.data.augment.hue import hue_turn
from crkd.data.augment.parameters import ViewParameters
from crkd.data.augment.scratch import memory


def color_jitter(
    planes: Tensor, parameters: ViewParameters, later: list[int], with_hue: bool
) -> None:
    """Apply :func:`color.color_jitter` in place to the images drawn for it.

    Args:
        planes: ``(3, B, pixels)`` levels, overwritten.
        parameters: parameters of these images, sorted by
            :func:`crkd.data.augment.render_cpu.by_hue_place`.
        later: second result of that function.
        with_hue: whether the recipe has a hue shift.
    """
    count = later[0]
    planes = planes[:, :count]
    steps = _blend_steps(parameters, count)
    for step in range(3):
        _blend(planes[:, : later[step + 1]], steps[step, :, : later[step + 1]])
    if with_hue and count:
        _shift_hue(planes, parameters.hue[:count])
    for step in range(1, 4):
        _blend(planes[:, later[step] :], steps[step, :, later[step] :])


def _blend_steps(parameters: ViewParameters, count: int) -> Tensor:
    """Return factor, contrast mark and saturation mark of each step, ``(4, 3, count, 1)``."""
    order = parameters.order[:count]
    neutral = torch.ones_like(parameters.hue)
    factors = torch.stack(
        (parameters.brightness, parameters.contrast, parameters.saturation, neutral), dim=1
    )
    factors = factors[:count].gather(1, order)
    steps = torch.stack((factors, (order == 1).float(), (order == 2).float()))
    return steps.permute(2, 0, 1).unsqueeze(3).contiguous()


def _blend(planes: Tensor, step: Tensor) -> None:
    """Blend each image of ``(3, B, pixels)`` with black, its mean level or its gray image."""
    count, pixels = planes.shape[1:]
    if not count:
        return
    factor, is_contrast, is_saturation = step
    red, green, blue = planes
    gray = torch.mul(red, 19595.0, out=memory.take("gray", count, pixels))
    gray.add_(green, alpha=38470.0).add_(blue, alpha=7471.0)
    gray.add_(32768.0).mul_(2.0**-16).floor_()
    # In float32, the sum of up to 2**14 levels and its rounded mean are exact.
    mean = gray.sum(dim=1, keepdim=True, dtype=torch.float64 if pixels > 2**14 else None)
    mean = mean.add_(0.5 * pixels).div_(pixels).floor_().to(torch.float32).mul_(is_contrast)
    degenerate = gray.mul_(is_saturation).add_(mean)
    planes.sub_(degenerate).mul_(factor).add_(degenerate).clamp_(0.0, 255.0).floor_()


def _shift_hue(planes: Tensor, hue: Tensor) -> None:
    """Shift the hue of ``(3, B, pixels)`` levels through Pillow's 8-bit HSV."""
    red, green, blue = planes
    scratch = memory.take("hue", 7, *red.shape).unbind(0)
    value, chroma, spare = scratch[:3]
    torch.maximum(torch.maximum(red, green, out=value), blue, out=value)
    torch.minimum(torch.minimum(red, green, out=chroma), blue, out=chroma)
    angle = _third_and_place(planes, scratch)
    torch.floor(angle, out=spare)
    angle.sub_(spare).mul_(255.0).floor_()
    angle.add_(hue_turn(hue).unsqueeze(1))
    torch.mul(angle, 2.0**-8, out=spare).floor_()
    angle.sub_(spare, alpha=256.0).mul_(2.0)
    torch.clamp(value, min=1.0, out=spare)
    depth = chroma.mul_(255.0).add_(0.5).div_(spare).floor_().mul_(value)
    missing = memory.take("missing", *planes.shape)
    for channel, corner in enumerate((255.0, 170.0, 340.0)):
        torch.sub(angle, corner, out=missing[channel])
    missing.abs_()
    missing[0].neg_().add_(255.0)
    missing.sub_(85.0).clamp_(0.0, 85.0).mul_(depth).mul_(1.0 / 21675.0).add_(0.5).floor_()
    torch.sub(value, missing, out=planes)


def _third_and_place(planes: Tensor, scratch: tuple[Tensor, ...]) -> Tensor:
    """Return the hue in turns, at least -1/6, and replace the lowest level by the chroma.

    Values are selected by ``lerp`` with marks 0 and 1, which is exact. Boolean selection is several
    times slower on a CPU.
    """
    red, green, blue = planes
    value, chroma, spare, no_blue, no_red, place, third = scratch
    torch.eq(blue, chroma, out=no_blue)
    torch.eq(red, chroma, out=no_red)
    torch.sub(red, blue, out=place)
    place.lerp_(torch.sub(blue, green, out=spare), no_red)
    place.lerp_(torch.sub(green, red, out=spare), no_blue)
    torch.ge(red, blue, out=third).mul_(-6.0).add_(5.0)
    third.lerp_(spare.fill_(3.0), no_red).lerp_(spare.fill_(1.0), no_blue)
    torch.sub(value, chroma, out=chroma)
    return place.div_(torch.clamp(chroma, min=1.0, out=spare)).add_(third).div_(6.0)

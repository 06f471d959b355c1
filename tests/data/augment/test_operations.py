"""Each operation against torchvision / Pillow on the same parameters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from crkd.data.augment import ViewRecipe, color, draw, geometry
from crkd.data.augment.hue import hue_turn, shift_hue
from crkd.data.augment.parameters import ViewParameters
from crkd.data.augment.windows import window_weights

CPU = torch.device("cpu")
CONSTANTS = color.coefficients(CPU)


def natural(count: int, side: int, seed: int = 0) -> Tensor:
    """Smooth colorful images with flat patches, black and white corners: (count, 3, s, s)."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-60, 315, (count, 3, 5, 5))).float()
    images = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    images = images + torch.from_numpy(rng.normal(0, 6, images.shape)).float()
    images = images.clamp(0, 255).to(torch.uint8)
    images[:, :, : side // 4, : side // 4] = images[:, :1, :1, :1]
    images[0] = 0
    images[1] = 255
    return images


def pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def levels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


def parameters_for(count: int, side: int, **recipe: object) -> tuple[ViewParameters, ViewRecipe]:
    made = ViewRecipe(size=int(recipe.pop("size", side)), **recipe)  # type: ignore[arg-type]
    ids = torch.arange(count)
    return draw(made, seed=5, epoch=2, image_id=ids, view=1, stored_size=side), made


def cropped(images: Tensor, drawn: ViewParameters, size: int) -> Tensor:
    start, length = torch.stack(drawn[:2]), torch.stack(drawn[2:4])
    mirrored = torch.stack((torch.zeros_like(drawn.flip), drawn.flip))
    weights = window_weights(start, length, mirrored, size, images.shape[-1])
    return geometry.crop_resize_flip(images, weights, size)


def color_jitter(images: Tensor, drawn: ViewParameters, with_hue: bool = True) -> Tensor:
    inputs = color.jitter_inputs(drawn, with_hue).view(-1, len(images), 1, 1, 1)
    half_level = color.rounding(images.shape[-1] ** 2, CPU)
    return color.color_jitter(images.float(), inputs, half_level, CONSTANTS)


def largest_difference_and_share(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    difference = (ours - theirs).abs()
    return difference.max().item(), (difference > 0).float().mean().item()


def test_every_color_has_pillows_luma():
    for part in range(0, 256, 16):
        cube = colors(part, part + 16)
        gray = np.asarray(Image.fromarray(cube).convert("L"))
        ours = color.luma(channels_first(cube), CONSTANTS)[0, 0]
        assert np.array_equal(ours.numpy(), gray)


def test_every_color_shifts_its_hue_as_in_pillow():
    turns = (0.1, -0.07, 0.5, -0.5, 0.0, 0.004, 0.33, -0.1)
    for part in range(0, 256, 8):
        cube, turn = colors(part, part + 8), turns[part // 8 % len(turns)]
        theirs = np.asarray(reference.adjust_hue(Image.fromarray(cube), turn))
        level = hue_turn(torch.tensor([turn])).view(1, 1, 1, 1)
        shifted = shift_hue(channels_first(cube), level, CONSTANTS.hue)
        assert np.array_equal(shifted[0].permute(1, 2, 0).numpy(), theirs)


def colors(start: int, stop: int) -> np.ndarray:
    """Every color whose red is in ``[start, stop)``, 256 columns: all 2**24 in all."""
    cube = np.stack(np.meshgrid(np.arange(start, stop), *2 * [np.arange(256)], indexing="ij"), -1)
    return cube.reshape(-1, 256, 3).astype(np.uint8)


def channels_first(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).unsqueeze(0).float()


@pytest.mark.parametrize("side", [18, 32, 63, 64, 65])
def test_mean_levels_round_right_on_either_side_of_every_half(side: int):
    """Sums at and next to every half, by pixels of level k and of level k + 1."""
    pixels = side**2
    uneven = pixels // 2 + torch.tensor([-1, 0, 1])
    images = torch.zeros(255 * 3, 3, pixels)
    for row in range(len(images)):
        images[row] = row // 3
        images[row, :, : uneven[row % 3]] += 1
    exact = (2 * images[:, 0].long().sum(1) + pixels) // (2 * pixels)
    gray = torch.full((len(images),), 0.0)
    drawn, _ = parameters_for(len(images), side, jitter=1.0, contrast=0.5)
    drawn = drawn._replace(contrast=gray)
    ours = color_jitter(images.view(-1, 3, side, side), drawn, with_hue=False)
    assert torch.equal(ours.flatten(1), exact.float().unsqueeze(1).expand(-1, 3 * pixels))


@pytest.mark.parametrize("side", [18, 32])
def test_pad_and_crop_is_exact(side: int):
    images = natural(48, 32)
    drawn, _ = parameters_for(48, 32, size=side, crop="pad", padding=4)
    ours = cropped(images, drawn, side)
    for row, image in enumerate(images):
        padded = reference.pad(pil(image), [4])
        cut = reference.crop(padded, int(drawn.top[row]) + 4, int(drawn.left[row]) + 4, side, side)
        if drawn.flip[row]:
            cut = reference.hflip(cut)
        assert torch.equal(ours[row], levels(cut))


@pytest.mark.parametrize(
    ("stored", "size", "scale"),
    [(32, 32, (0.5, 1.0)), (32, 18, (0.3, 0.8)), (64, 40, (0.08, 1.0)), (48, 11, (0.2, 1.0))],
)
def test_random_resized_crop_is_pillows(stored: int, size: int, scale: tuple[float, float]):
    images = natural(64, stored)
    drawn, _ = parameters_for(64, stored, size=size, crop="resized", scale=scale)
    ours = cropped(images, drawn, size)
    columns_first, own_order = [], []
    for row, image in enumerate(images):
        top, left, height, width = (int(field[row]) for field in drawn[:4])
        window = reference.crop(pil(image), top, left, height, width)
        own_order.append(levels(reference.resize(window, [size, size])))
        # Pillow up to 12 always does the columns first; 13 turns the order for some tall windows.
        columns = window.resize((size, height), Image.Resampling.BILINEAR)
        columns_first.append(levels(columns.resize((size, size), Image.Resampling.BILINEAR)))
    theirs = torch.stack(columns_first)
    theirs = torch.where(drawn.flip.view(-1, 1, 1, 1), theirs.flip(3), theirs)
    assert torch.equal(ours, theirs)
    other = torch.stack(own_order)
    other = torch.where(drawn.flip.view(-1, 1, 1, 1), other.flip(3), other)
    largest, share = largest_difference_and_share(ours, other)
    assert largest <= 1
    assert share < 0.04


@pytest.mark.parametrize(("stored", "size"), [(40, 32), (33, 32), (32, 32), (64, 18)])
def test_center_crop_is_torchvisions(stored: int, size: int):
    images = natural(4, stored)
    drawn, _ = parameters_for(4, stored, size=size, flip=0.0)
    ours = cropped(images, drawn, size)
    theirs = torch.stack([levels(reference.center_crop(pil(i), [size, size])) for i in images])
    assert torch.equal(ours, theirs)


def test_smaller_stored_images_are_enlarged():
    images = natural(4, 8)
    drawn, _ = parameters_for(4, 8, size=32, flip=0.0)
    ours = cropped(images, drawn, 32)
    theirs = torch.stack(
        [levels(pil(i).resize((32, 32), Image.Resampling.BILINEAR)) for i in images]
    )
    assert torch.equal(ours, theirs)


def test_affine_is_torchvisions():
    images = natural(40, 32)
    drawn, _ = parameters_for(
        40, 32, rotation=40.0, shift=0.2, zoom=(0.7, 1.4), shear=20.0, flip=0.0
    )
    ours = geometry.affine(images.float(), geometry.affine_maps(drawn, 32))
    theirs = torch.stack(
        [
            reference.affine(
                image,
                angle=drawn.angle[row].item(),
                translate=[drawn.shift_x[row].item(), drawn.shift_y[row].item()],
                scale=drawn.zoom[row].item(),
                shear=[drawn.shear[row].item(), 0.0],
                interpolation=InterpolationMode.BILINEAR,
            )
            for row, image in enumerate(images)
        ]
    ).float()
    largest, share = largest_difference_and_share(ours, theirs)
    assert largest <= 1
    assert share < 2e-3


def test_blur_is_torchvisions():
    images = natural(32, 32)
    drawn, recipe = parameters_for(32, 32, blur=1.0, blur_sigma=(0.1, 2.0))
    kernels = geometry.blur_kernels(drawn.sigma, recipe.blur_radius)
    taps = geometry.blur_taps(recipe.blur_radius, 32, CPU)
    ours = geometry.gaussian_blur(images.float(), kernels, taps)
    side = 2 * recipe.blur_radius + 1
    theirs = torch.stack(
        [
            reference.gaussian_blur(image, [side, side], [drawn.sigma[row].item()] * 2)
            for row, image in enumerate(images)
        ]
    ).float()
    largest, share = largest_difference_and_share(ours, theirs)
    assert largest <= 1
    assert share < 2e-3


@pytest.mark.parametrize("side", [18, 32])
@pytest.mark.parametrize(
    ("operation", "name"),
    [(0, "brightness"), (1, "contrast"), (2, "saturation"), (3, "hue")],
)
def test_single_color_operations_are_pillows(operation: int, name: str, side: int):
    images = natural(48, side)
    drawn, _ = parameters_for(
        48, side, jitter=1.0, brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5
    )
    neutral = torch.ones(48)
    only = drawn._replace(
        **{
            field: torch.zeros(48) if field == "hue" else neutral
            for field in ("brightness", "contrast", "saturation", "hue")
            if field != name
        }
    )
    if name == "hue":
        ours = shift_hue(images.float(), color.per_image(hue_turn(drawn.hue)), CONSTANTS.hue)
    else:
        ours = color_jitter(images, only, with_hue=False)
    apply = getattr(reference, f"adjust_{name}")
    factors = getattr(drawn, name)
    theirs = [levels(apply(pil(i), f.item())) for i, f in zip(images, factors, strict=True)]
    assert operation in (0, 1, 2, 3)
    assert torch.equal(ours, torch.stack(theirs))


def test_jitter_in_all_24_orders_is_pillows():
    orders = torch.tensor(list(itertools.permutations(range(4)))).repeat(2, 1)
    images = natural(48, 20)
    drawn, _ = parameters_for(
        48, 20, jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1
    )
    drawn = drawn._replace(order=orders)
    ours = color_jitter(images, drawn)
    theirs = torch.stack([levels(jittered(pil(i), drawn, r)) for r, i in enumerate(images)])
    assert torch.equal(ours, theirs)


def jittered(image: Image.Image, drawn: ViewParameters, row: int) -> Image.Image:
    """Pillow's jitter, one operation after the other."""
    for operation in drawn.order[row].tolist():
        name = ("brightness", "contrast", "saturation", "hue")[operation]
        factor = getattr(drawn, name)[row].item()
        image = getattr(reference, f"adjust_{name}")(image, factor)
    return image


def test_grayscale_is_pillows():
    images = natural(8, 32)
    theirs = [levels(reference.to_grayscale(pil(i), num_output_channels=3)) for i in images]
    assert torch.equal(color.grayscale(images.float(), CONSTANTS), torch.stack(theirs))


def test_solarize_is_pillows():
    images = natural(32, 16)
    threshold = torch.linspace(0, 256, 32)
    ours = color.solarize(images.float(), color.per_image(threshold))
    for row, image in enumerate(images):
        assert torch.equal(ours[row], levels(ImageOps.solarize(pil(image), threshold[row].item())))


@pytest.mark.parametrize("side", [8, 15, 18, 32, 70])
def test_equalize_is_pillows(side: int):
    images = natural(32, side)
    images[2, 0] = 7
    images[3] = images[3] // 128 * 200
    theirs = torch.stack([levels(ImageOps.equalize(pil(image))) for image in images])
    every = torch.full((32, 1, 1, 1), float(side**2))
    ours, kept = color.equalize(
        (images.float(), images.float()), (every, torch.zeros_like(every)), CONSTANTS
    )
    assert torch.equal(ours, theirs)
    assert torch.equal(kept, images.float())

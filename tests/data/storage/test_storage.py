import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from crkd.core.errors import InputError
from crkd.data.sources.arrays import ArraySource
from crkd.data.sources.base import ImageSource, Pixels, UnreadableImageError
from crkd.data.splits.partition import Subset
from crkd.data.storage import streaming, workers
from crkd.data.storage.choose import (
    ImageStore,
    InMemoryImages,
    StreamingImages,
    choose_storage,
)
from crkd.data.storage.resize import fit_square


def part_of(images: np.ndarray, indices: list[int] | None = None) -> Subset:
    source = ArraySource(images, [0] * len(images), ["x"])
    rows = np.arange(len(images)) if indices is None else np.array(indices)
    return Subset(source, rows, np.full(len(rows), -1), [source.ids[row] for row in rows])


def noise(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


STORES = [InMemoryImages, StreamingImages]


@pytest.mark.parametrize("kind", STORES)
def test_images_of_the_right_size_are_taken_as_they_are(kind: type[ImageStore]) -> None:
    images = noise(9, 8, 8)
    store = kind(part_of(images, [7, 2, 5]), 8)
    assert len(store) == 3
    got = store.get(torch.tensor([2, 0, 2]))
    assert got.dtype == torch.uint8
    np.testing.assert_array_equal(got.numpy(), images[[5, 7, 5]].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("kind", STORES)
def test_batches_follow_the_order(kind: type[ImageStore]) -> None:
    images = noise(50, 6, 6)
    store = kind(part_of(images), 6)
    rng = np.random.default_rng(1)
    order = [rng.integers(0, 50, rng.integers(1, 9)) for _ in range(600)]
    for rows, batch in zip(order, store.batches(iter(order)), strict=True):
        np.testing.assert_array_equal(batch.numpy(), images[rows].transpose(0, 3, 1, 2))
    assert list(store.batches([])) == []


@pytest.mark.parametrize("shape", [(20, 30), (31, 17), (8, 8), (300, 40)])
def test_both_stores_hold_the_same_fitted_images(shape: tuple[int, int]) -> None:
    part = part_of(noise(5, *shape))
    resident, streamed = InMemoryImages(part, 12), StreamingImages(part, 12)
    index = torch.tensor([4, 1])
    assert torch.equal(resident.get(index), streamed.get(index))
    expected = np.stack([fit_square(part.source.read(row), 12) for row in (4, 1)])
    np.testing.assert_array_equal(resident.get(index).numpy(), expected)


@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (64, 64), (16, 48)])
def test_fitting_agrees_with_torchvision(shape: tuple[int, int]) -> None:
    image = noise(1, *shape)[0]
    # Sizes at which the longer side scales to a whole number: torchvision rounds it otherwise.
    reference = v2.Compose([v2.Resize(32, v2.InterpolationMode.BICUBIC), v2.CenterCrop(32)])
    expected = np.asarray(reference(Image.fromarray(image))).transpose(2, 0, 1).astype(int)
    difference = np.abs(fit_square(image, 32).astype(int) - expected)
    assert difference.max() <= 1


def test_extreme_shapes_stay_small() -> None:
    for image in (noise(1, 1, 60_000)[0], noise(1, 60_000, 1)[0]):
        assert fit_square(image, 224).shape == (3, 224, 224)
    center = np.zeros((20, 100, 3), np.uint8)
    center[:, 36:64] = 200
    assert (fit_square(center, 20) == 200).all()


@pytest.mark.parametrize("kind", STORES)
def test_unreadable_image_ends_the_work_with_its_name(
    kind: type[ImageStore], tmp_path: Path
) -> None:
    class Broken(ImageSource):
        def read(self, index: int) -> Pixels:
            if index == 11:
                raise UnreadableImageError("img11.png", "truncated")
            return np.zeros((4, 4, 3), np.uint8)

    source = Broken([0] * 12, ["x"], [str(i) for i in range(12)])
    part = Subset(source, np.arange(12), np.zeros(12, np.int64), list(source.ids))
    threads = threading.active_count()
    with pytest.raises(UnreadableImageError, match=r"img11\.png"):
        list(kind(part, 4).batches([np.array([0, 1]), np.array([11])]))
    assert threading.active_count() == threads


class Counting(ImageSource):
    """Notes what was read; reading takes a moment, as decoding does."""

    def __init__(self, count: int) -> None:
        super().__init__([0] * count, ["x"], [str(i) for i in range(count)])
        self.read_rows: list[int] = []

    def read(self, index: int) -> Pixels:
        time.sleep(0.001)
        self.read_rows.append(index)
        return np.full((4, 4, 3), index % 256, np.uint8)


def counted(count: int) -> tuple[Counting, Subset]:
    source = Counting(count)
    rows = np.arange(count)
    return source, Subset(source, rows, np.zeros(count, np.int64), list(source.ids))


def test_streaming_is_ahead_of_use_but_bounded() -> None:
    source, part = counted(100)
    drawn: list[int] = []

    def order() -> Iterator[np.ndarray]:
        for start in range(0, 100, 2):
            drawn.append(start)
            yield np.arange(start, start + 2)

    batches = StreamingImages(part, 4, ahead=3, workers=2).batches(order())
    assert next(batches)[:, 0, 0, 0].tolist() == [0, 1]
    # Two batches are being uploaded, three are being decoded.
    assert drawn == [0, 2, 4, 6, 8]
    time.sleep(0.2)
    assert sorted(source.read_rows) == list(range(10))
    threads = threading.active_count()
    batches.close()
    assert threading.active_count() < threads


def test_processes_of_one_machine_share_its_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, pool = [], streaming.ThreadPoolExecutor
    monkeypatch.setattr(
        streaming,
        "ThreadPoolExecutor",
        lambda count, **options: begun.append(count) or pool(count, **options),
    )
    monkeypatch.setattr(workers, "cpu_count", lambda: 8)
    for processes in ("1", "4", "16"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        StreamingImages(counted(3)[1], 4).get(torch.arange(3))
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    StreamingImages(counted(3)[1], 4).get(torch.arange(3))
    assert begun == [8, 2, 1, 8]


def test_resident_images_are_decoded_once_with_progress() -> None:
    source, part = counted(300)
    seen: list[tuple[int, int]] = []
    store = InMemoryImages(part, 4, progress=lambda done, total: seen.append((done, total)))
    for _ in range(3):
        store.get(torch.arange(300))
    assert sorted(source.read_rows) == list(range(300))
    assert seen[-1] == (300, 300)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_choice_follows_the_sizes_and_is_stated() -> None:
    part = part_of(noise(10, 8, 8))
    needed = 10 * 3 * 8 * 8
    lines: list[str] = []
    fits = choose_storage(part, 8, "cpu", needed, log=lines.append)
    spills = choose_storage(part, 8, "cpu", needed - 1, log=lines.append)
    assert isinstance(fits, InMemoryImages)
    assert isinstance(spills, StreamingImages)
    assert "kept on cpu" in lines[0]
    assert "decoded during training" in lines[1]
    assert isinstance(choose_storage(part, 8, "cpu", 0, "in_memory"), InMemoryImages)
    assert isinstance(choose_storage(part, 8, "cpu", mode="streaming"), StreamingImages)
    assert isinstance(choose_storage(part, 8, "cpu"), InMemoryImages)


def test_bad_settings() -> None:
    part = part_of(noise(1, 8, 8))
    with pytest.raises(InputError, match="auto, in_memory or streaming"):
        choose_storage(part, 8, "cpu", mode="disk")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="below 1"):
        choose_storage(part, 0, "cpu")


@pytest.mark.parametrize("kind", STORES)
def test_empty_part(kind: type[ImageStore]) -> None:
    store = kind(part_of(noise(3, 8, 8), []), 8)
    assert len(store) == 0
    assert store.get(torch.empty(0, dtype=torch.int64)).shape == (0, 3, 8, 8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", STORES)
def test_batches_on_the_gpu(kind: type[ImageStore]) -> None:
    images = noise(64, 20, 24)
    order = [np.random.default_rng(i).integers(0, 64, 16) for i in range(50)]
    on_cpu = InMemoryImages(part_of(images), 16)
    store = kind(part_of(images), 16, "cuda")
    for expected, batch in zip(on_cpu.batches(order), store.batches(order), strict=True):
        assert batch.is_cuda
        assert torch.equal(expected, batch.cpu())

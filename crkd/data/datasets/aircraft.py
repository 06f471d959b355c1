"""FGVC-Aircraft with its 100 variants, in its published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from crkd.core.errors import InputError
from crkd.data.datasets.base import DATASETS, IMAGENET_MEAN, IMAGENET_STD, Dataset, find_folder
from crkd.data.sources.files import FileSource, paths_below, read_columns, read_lines

LAYOUTS: Final = (
    "the unpacked fgvc-aircraft-2013b.tar.gz of "
    "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/: fgvc-aircraft-2013b/data/ with images/, "
    "variants.txt, images_variant_trainval.txt and images_variant_test.txt"
)


@DATASETS.register("aircraft")
def build_aircraft(root: Path | None, *, download: bool = False) -> Dataset:
    """Return the 100 variants with 6,667 training (train and val) and 3,333 test images.

    Labels follow the sorted names, as in the code of the Semantic Shift Benchmark.

    Source: S. Maji et al., "Fine-Grained Visual Classification of Aircraft", 2013.
    """
    base = find_folder("aircraft", LAYOUTS, root, "fgvc-aircraft-2013b", "aircraft")
    folder = base / "data"
    names = sorted(line.strip() for line in read_lines(folder / "variants.txt") if line.strip())
    train, test = (
        _part(folder, names, f"images_variant_{part}.txt") for part in ("trainval", "test")
    )
    return Dataset("aircraft", train, test, tuple(names), 224, IMAGENET_MEAN, IMAGENET_STD)


def _part(folder: Path, names: list[str], listing: str) -> FileSource:
    rows = read_columns(folder / listing, 2)
    number = {name: label for label, name in enumerate(names)}
    unknown = next((name for _, name in rows if name not in number), None)
    if unknown is not None:
        raise InputError(
            f"{str(folder / listing)!r} names the variant {unknown!r}, which variants.txt does "
            "not; fetch the set again"
        )
    files = [f"{image}.jpg" for image, _ in rows]
    paths = paths_below(folder / "images", files, folder / listing)
    return FileSource(paths, [number[name] for _, name in rows], names, files)

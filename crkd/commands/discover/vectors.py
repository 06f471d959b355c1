"""Discovery on feature vectors for ``crkd discover``: own images are embedded first."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crkd.commands.discover.vector_settings import check_settings
from crkd.commands.flags import config_of
from crkd.commands.output import RUNS, check_out
from crkd.config.schema import Config
from crkd.core.counted import counted
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from crkd.data.encoded.listing import Listing
    from crkd.embedding.plan import EmbedSettings
    from crkd.runs.folder import RunFolder


def add_vector_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of discovery on vectors."""
    group = parser.add_argument_group("own images and feature vectors")
    group.add_argument(
        "--backbone",
        metavar="NAME",
        help="pretrained network for own images: lite0 (default), a timm model, or an ONNX file",
    )
    group.add_argument("--backbone-weights", metavar="FILE", help="local weights of a timm model")
    group.add_argument(
        "--runtime",
        metavar="NAME",
        help="auto (default: the fastest), torch, torch-bf16 or onnx",
    )
    group.add_argument(
        "--method",
        metavar="NAME",
        help="auto (default: a contest chooses), heads, plain_heads, sinkhorn_heads, merging, "
        "whitened_kmeans, kmeans or consensus",
    )
    group.add_argument(
        "--train-backbone",
        action="store_true",
        help="train a network on own images instead; this can take days on a CPU",
    )
    group.add_argument(
        "--features",
        nargs="+",
        metavar="FILE",
        help="vectors instead of images: KNOWN NOVEL; only NOVEL with --from or without labels",
    )


def run_on_vectors(given: argparse.Namespace) -> RunFolder:
    """Embed own images where needed, discover, and return the finished run."""
    config, listings = checked_vector_config(given)

    from crkd.stages.vectors.run import discover_vectors

    out = vector_run_folder(given, config.seed, "discover")
    check_out(out, resume=given.resume)
    _remark_on_folders(given, listings, config)
    files = given.features or _embedded(given, listings, out)
    config = _config(given, data={"features": [str(file) for file in files]})
    resume = given.resume and (out / "run.json").is_file()
    return discover_vectors(config, out, given.parent, resume=resume)


def checked_vector_config(given: argparse.Namespace) -> tuple[Config, dict[str, Listing]]:
    """Return the configuration, without files of vectors, and the images of each flag.

    Every later step takes the same listing: to list many files takes seconds.

    Raises:
        InputError: a folder or a flag is missing or unusable.
    """
    if given.features is None and given.novel is None:
        raise InputError("--novel is not given; name the folder of unlabeled images")
    _check_places(given)
    config = _config(given)

    # PyTorch takes seconds to import.
    from crkd.data.encoded.listing import find_encoded
    from crkd.stages.vectors.arguments import check_mixed
    from crkd.stages.vectors.folders import check_labeled_images, check_num_novel_of_folder
    from crkd.stages.vectors.images import check_no_split

    no_known = _lacks_known(given)
    check_no_split(config)
    check_settings(config, given.settings, long_tail=given.parent is None and not no_known)
    check_mixed(config, no_known=given.parent is None and no_known)
    places = {flag: getattr(given, flag) for flag in ("novel", "known")}
    listings = {flag: find_encoded([place]) for flag, place in places.items() if place is not None}
    if "known" in listings:
        check_labeled_images(given.known, listings["known"])
    if "novel" in listings:
        check_num_novel_of_folder(given.novel, listings["novel"], config.discover.num_novel)
    return config, listings


def _lacks_known(given: argparse.Namespace) -> bool:
    """Return whether neither labeled images nor their vectors are given."""
    return given.known is None if given.features is None else len(given.features) == 1


def _config(given: argparse.Namespace, **blocks: Any) -> Config:
    """Return the configuration of the flags and of further blocks of keys."""
    values: dict[str, Any] = {"dataset": "features", **blocks}
    if given.method is not None:
        values["vectors"] = {"method": given.method}
    # The folders are embedded, and are no images of the run.
    flags = argparse.Namespace(**{**vars(given), "known": None, "novel": None, "image_size": None})
    return config_of(flags, more=values)


def _check_places(given: argparse.Namespace) -> None:
    """Check that the folders of images exist and do not contain each other."""
    from crkd.data.sources.folder import check_separate

    places = {flag: getattr(given, flag) for flag in ("known", "novel")}
    for flag, place in places.items():
        if place is not None and not Path(place).exists():
            raise InputError(f"--{flag} {place!r} does not exist; name a folder of images")
    if None not in places.values():
        check_separate(Path(given.known), Path(given.novel))


def vector_run_folder(given: argparse.Namespace, seed: int, stage: str) -> Path:
    """Return the run folder: ``runs/IMAGES/STAGE-seedN`` unless another one is given."""
    if given.out is not None:
        return Path(given.out)
    from crkd.runs.search import free_folder

    source = Path(given.novel if given.features is None else given.features[-1])
    return free_folder(RUNS / source.absolute().stem / f"{stage}-seed{seed}")


def _remark_on_folders(
    given: argparse.Namespace, listings: dict[str, Listing], config: Config
) -> None:
    """Print which classes the folders mean, before the images are embedded."""
    from crkd.runs.console import say
    from crkd.stages.vectors.folder_remarks import remarks_on_known, remarks_on_novel

    lines = remarks_on_known(listings["known"]) if "known" in listings else []
    if "novel" in listings:
        if given.parent is None and not lines:
            lines = ["--known is not given: no class is known, and all classes are discovered"]
        lines += remarks_on_novel(listings["novel"], config.discover.num_novel)
    for line in lines:
        say(line)


def _embedded(given: argparse.Namespace, listings: dict[str, Listing], out: Path) -> list[Path]:
    """Return the files of vectors of the folders; one that exists is only brought up to date."""
    from crkd.runs.folder import RunFolder
    from crkd.stages.vectors.folders import embedded_folder

    place, settings = out.parent / "vectors", _settings(given)
    if given.parent is None:
        files = [
            embedded_folder(
                getattr(given, flag),
                place,
                settings,
                listing=listings[flag],
                labeled=flag == "known",
            )
            for flag in ("known", "novel")
            if flag in listings
        ]
        _name_repeated(files)
        return files
    like = RunFolder.open(given.parent).read_info().embedding
    if like is None:
        raise InputError(
            f"--from {given.parent} was made of vectors of unknown origin, so images cannot be "
            "embedded for it; give their vectors with --features FILE"
        )
    images, listing = given.novel, listings["novel"]
    files = [embedded_folder(images, place, settings, like=like, listing=listing)]
    _name_repeated(files)
    return files


def _name_repeated(files: list[Path]) -> None:
    """Print which images repeat another one."""
    from crkd.data.sources.files import SHOWN
    from crkd.data.vectors.repeated_images import repeated_images
    from crkd.runs.console import say

    found = repeated_images(files, SHOWN)
    if found.count:
        pairs = ", ".join(f"{image} = {earlier}" for image, earlier in found.pairs)
        more = ", ..." if found.count > SHOWN else ""
        images = counted(found.count, "image has", "images have")
        say(f"{images} the same content as another one: {pairs}{more}")


def _settings(given: argparse.Namespace) -> EmbedSettings:
    from crkd.core.device import pick_device
    from crkd.embedding.plan import EmbedSettings
    from crkd.models.pretrained.choose_form import AUTO

    weights = given.backbone_weights
    return EmbedSettings(
        backbone=given.backbone,
        weights=None if weights is None else Path(weights),
        image_size=given.image_size,
        runtime=AUTO if given.runtime is None else given.runtime,
        device=pick_device(given.device or "auto").type,
        download=given.download,
    )

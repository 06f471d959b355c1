"""``crkd check-data``: checks of a data set before training."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crkd.commands.flags import add_config_flags, config_of
from crkd.core.counted import counted
from crkd.core.errors import listed

if TYPE_CHECKING:
    from crkd.stages.discover.near_duplicates import Pair

DESCRIPTION = """\
Decode all images of a data set and check the split. The report lists image
counts, unreadable files, classes without images and repeated images. The exit
code is 1 if the data set is not usable, or an image cannot be read. With
data.subset below 1, the images of the subset alone are decoded.

  crkd check-data --known products/ --novel new-photos/
  crkd check-data --novel new-photos/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_config_flags(parser)
    parser.add_argument(
        "--near-duplicates",
        metavar="COSINE",
        type=float,
        nargs="?",
        const=0.98,
        help="also list unlabeled images that nearly repeat a known image, e.g. after resizing: "
        "pairs with at least this cosine similarity of their pixels (default: 0.98)",
    )


def run(given: argparse.Namespace) -> int:
    """Print the report; return 0 if the data set is usable and all of it can be read, else 1."""
    if given.novel is not None and given.dataset is None:
        given.dataset = "folder"
    config = config_of(given)

    from crkd.data.check_dataset import check_dataset
    from crkd.stages.discover.near_duplicates import SmallSquares, repeated_images
    from crkd.stages.load_images import check_known, load_images
    from crkd.stages.run_data import subsets_of

    searches = given.near_duplicates is not None
    if searches:
        check_known(config)
    dataset, split = load_images(config, download=given.download, verify=False)
    own = config.dataset == "folder"
    if own and config.data.known is not None:
        from crkd.data.encoded.listing import find_encoded
        from crkd.stages.vectors.folder_remarks import remarks_on_known

        for line in remarks_on_known(find_encoded([config.data.known])):
            print(line)
    small = None
    if searches:
        # The check keeps what the search needs, so that each image is decoded once.
        small = SmallSquares(dataset.train, config.data.image_size or dataset.image_size)
        dataset = dataclasses.replace(dataset, train=small)
    # The split of own images is made of their folders, so it always agrees.
    found = check_dataset(dataset, None if own else split, subset=config.data.subset)
    for line in found.lines:
        print(line)
    if small is not None and found.usable:
        subsets = subsets_of(config, dataset, split)
        print(_named(repeated_images(subsets, small, cosine=given.near_duplicates)))
    elif small is not None:
        print("near-duplicates are searched only in a set without these problems")
    if own and not found.usable and found.usable_as_features:
        print(
            "discover leaves out the images that cannot be read; a training (--train-backbone, "
            "pretrain) needs --skip-unreadable"
        )
    else:
        print("the data set is usable" if found.usable else "the data set is NOT usable")
    return 0 if found.usable else 1


def _named(pairs: Sequence[Pair]) -> str:
    """Return a sentence with the number of near-duplicates and the names of some."""
    count = len({pair.novel for pair in pairs})
    images = counted(count, "unlabeled image nearly repeats", "unlabeled images nearly repeat")
    shown = listed((f"{p.novel} shows {p.known} ({p.cosine:.4f})" for p in pairs), limit=5)
    return f"{images} a known image{': ' if pairs else ''}{shown}"

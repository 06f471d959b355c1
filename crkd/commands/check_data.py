"""``crkd check-data``: look a data set over before hours are spent on it."""

from __future__ import annotations

from collections.abc import Sequence

from crkd.commands.flags import Parser, add_config_flags, config_of
from crkd.config.schema import Config
from crkd.core.errors import listed

DESCRIPTION = """\
Decode every image of a data set and report counts, unreadable files, classes missing from a
part, repeated images, and whether the split fits. Exit code 1 if something is wrong.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found; return 0 if the set is usable, else 1."""
    parser = Parser(prog="crkd check-data", description=DESCRIPTION)
    add_config_flags(parser)
    parser.add_argument(
        "--near-duplicates",
        metavar="COSINE",
        type=float,
        nargs="?",
        const=0.98,
        help="also look for unlabeled images that repeat a known one, rescaled or saved again: "
        "pairs whose pixels have at least this cosine (default: 0.98)",
    )
    given = parser.parse_args(arguments)
    config = config_of(given)

    from crkd.data.check_dataset import check_dataset
    from crkd.stages.load_images import load_images

    dataset, split = load_images(config, download=given.download, verify=False)
    found = check_dataset(dataset, split)
    for line in found.lines:
        print(line)
    if given.near_duplicates is not None and found.usable:
        _show_pairs(config, given.near_duplicates, download=given.download)
    print("usable" if found.usable else "NOT usable as it is")
    return 0 if found.usable else 1


def _show_pairs(config: Config, cosine: float, *, download: bool) -> None:
    import torch

    from crkd.stages.discover.near_duplicates import repeated_images
    from crkd.stages.run_data import prepare

    pairs = repeated_images(prepare(config, torch.device("cpu"), download=download), cosine=cosine)
    images = len({pair.novel for pair in pairs})
    shown = listed((f"{p.novel} shows {p.known} ({p.cosine:.4f})" for p in pairs), limit=5)
    print(f"{images} unlabeled images nearly repeat a known one{': ' if pairs else ''}{shown}")

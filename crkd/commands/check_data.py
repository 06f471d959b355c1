"""``crkd check-data``: look a data set over before hours are spent on it."""

from __future__ import annotations

from collections.abc import Sequence

from crkd.commands.flags import Parser, add_config_flags, config_of

DESCRIPTION = """\
Decode every image of a data set and report counts, unreadable files, classes missing from a
part, repeated images, and whether the split fits. Exit code 1 if something is wrong.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was found; return 0 if the set is usable, else 1."""
    parser = Parser(prog="crkd check-data", description=DESCRIPTION)
    add_config_flags(parser)
    given = parser.parse_args(arguments)
    config = config_of(given)

    from crkd.data.check import check_dataset
    from crkd.engine.setup import load_images

    dataset, split = load_images(config, download=given.download, verify=False)
    found = check_dataset(dataset, split)
    for line in found.lines:
        print(line)
    print("usable" if found.usable else "NOT usable as it is")
    return 0 if found.usable else 1

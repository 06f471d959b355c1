"""Flags that the commands share, and how they become a configuration."""

from __future__ import annotations

import argparse
from typing import Any

import crkd
from crkd.config.load import load_config
from crkd.config.schema import Config


class Parser(argparse.ArgumentParser):
    """A parser whose usage lines keep the line breaks of the descriptions."""

    def __init__(self, **arguments: Any) -> None:
        arguments.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        arguments.setdefault("allow_abbrev", False)
        super().__init__(**arguments)
        self.add_argument("--version", action="version", version=f"crkd {crkd.__version__}")


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that state what a run is."""
    what = parser.add_argument_group("what to run")
    what.add_argument("--config", metavar="FILE", help="a YAML file, or the name of a shipped one")
    what.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change one configuration key, e.g. discover.epochs=100; may be repeated",
    )
    what.add_argument("--dataset", metavar="NAME", help="a data set (default: digits)")
    what.add_argument("--split", metavar="NAME|FILE", help="a split of its classes")
    what.add_argument("--class-order-seed", type=int, metavar="N", help="random class order")
    what.add_argument("--known", metavar="DIR", help="own images: a folder a known class")
    what.add_argument("--novel", metavar="DIR", help="own images: unlabeled, flat or nested")
    what.add_argument(
        "--num-novel", metavar="K|auto", help="number of novel classes, or estimate it"
    )
    what.add_argument(
        "--mixed",
        action="store_true",
        default=None,
        help="unlabeled images may be of known classes: set those aside first",
    )
    what.add_argument("--image-size", metavar="PX", type=int, help="side of the images in pixels")
    what.add_argument("--weights", metavar="FILE", help="a local pretrained backbone")
    what.add_argument("--skip-unreadable", action="store_true", default=None, help="leave out")
    where = parser.add_argument_group("where and how")
    where.add_argument("--data-root", metavar="DIR", help="folder of the data sets")
    where.add_argument("--download", action="store_true", help="fetch the data set if it can be")
    where.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    where.add_argument("--seed", type=int, metavar="N", help="of weights, batches and views")


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of commands that write a run folder."""
    parser.add_argument("--out", metavar="RUN", help="the run folder to write")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")


def config_of(arguments: argparse.Namespace, base: Config | None = None) -> Config:
    """Return the checked configuration that the flags ask for.

    Args:
        arguments: parsed flags of :func:`add_config_flags`.
        base: configuration of an earlier run to go on from; None starts from the data set's own.
    """
    dataset = arguments.dataset
    if arguments.known is not None and dataset is None:
        dataset = "folder"
    flags = {
        "dataset": dataset,
        "split": arguments.split,
        "class_order_seed": arguments.class_order_seed,
        "seed": arguments.seed,
        "device": arguments.device,
        "data": {
            "root": arguments.data_root,
            "known": arguments.known,
            "novel": arguments.novel,
            "image_size": arguments.image_size,
            "skip_unreadable": arguments.skip_unreadable,
        },
        "model": {"weights": arguments.weights},
        "discover": {
            "num_novel": _number_or_word(arguments.num_novel),
            "mixed": arguments.mixed,
        },
    }
    return load_config(arguments.config, arguments.settings, flags, base)


def _number_or_word(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.lstrip("-").isdecimal() else text

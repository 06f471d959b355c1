"""The verbs of ``crkd VERB`` and their parsers."""

from __future__ import annotations

import argparse
import difflib
import importlib
from types import ModuleType
from typing import Any

import crkd

GROUPS = {
    "Train": {
        "pretrain": "train a network on the known classes (stage 1)",
        "discover": "find novel classes among unlabeled images (stage 2)",
        "increments": "discover several groups of novel classes, one after another",
        "distill": "train a small student network from a finished run",
    },
    "Evaluate": {
        "evaluate": "compute the metrics of a run from its predictions",
        "compare": "print the metrics of several runs in one table",
        "sweep": "run a grid of configurations with several seeds",
        "reproduce": "run an experiment with several seeds and compare it",
        "baseline": "run a baseline, such as kmeans, uno or supervised",
    },
    "Use": {
        "predict": "predict the classes of new images",
        "watch": "predict new images as they come and report unknown ones",
        "review": "write a page for the review of discovered classes",
        "apply-review": "make a run with named classes from a review",
        "export": "export a run as a program, or its labels for other tools",
    },
    "Prepare": {
        "embed": "compute feature vectors of images with a pretrained backbone",
        "check-data": "check a data set before training",
        "estimate-k": "estimate the number of novel classes",
        "search-student": "rank small networks as students of a run",
    },
    "Machine": {
        "check-gpu": "test the GPU code on this machine",
        "bench": "run a benchmark on this machine",
        "gpu-day": "run all GPU measurements in slices of a few minutes",
        "completion": "print the completion script for bash or zsh",
    },
}
"""Title of a group to its verbs, each with one line for ``crkd --help``."""

VERBS = [verb for group in GROUPS.values() for verb in group]


class Parser(argparse.ArgumentParser):
    """A parser with ``--version`` that keeps the line breaks of descriptions."""

    def __init__(self, **arguments: Any) -> None:
        arguments.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        arguments.setdefault("allow_abbrev", False)
        super().__init__(**arguments)
        self.add_argument("--version", action="version", version=f"crkd {crkd.__version__}")


def command_module(verb: str) -> ModuleType:
    """Return the module of a verb: DESCRIPTION, add_arguments(parser) and run(given)."""
    return importlib.import_module(f"crkd.commands.{verb.replace('-', '_')}")


def parsers(*verbs: str) -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of ``crkd`` and the sub-parser of every verb.

    Args:
        verbs: verbs whose modules are imported; the sub-parsers of all others have no arguments.
    """
    parser = Parser(
        prog="crkd",
        usage="crkd [-h] [--version] VERB ...",
        description="Class-incremental novel class discovery in images.",
        epilog=_summaries(),
    )
    action = parser.add_subparsers(
        prog="crkd", dest="verb", metavar="VERB", required=True, help=argparse.SUPPRESS
    )
    made = {}
    for verb in VERBS:
        made[verb] = action.add_parser(verb)
        if verb in verbs:
            module = command_module(verb)
            made[verb].description = module.DESCRIPTION
            module.add_arguments(made[verb])
    return parser, made


def unknown_verb(verb: str) -> str:
    """Return the message for a verb that does not exist.

    >>> unknown_verb("discovr")
    "unknown verb 'discovr' (did you mean discover?); crkd --help lists all verbs"
    """
    near = difflib.get_close_matches(verb, VERBS)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return f"unknown verb {verb!r}{hint}; crkd --help lists all verbs"


def _summaries() -> str:
    lines = []
    for title, verbs in GROUPS.items():
        lines += [f"{title}:", *(f"  {verb:<14}  {text}" for verb, text in verbs.items()), ""]
    return "\n".join([*lines, "'crkd VERB --help' lists the arguments of a verb."])

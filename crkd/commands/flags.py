"""Arguments that several verbs share, and the configuration that they give."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping
from typing import Any

from crkd.config.load import FOLDERS, load_config, merge, shipped_configs
from crkd.config.schema import Config
from crkd.core.errors import InputError


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that make the configuration of a run."""
    data = parser.add_argument_group("configuration")
    data.add_argument(
        "--config", metavar="FILE", help="YAML file, or the name of a shipped configuration"
    )
    add_set_flag(data, "change one configuration key, e.g. discover.epochs=100")
    data.add_argument("--dataset", metavar="NAME", help="data set (default: digits)")
    data.add_argument("--split", metavar="NAME|FILE", help="split into known and novel classes")
    data.add_argument(
        "--class-order-seed", type=int, metavar="N", help="seed of a random class order"
    )
    data.add_argument(
        "--known", metavar="DIR", help="your labeled images: one folder for each known class"
    )
    data.add_argument("--novel", metavar="DIR", help="your unlabeled images, in any subfolders")
    data.add_argument(
        "--num-novel", metavar="K|auto", help="number of novel classes; auto estimates it"
    )
    data.add_argument(
        "--mixed",
        action="store_true",
        default=None,
        help="unlabeled images may be of known classes too",
    )
    data.add_argument("--image-size", metavar="PX", type=int, help="image height and width")
    data.add_argument("--weights", metavar="FILE", help="file with pretrained backbone weights")
    data.add_argument(
        "--skip-unreadable",
        action="store_true",
        default=None,
        help="skip image files that cannot be read",
    )
    machine = parser.add_argument_group("data and machine")
    add_data_root_flag(machine)
    add_download_flag(machine)
    add_device_flag(machine, default=None)
    machine.add_argument("--seed", type=int, metavar="N", help="seed of weights, batches and views")
    parser.epilog = shipped_names()


def shipped_names() -> str:
    """Return the names for ``--config`` as indented text."""
    lines = ["shipped configurations (--config NAME takes the first match):"]
    for folder in FOLDERS:
        names = ", ".join(sorted(path.stem for path in shipped_configs(folder)))
        first, rest = f"  {folder + ':':<13}", " " * 15
        lines.append(
            textwrap.fill(
                names, 78, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
            )
        )
    return "\n".join(lines)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of verbs that write a run folder."""
    parser.add_argument("--out", metavar="RUN", help="run folder to write")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")


def add_set_flag(parser: argparse._ActionsContainer, text: str) -> None:
    """Add ``--set KEY=VALUE``, which may be repeated."""
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help=f"{text}; may be repeated",
    )


def add_data_root_flag(parser: argparse._ActionsContainer) -> None:
    """Add ``--data-root DIR``."""
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data sets")


def add_download_flag(parser: argparse._ActionsContainer) -> None:
    """Add ``--download``."""
    parser.add_argument(
        "--download",
        action="store_true",
        help="download the data set, or the weights of --backbone, if missing",
    )


def add_device_flag(parser: argparse._ActionsContainer, default: str | None = "auto") -> None:
    """Add ``--device NAME``; with None the configuration decides."""
    parser.add_argument(
        "--device",
        metavar="NAME",
        default=default,
        help="auto, cpu, cuda or cuda:N (default: auto)",
    )


def check_resume(given: argparse.Namespace) -> None:
    """Check that ``--resume`` comes with ``--out``.

    Raises:
        InputError: it does not.
    """
    if given.resume and given.out is None:
        raise InputError("--resume needs --out RUN, the run to continue")


def check_run(path: str) -> None:
    """Refuse a path that is no run folder, before a verb imports PyTorch, which takes seconds.

    Raises:
        InputError: there is no run in ``path``.
    """
    from crkd.runs.folder import RunFolder

    RunFolder.open(path)


def config_of(
    given: argparse.Namespace,
    base: Config | None = None,
    more: Mapping[str, Any] | None = None,
) -> Config:
    """Return the checked configuration that the flags give.

    Args:
        given: parsed flags of :func:`add_config_flags`.
        base: configuration of the run that this run extends; None takes that of the data set.
        more: values of the verb's own flags, as blocks of configuration keys.

    Raises:
        InputError: see :func:`crkd.config.check.build`, or own images are given for a data set
            that does not use them.
    """
    dataset = given.dataset
    if given.known is not None and dataset is None:
        dataset = "folder"
    flags = {
        "dataset": dataset,
        "split": given.split,
        "class_order_seed": given.class_order_seed,
        "seed": given.seed,
        "device": given.device,
        "data": {
            "root": given.data_root,
            "known": given.known,
            "novel": given.novel,
            "image_size": given.image_size,
            "skip_unreadable": given.skip_unreadable,
        },
        "model": {"weights": given.weights},
        "discover": {
            "num_novel": _number_or_word(given.num_novel),
            "mixed": given.mixed,
        },
    }
    config = load_config(given.config, given.settings, merge(flags, more or {}), base)
    _check_own_images(config)
    return config


def _check_own_images(config: Config) -> None:
    """Refuse own images that would not be used."""
    if config.dataset == "folder":
        return
    if config.data.known is not None:
        raise InputError(
            f"--known {config.data.known!r} is for own images, and the data set is "
            f"{config.dataset!r}; give --dataset folder, or leave --known out"
        )
    if config.data.novel is not None:
        raise InputError(
            f"--known is not given, and --novel {config.data.novel!r} is not for the data set "
            f"{config.dataset!r}; name the folder of known images"
        )


def config_words(given: argparse.Namespace) -> list[str]:
    """Return the words of a command line that give the same configuration.

    Args:
        given: parsed flags of :func:`add_config_flags`, among others.
    """
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    words = []
    for name, default in vars(parser.parse_args([])).items():
        value = getattr(given, name)
        flag = "--set" if name == "settings" else f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, list):
            words += [word for entry in value for word in (flag, entry)]
        elif value != default:
            words += [flag, str(value)]
    return words


def _number_or_word(text: str | None) -> int | str | None:
    if text is None or not text.removeprefix("-").isdecimal():
        return text
    try:
        return int(text)
    except ValueError:
        # Python reads no number of more than 4300 digits. As text it is refused.
        return text

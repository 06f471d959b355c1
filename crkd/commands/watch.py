"""``crkd watch``: predictions of new images as they come, and a notice of unknown ones."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crkd.commands.flags import add_device_flag, check_run
from crkd.core.counted import counted
from crkd.core.errors import InputError

if TYPE_CHECKING:
    from crkd.inference.watching.watcher import Pass, Watcher

DESCRIPTION = """\
Predict the new images of a folder as they come, and report when enough similar
images have gathered that fit none of the classes of the run.

  crkd watch inbox/ --run runs/mine
  crkd watch inbox/ --run runs/mine --once

The state folder holds the predictions (predictions.jsonl). When there is a
group of similar unknown images, it also holds their picture (unknown.png), a
list with the next command (unknown.txt), and a folder for this command
(unknown/). The command can be stopped or killed at any moment; the same command
continues.
"""
INTERVAL = 10.0
_SLICE = 0.2
"""Longest sleep in seconds, after which a signal is noticed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("images", metavar="DIR", help="folder of images, with any subfolders")
    parser.add_argument("--run", metavar="RUN", required=True, help="folder of a finished run")
    parser.add_argument(
        "--state", metavar="FOLDER", help="folder of the state (default: DIR-watch next to DIR)"
    )
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=float,
        default=INTERVAL,
        help=f"time between two passes over DIR (default: {INTERVAL:g})",
    )
    parser.add_argument(
        "--once", action="store_true", help="end after one pass, e.g. when called by cron"
    )
    parser.add_argument(
        "--enough",
        metavar="N",
        type=int,
        default=20,
        help="number of similar unknown images to report (default: 20)",
    )
    add_device_flag(parser)


def run(given: argparse.Namespace) -> int:
    """Watch until a signal comes, or for one pass; return the exit code."""
    if not 0 < given.interval < float("inf"):
        raise InputError(f"--interval {given.interval} is not above 0; {INTERVAL:g} is usual")
    check_run(given.run)

    from crkd.core.device import pick_device
    from crkd.inference.watching.watcher import watching
    from crkd.training.interruption import graceful_stop

    images = Path(given.images)
    folder = images.absolute()
    state = Path(given.state) if given.state else folder.with_name(f"{folder.name}-watch")
    device = pick_device(given.device)
    with (
        watching(images, given.run, state, device=device, enough=given.enough) as watcher,
        graceful_stop() as signals,
    ):
        _passes(watcher, given, signals)
        if signals:
            print(f"crkd watch: stopped; the same command continues: {state}", file=sys.stderr)
            return 130
    return 0


def _passes(watcher: Watcher, given: argparse.Namespace, signals: Sequence[int]) -> None:
    """Look again and again, and print what changed."""
    last_notice, first = "", True
    while not signals:
        done = watcher.look(lambda: bool(signals))
        if not done.complete:
            return
        if first or done.predicted or done.unreadable:
            _show(watcher, done)
        if first or done.predicted:
            notice = _notice(watcher, Path(given.run))
            if notice != last_notice:
                print(notice, end="", flush=True)
            last_notice, first = notice, False
        if given.once:
            return
        until = time.monotonic() + given.interval
        while not signals and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))


def _show(watcher: Watcher, done: Pass) -> None:
    """Print the counts of a pass and of the state."""
    from crkd.inference.watching.state import PREDICTIONS, SKIPPED

    state = watcher.state
    waiting = f", {counted(done.waiting, 'file')} incomplete" if done.waiting else ""
    new = counted(done.predicted, "new image")
    print(f"{new}, {done.outliers:,} fit none of the classes{waiting}")
    for name, reason in list(done.unreadable.items())[:5]:
        print(f"  unreadable: {name!r}: {reason}")
    if state.num_skipped:
        print(f"{counted(state.num_skipped, 'unreadable file')}: {state.folder / SKIPPED}")
    total = counted(state.num_images, "image")
    outliers = f"{len(state.outliers):,} fit none of the classes"
    print(f"{total} in all, {outliers}: {state.folder / PREDICTIONS}", flush=True)


def _notice(watcher: Watcher, run: Path) -> str:
    """Bring the files of the unknown images up to date and return what there is to say."""
    from crkd.review.unknown_images import LIST, PICTURE, write_unknown

    state, groups = watcher.state, watcher.groups()
    command = write_unknown(state.folder, state.images, groups, run)
    if command is None:
        return ""
    sizes = ", ".join(f"{len(group):,}" for group in groups)
    return (
        "enough unknown images for a further step: "
        f"{counted(len(groups), 'group')} of similar images ({sizes})\n"
        f"picture: {state.folder / PICTURE}\n"
        f"list: {state.folder / LIST}\n"
        f"next: {command}\n"
    )

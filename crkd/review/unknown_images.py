"""Unknown images of a watch: a folder for the next discovery, a picture, and a list."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from crkd.core.atomic_write import UNFINISHED, failed_write, write_bytes
from crkd.core.counted import counted
from crkd.core.paths import readable
from crkd.data.splits.partition import Subset
from crkd.inference.image_files import TolerantSource
from crkd.inference.watching.state import Outlier
from crkd.review.contact_sheet import CAPTION_WIDTH, IMAGES, sheet, strip
from crkd.review.wrapped_text import fitted

FOLDER: Final = "unknown"
PICTURE: Final = "unknown.png"
LIST: Final = "unknown.txt"
_DIGITS: Final = 16
"""Hexadecimal digits of a digest in a file name."""
_OWN: Final = re.compile(rf"\.?[0-9a-f]{{{_DIGITS}}}(\.[^.]*)?({re.escape(UNFINISHED)})?")
"""Names of files that :func:`write_unknown` makes."""

Groups = Sequence[Sequence[Outlier]]


def write_unknown(state: Path, images: Path, groups: Groups, run: Path) -> str | None:
    """Bring the folder ``unknown``, ``unknown.png`` and ``unknown.txt`` up to date.

    The list is written last. After an interruption, the next call completes all three.

    Args:
        state: the state folder.
        images: the watched folder.
        groups: outliers, the most typical image of each group first; without any, an earlier list
            is deleted.
        run: the run that the next discovery extends.

    Returns:
        The command of the next discovery; None without a group.

    Raises:
        InputError: a file cannot be written.
    """
    path = state / LIST
    if not groups:
        path.unlink(missing_ok=True)
        return None
    command = next_command(state, groups, run)
    text = _listed(images, groups, command).encode()
    if not path.is_file() or path.read_bytes() != text:
        path.unlink(missing_ok=True)
        _link(state / FOLDER, images, groups)
        write_bytes(state / PICTURE, _picture(images, groups))
        write_bytes(path, text)
    return command


def next_command(state: Path, groups: Groups, run: Path) -> str:
    """Return the command that discovers the classes of the unknown images."""
    words = ["crkd", "discover", "--from", readable(run.absolute())]
    words += ["--novel", readable((state / FOLDER).absolute()), "--num-novel", str(len(groups))]
    return shlex.join(words)


def _listed(images: Path, groups: Groups, command: str) -> str:
    lines = [f"# next: {command}"]
    for number, group in enumerate(groups, start=1):
        lines += ["", f"# {_title(number, group)}"]
        # A line break in a file name would look like two files.
        lines += [readable(images / o.file).replace("\n", "\\n") for o in group]
    return "\n".join(lines) + "\n"


def _title(number: int, group: Sequence[Outlier]) -> str:
    return f"group {number}: {counted(len(group), 'image')}"


def _link(folder: Path, images: Path, groups: Groups) -> None:
    """Let the folder hold the images of the groups, as hard links or copies.

    Images of earlier groups are deleted; files that a person put there stay.
    """
    wanted = {
        f"{outlier.digest[:_DIGITS]}{Path(outlier.file).suffix.lower()}": images / outlier.file
        for group in groups
        for outlier in group
    }
    try:
        folder.mkdir(exist_ok=True)
        for name in set(os.listdir(folder)) - wanted.keys():
            if _OWN.fullmatch(name):
                (folder / name).unlink()
        for name, image in wanted.items():
            if not (folder / name).exists():
                _link_file(image, folder / name)
    except OSError as error:
        raise failed_write(folder, error) from error


def _link_file(image: Path, link: Path) -> None:
    """Link or copy a file, so that the link is whole or absent; a deleted image gets none."""
    unfinished = link.with_name(f".{link.name}{UNFINISHED}")
    unfinished.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        try:
            # A link to a link would be broken by a relative target.
            os.link(image.resolve(), unfinished)
        except FileNotFoundError:
            raise
        except OSError:
            # Another file system, or one without hard links.
            shutil.copyfile(image, unfinished)
        unfinished.replace(link)


def _picture(images: Path, groups: Groups) -> bytes:
    captions, strips = [], []
    for number, group in enumerate(groups, start=1):
        source = TolerantSource([images / outlier.file for outlier in group[:IMAGES]])
        rows = np.arange(len(source))
        part = Subset(source, rows, source.labels, list(source.ids))
        (name, count), *_ = Counter(outlier.nearest for outlier in group).most_common(1)
        captions.append(([_title(number, group)], _nearest(name, count / len(group))))
        strips.append(strip(part, rows))
    return sheet(captions, strips)


def _nearest(name: str, share: float) -> list[str]:
    """Return the lines of the second text; a long name is cut."""

    def text(cut: Callable[[str], str]) -> str:
        return f"nearest: {cut(name)} {share:.0%}"

    return fitted(text, CAPTION_WIDTH, 2, longest=len(name))

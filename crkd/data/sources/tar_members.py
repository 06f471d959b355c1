"""The images of a tar file, found by its headers, and their content."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from crkd.core.errors import InputError
from crkd.core.paths import irregular
from crkd.data.sources.base import UnreadableImageError
from crkd.data.sources.decode import SUFFIXES

MAX_IMAGE_BYTES: Final = 256 * 1024 * 1024
_MAX_CLASS_BYTES: Final = 1024


class Member(NamedTuple):
    """One image in an archive: its position, and its class or None.

    A link has the position of its target; one to no file of the archive has the size -1.
    """

    archive: Path
    offset: int
    size: int
    name: str
    class_name: str | None


def read_member(archive: Path, offset: int, size: int, where: str) -> bytes:
    """Return the content of a member of an archive.

    Args:
        archive: the tar file.
        offset: where the content begins, in bytes.
        size: of the content in bytes, as :class:`Member` has it.
        where: name of the member for messages.

    Raises:
        UnreadableImageError: the archive cannot be read, or the member is a link to nowhere.
    """
    if size < 0:
        raise UnreadableImageError(where, "a link to no file of the archive")
    try:
        with archive.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise UnreadableImageError(where, error.strerror or str(error)) from error


def tar_members(archive: Path) -> tuple[Member, ...]:
    """Return the images of one archive, from its headers; other members are skipped.

    So are hidden files and those in hidden folders. Hard and symbolic links are their targets.

    Raises:
        InputError: it is not a regular file, damaged or compressed, a member is outside its folder,
            or too large.
    """
    kind = irregular(archive)
    if kind is not None:
        raise InputError(f"{str(archive)!r} is {kind}, not a tar file; remove it or rename it")
    found: list[tuple[tarfile.TarInfo, PurePosixPath]] = []
    images, classes = list[Member](), dict[str, str]()
    try:
        length = archive.stat().st_size
        # Compressed archives would have to be unpacked from the start for every image.
        with tarfile.open(archive, "r:") as tar:
            for entry in tar:
                path = PurePosixPath(entry.name.encode("utf-8", "replace").decode())
                kind = path.suffix.lower()
                is_link = entry.islnk() or entry.issym()
                if _is_hidden(path) or not (is_link or (entry.isreg() and not entry.issparse())):
                    continue
                if kind == ".cls" or kind in SUFFIXES:
                    found.append((entry, path))
            targets = _targets(tar, [entry for entry, _ in found])
            for target, (_, path) in zip(targets, found, strict=True):
                if path.suffix.lower() in SUFFIXES:
                    images.append(_checked(archive, target, path, length))
                elif target is not None and target.size <= _MAX_CLASS_BYTES:
                    text = tar.extractfile(target)
                    assert text is not None
                    classes[str(path.with_suffix(""))] = text.read().decode("utf-8").strip()
    except (tarfile.TarError, OSError, UnicodeDecodeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot read the tar file {str(archive)!r}: {reason}; it must be a plain tar file, "
            "not a compressed one"
        ) from None
    named = (
        member._replace(
            class_name=classes.get(str(PurePosixPath(member.name).with_suffix("")))
            or member.class_name
        )
        for member in images
    )
    return tuple(named)


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") and part != ".." for part in path.parts)


def _targets(
    tar: tarfile.TarFile, entries: Sequence[tarfile.TarInfo]
) -> list[tarfile.TarInfo | None]:
    """Return each entry, or what it links to within the archive; None for a link to nowhere."""
    if all(entry.isreg() for entry in entries):
        return list(entries)
    members = {posixpath.normpath(entry.name): entry for entry in tar.getmembers()}
    return [_followed(entry, members) for entry in entries]


def _followed(
    entry: tarfile.TarInfo, members: Mapping[str, tarfile.TarInfo]
) -> tarfile.TarInfo | None:
    seen = {entry.name}
    while entry.islnk() or entry.issym():
        # A hard link names a member, a symbolic link a file from its own folder on.
        folder = posixpath.dirname(entry.name) if entry.issym() else ""
        target = members.get(posixpath.normpath(posixpath.join(folder, entry.linkname)))
        if target is None or target.name in seen:
            return None
        seen.add(target.name)
        entry = target
    return entry if entry.isreg() and not entry.issparse() else None


def _checked(
    archive: Path, entry: tarfile.TarInfo | None, path: PurePosixPath, length: int
) -> Member:
    if path.is_absolute() or ".." in path.parts:
        raise InputError(
            f"the tar file {str(archive)!r} names {str(path)!r}, which is outside it; pack it again"
        )
    folder = path.parts[0] if len(path.parts) > 1 else None
    if entry is None:
        return Member(archive, 0, -1, str(path), folder)
    end = entry.offset_data + entry.size
    if not 0 <= entry.size <= MAX_IMAGE_BYTES or end > length:
        raise InputError(
            f"the image {str(path)!r} in {str(archive)!r} claims {entry.size:,} bytes; more than "
            f"{MAX_IMAGE_BYTES:,} or beyond the end of the file are not read: pack it again"
        )
    return Member(archive, entry.offset_data, entry.size, str(path), folder)

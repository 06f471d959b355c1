"""Files of CIFAR-10 and CIFAR-100 that torchvision unpickles, and their SHA-256.

The digests are those of the archives at https://www.cs.toronto.edu/~kriz/cifar.html and of the
files in them. Each one agrees with at least three independent publications of it.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any, Final

from crkd.core.atomic_write import UNFINISHED
from crkd.core.errors import InputError, listed

ARCHIVES: Final = {
    "cifar-10-batches-py": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "cifar-100-python": "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
}
"""SHA-256 of the archive that holds a folder."""

FILES: Final = {
    "cifar-10-batches-py": {
        "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    },
    "cifar-100-python": {
        "meta": "a5d4786345c961390f865e93b434dbd5c6904ce880667e0cb888c97d449f28b9",
        "test": "4b67687d9933c4db8f0831104447f15b93774f4f464bd0516f0f0f2ac83b7864",
        "train": "735e79b04f092ca3d2e6d07f368c0a7d70d48c48d28865950cc24454cf45129b",
    },
}
"""SHA-256 of each file of a folder."""


def prepare(folder: Path, kind: Any, *, download: bool) -> None:
    """Check the files of torchvision's folder; fetch the folder before that if asked to.

    Args:
        folder: the folder that torchvision reads.
        kind: torchvision's class of the data set.
        download: fetch the archive if there is no such folder.

    Raises:
        InputError: a file is missing, or a file or the archive has another digest.
        OSError: the archive cannot be fetched.
        RuntimeError: torchvision refuses what it fetched.
    """
    if download and not folder.is_dir():
        _fetch(folder, kind)
    digests = FILES[folder.name].items()
    faults = [name for name, digest in digests if _sha256(folder / name) != digest]
    if faults:
        raise InputError(
            f"cannot use {str(folder)!r}: missing, or not the published file by its SHA-256: "
            f"{listed(faults)}; delete that folder and give --download, or name another with "
            "--data-root"
        )


def _fetch(folder: Path, kind: Any) -> None:
    """Fetch the archive and extract it once its digest is right; the folder is whole or absent."""
    from torchvision.datasets.utils import download_url, extract_archive

    archive = folder.parent / kind.filename
    download_url(kind.url, str(archive.parent), archive.name, kind.tgz_md5)
    if _sha256(archive) != ARCHIVES[folder.name]:
        raise InputError(
            f"{str(archive)!r} is not the published archive by its SHA-256; delete it and try again"
        )
    unfinished = folder.with_name(f".{folder.name}{UNFINISHED}")
    # What a killed process left.
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        extract_archive(str(archive), str(unfinished))
        (unfinished / folder.name).replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _sha256(file: Path) -> str:
    """Return the digest of a regular file, empty if there is none."""
    if not file.is_file():
        return ""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()

"""Files that are either whole or absent, and that notice when they were altered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from crkd.core.errors import InputError
from crkd.core.paths import irregular

UNFINISHED: Final = ".unfinished"
"""How the names of files end that are being written."""

_UNSEALED: Final = b"0" * 64
"""Placeholder of a file's own digest while it is computed."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that a crash leaves either the old file or the new one.

    Raises:
        InputError: the folder cannot be written (read-only, full disk); the old file is intact.
    """
    write_pieces(path, (content,))


def write_pieces(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file piece by piece, as :func:`write_bytes`, and return its size in bytes.

    Args:
        path: the file.
        pieces: its content; one is in memory at a time. An error of theirs keeps the old file.

    Raises:
        InputError: the folder cannot be written (read-only, full disk); the old file is intact.
    """
    temporary, size = None, 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED
        )
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a run folder is read by others as its folder allows.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise failed_write(path, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return size


def failed_write(path: Path, error: OSError) -> InputError:
    """Return the error for a file or folder that cannot be written."""
    return InputError(
        f"{path} cannot be written ({error.strerror}); free space or choose another folder"
    )


def is_unfinished(file: Path) -> bool:
    """Return whether a file is one that a process was killed while it wrote."""
    return file.name.startswith(".") and file.name.endswith(UNFINISHED)


def clear_unfinished(folder: Path) -> None:
    """Delete what a process left that was killed while it wrote into ``folder``."""
    for file in folder.glob(f".*{UNFINISHED}"):
        # Where it cannot be deleted nothing can be written, and that will be said.
        with contextlib.suppress(OSError):
            file.unlink()


def check_regular(path: Path) -> None:
    """Refuse a named pipe, a socket or a device, which would be read without end.

    Raises:
        InputError: there is something else than a regular file.
    """
    kind = irregular(path)
    if kind is not None:
        raise InputError(f"{path} is {kind}, not a file of a run; restore it")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN and infinity are refused.

    Bytes of a file name that are not UTF-8 are lone surrogates; they become JSON's own escapes.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8", "backslashreplace"))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing, not regular, or is not JSON.
    """
    check_regular(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); is it a run's file?") from None


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    """Write tensors and JSON ``metadata`` as one safetensors file; return its SHA-256.

    The file bears the digest of everything in it but the digest.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry, since several come in any order: equal tensors shall make equal files.
    content = save(plain, {"crkd": _UNSEALED.decode() + json.dumps(metadata, allow_nan=False)})
    place = content.index(_UNSEALED)
    seal = hashlib.sha256(content).hexdigest().encode()
    content = b"".join((content[:place], seal, memoryview(content)[place + len(seal) :]))
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def load_tensors(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], Any]:
    """Read a file of :func:`save_tensors`.

    Args:
        path: the file.
        sha256: expected digest of its bytes; None compares the file with the digest that it bears.

    Raises:
        InputError: the file is missing, damaged, changed or of another kind.
    """
    check_regular(path)
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); is the run whole?") from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path} differs from the file this run wrote (SHA-256); restore it")
    try:
        length = int.from_bytes(content[:8], "little")
        entry = json.loads(content[8 : 8 + length])["__metadata__"]["crkd"]
        seal, brace, rest = entry.partition("{")
        if sha256 is None and not _is_sealed(content, seal.encode()):
            raise ValueError("its contents do not have the digest that it bears")
        return load(content), json.loads(brace + rest)
    except (
        SafetensorError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path} is damaged or not of this program ({error}); restore it"
        ) from None


def _is_sealed(content: bytes, seal: bytes) -> bool:
    place = content.find(seal)
    digest = hashlib.sha256(content[:place])
    digest.update(_UNSEALED)
    digest.update(memoryview(content)[place + len(_UNSEALED) :])
    return digest.hexdigest().encode() == seal

"""JSON and tensors in files that are either whole or absent, and that notice changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.core.paths import irregular
from crkd.data.vectors.declared_size import check_memory, format_bytes

if TYPE_CHECKING:
    # PyTorch takes seconds to import, and most commands on runs do not need it.
    from torch import Tensor

MAX_JSON: Final = 64 << 20
"""Most bytes of a JSON file that is read."""
MAX_JSON_OF_IMAGES: Final = 1 << 30
"""Most bytes of a JSON file with an entry for each image."""
_UNSEALED: Final = b"0" * 64
"""Placeholder of a file's own digest while it is computed."""


def check_regular(path: Path, most: int | None = None) -> None:
    """Refuse a named pipe, a socket or a device, which would be read without end.

    Args:
        path: the file; one that is missing is not refused here.
        most: largest size in bytes; None is any size.

    Raises:
        InputError: there is something else than a regular file, or it is larger.
    """
    kind = irregular(path)
    if kind is not None:
        raise InputError(f"{path} is {kind}, not a file of a run; restore it")
    if most is not None and path.is_file() and path.stat().st_size > most:
        raise InputError(
            f"{path} has {format_bytes(path.stat().st_size)}, but at most {format_bytes(most)} are "
            "read; restore it"
        )


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN and infinity are refused.

    Bytes of a file name that are not UTF-8 are lone surrogates; they become JSON's own escapes.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8", "backslashreplace"))


def read_json(path: Path, most: int = MAX_JSON) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        most: largest size in bytes.

    Raises:
        InputError: the file is missing, not regular, larger, or is not JSON.
    """
    check_regular(path, most)
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
        InputError: the file is missing, damaged, changed, of another kind or too large for the
            free memory.
    """
    check_regular(path)
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # Bytes and tensors are in memory at once.
        check_memory(2 * path.stat().st_size, f"the file {str(path)!r}", "restore it")
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

"""JSON and tensors in files that are either whole or absent, and that notice changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.core.paths import irregular

if TYPE_CHECKING:
    # PyTorch takes seconds to import, and most commands on runs do not need it.
    from torch import Tensor

_UNSEALED: Final = b"0" * 64
"""Placeholder of a file's own digest while it is computed."""


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

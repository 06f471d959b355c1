"""Files that are either whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

from crkd.core.errors import InputError


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that a crash leaves either the old file or the new one.

    Raises:
        InputError: the folder cannot be written (read-only, full disk); the old file is intact.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a run folder is read by others as its folder allows.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); free space or choose another --out"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); is it a run's file?") from None


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    """Write tensors and JSON ``metadata`` as one safetensors file; return its SHA-256."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(plain, {"crkd": json.dumps(metadata, allow_nan=False)})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def load_tensors(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], Any]:
    """Read a file of :func:`save_tensors`.

    Args:
        path: the file.
        sha256: expected digest of its bytes; None skips the comparison.

    Raises:
        InputError: the file is missing, damaged, changed or of another kind.
    """
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
        header = json.loads(content[8 : 8 + length])
        return load(content), json.loads(header["__metadata__"]["crkd"])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged or not of this program ({error}); restore it"
        ) from None

"""Compilation and loading of kernels: NVRTC through ``cuda.core``, with a cache on disk.

Neither a compiler nor CUDA headers are needed, because the sources are package data without
includes. Compiling needs no GPU; loading does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crkd.core.atomic_write import write_bytes
from crkd.core.errors import InputError
from crkd.core.paths import cache_folder

_SOURCES = Path(__file__).parents[1] / "kernels"
_DIGEST_BYTES = hashlib.sha256().digest_size


@functools.cache
def core() -> Any:
    """Return the module with ``Program`` and ``launch``, which early versions name differently.

    Raises:
        ImportError: cuda-core is not installed.
    """
    module = importlib.import_module("cuda.core")
    if hasattr(module, "Program"):
        return module
    return importlib.import_module("cuda.core.experimental")


def source(name: str, constants: Mapping[str, int]) -> str:
    """Return the full source of one kernel: its compile-time constants, then the code."""
    files = ("primitives.cuh", "common.cuh", f"{name}.cu")
    head = "".join(f"#define {key} {value}\n" for key, value in constants.items())
    return head + "".join((_SOURCES / file).read_text() for file in files)


def cubin(name: str, constants: Mapping[str, int], architecture: str) -> bytes:
    """Return the machine code of one kernel, from the disk cache if it was compiled before.

    Args:
        name: file of the kernel, without ``.cu``.
        constants: values for the names that the file lists under "Compile-time".
        architecture: for instance "sm_90".
    """
    text = source(name, constants)
    key = "\n".join([architecture, str(_nvrtc_version()), text])
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    path = cache_folder() / "kernels" / f"{name}-{digest}.cubin"
    code = _kept(path)
    if code is None:
        code = compiled(text, architecture)
        _keep(path, code)
    return code


def load(code: bytes, function: str, shared_bytes: int, cluster: int) -> Any:
    """Load machine code into the current CUDA context and return its kernel, ready to launch.

    Args:
        code: result of :func:`cubin`.
        function: name of the kernel function.
        shared_bytes: dynamic shared memory of a block.
        cluster: blocks of a cluster; more than 8 need a special attribute.
    """
    from cuda.bindings import driver

    kernel = core().ObjectCode.from_cubin(code).get_kernel(function)
    handle = kernel.handle if hasattr(kernel, "handle") else kernel._handle
    handle = driver.CUkernel(int(handle))
    device = _checked(driver.cuCtxGetDevice())
    attribute = driver.CUfunction_attribute
    _checked(
        driver.cuKernelSetAttribute(
            attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes, handle, device
        )
    )
    if cluster > 8:
        _checked(
            driver.cuKernelSetAttribute(
                attribute.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1, handle, device
            )
        )
    return kernel


def compiled(text: str, architecture: str) -> bytes:
    """Return the machine code of CUDA C++ source, without the disk cache."""
    module = core()
    options = module.ProgramOptions(arch=architecture, std="c++17")
    return bytes(module.Program(text, "c++", options).compile("cubin").code)


def _kept(path: Path) -> bytes | None:
    """Return the code of a cache entry, or None if it is missing or damaged."""
    try:
        entry = path.read_bytes()
    except OSError:
        return None
    code, digest = entry[:-_DIGEST_BYTES], entry[-_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(path: Path, code: bytes) -> None:
    """Write code and digest atomically, so that no process reads half of them.

    The digest comes last, so that disassemblers, which ignore trailing bytes, can read the file.
    """
    # With a read-only home folder, every process compiles the kernels again.
    with contextlib.suppress(InputError):
        write_bytes(path, code + hashlib.sha256(code).digest())


@functools.cache
def _nvrtc_version() -> tuple[int, int]:
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return int(major), int(minor)


def _checked(returned: tuple[Any, ...]) -> Any:
    """Return the result of a driver call.

    Raises:
        RuntimeError: the call failed.
    """
    error, *values = returned
    if int(error) != 0:
        raise RuntimeError(f"the CUDA driver returned {error}")
    return values[0] if values else None

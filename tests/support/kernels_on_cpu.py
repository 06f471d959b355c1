"""Runs the CUDA kernels on a processor, compiled by g++ against ``on_cpu/language.h``."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from crkd.ot.cuda import launches, plans
from tests.support import ROOT

KERNELS = Path(launches.__file__).parents[1] / "kernels"
HERE = Path(__file__).parent / "on_cpu"
COMPILER = shutil.which("g++")
MACHINE = "machine.cpp"
HEADERS = ("machine.h", "language.h", "synchronization.h", "global_memory.h", "mailboxes.h")
PERSISTENT = -1
"""Takes the place of ``persistent.cu`` among the steps of ``streaming.cu``."""

OPTIONS = ("-std=c++20", "-O1", "-w", "-fPIC", "-U_FORTIFY_SOURCE")
CACHE = ROOT / ".pytest_cache" / "kernels-on-cpu"
"""Compiled libraries by what they are compiled from; processes and later test runs share them."""


@functools.cache
def _folder() -> Path:
    """Return the folder of this compiler and this machine, with the latter compiled.

    It takes longer than a kernel.
    """
    version = subprocess.run([str(COMPILER), "--version"], capture_output=True, check=True).stdout
    files = [HERE / name for name in (MACHINE, *HEADERS)]
    machine = b"".join(file.read_bytes() for file in files)
    name = hashlib.sha256(version + repr(OPTIONS).encode() + machine).hexdigest()[:16]
    folder = CACHE / name
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=CACHE))
        source, *_ = [Path(shutil.copy(file, new)) for file in files]
        _compile(new, "-c", "-o", str(source.with_suffix(".o")), str(source))
        try:
            new.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(new)
        for other in CACHE.iterdir():
            if len(other.name) == len(name) and other != folder:
                shutil.rmtree(other, ignore_errors=True)
    return folder


def _compile(folder: Path, *arguments: str) -> None:
    subprocess.run([str(COMPILER), *OPTIONS, f"-I{folder}", *arguments], check=True)


class Fault(Exception):
    """The simulated GPU stopped a kernel; the message says why."""


def shows_a_fault(solve: Callable[[int], Tensor], orders: Iterable[int], expected: Tensor) -> bool:
    """Return whether one of the orders of threads stops the run or changes the result.

    Args:
        solve: runs a kernel with a fault in the given order.
        orders: seeds of the simulated GPU.
        expected: the result of the kernel without a fault.
    """
    for order in orders:
        try:
            result = solve(order)
        except Fault:
            return True
        if not torch.equal(result, expected):
            return True
    return False


class Library:
    """One kernel, compiled for the processor."""

    def __init__(self, path: Path) -> None:
        self._code = ctypes.CDLL(str(path))
        self._code.taken_fault.restype = ctypes.c_char_p

    def run(self, *arguments: object) -> None:
        """Run the kernel; the arguments are those of ``run`` in its entry file."""
        self._code.run(*arguments)
        fault = self._code.taken_fault().decode()
        if fault:
            raise Fault(fault)


@functools.cache
def _library(
    name: str, constants: tuple[tuple[str, int], ...], edits: tuple[tuple[str, str], ...] = ()
) -> Library:
    defines = "".join(f"#define {key} {value}\n" for key, value in constants)
    common = (KERNELS / "common.cuh").read_text()
    kernel = (KERNELS / f"{name}.cu").read_text()
    for old, new in edits:
        assert kernel.count(old) == 1, f"{kernel.count(old)} times in the kernel: {old}"
        kernel = kernel.replace(old, new)
    shared = r"extern __shared__ (__align__\(16\) )?float shared\[\];"
    kernel = re.sub(shared, "float* const shared = SHARED_FLOATS;", kernel)
    kernel = kernel.replace("__shared__ bool last;", "bool& last = SHARED_FLAG;")
    entry = (HERE / f"{name}_entry.h").read_text()
    text = f'#include "language.h"\n{defines}{common}{kernel}{entry}'
    library = _folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
    if not library.is_file():
        with tempfile.TemporaryDirectory(dir=_folder()) as place:
            source, made = Path(place) / "kernel.cpp", Path(place) / "kernel.so"
            source.write_text(text)
            machine = _folder() / Path(MACHINE).with_suffix(".o")
            _compile(_folder(), "-shared", "-o", str(made), str(source), str(machine))
            made.rename(library)
    return Library(library)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(0 if tensor is None else tensor.data_ptr())


def _numbers(*values: int) -> list[ctypes.c_longlong]:
    return [ctypes.c_longlong(value) for value in values]


def _types(scores: Tensor, out: Tensor) -> dict[str, int]:
    return {"SCORE_TYPE": launches.TYPES[scores.dtype], "OUT_TYPE": launches.TYPES[out.dtype]}


def _strides(b: Tensor | None, a: Tensor | None) -> tuple[int, int]:
    return (
        b.shape[1] if b is not None and b.ndim == 2 else 0,
        a.shape[1] if a is not None and a.ndim == 2 else 0,
    )


def resident(
    scores: Tensor,
    plan: plans.Resident,
    *,
    epsilon: float,
    num_iters: int,
    b: Tensor | None = None,
    a: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    seed: int = 0,
    edits: tuple[tuple[str, str], ...] = (),
) -> Tensor:
    """Solve by ``resident.cu`` with the given layout.

    Args:
        edits: texts of the kernel, each found once, and what takes their place.
    """
    p, n, m = scores.shape
    out = torch.full((p, n, m), torch.nan, dtype=out_dtype or scores.dtype)
    constants = {**plan.constants, "WEIGHTED": int(a is not None), **_types(scores, out)}
    _library("resident", tuple(constants.items()), edits).run(
        _pointer(scores),
        _pointer(out),
        _pointer(b),
        _pointer(a),
        *_numbers(scores.stride(0), scores.stride(1), n, m, num_iters, *_strides(b, a)),
        ctypes.c_double(1 / (math.log(2) * epsilon)),
        p,
        plan.threads,
        plan.shared_bytes,
        seed,
    )
    return out


def streaming(
    scores: Tensor,
    plan: plans.Streaming,
    *,
    epsilon: float,
    num_iters: int,
    b: Tensor | None = None,
    a: Tensor | None = None,
    relaxation: float | None = None,
    out_dtype: torch.dtype | None = None,
    seed: int = 0,
    persistent: plans.Persistent | None = None,
    edits: tuple[tuple[str, str], ...] = (),
) -> Tensor:
    """Solve by the launches of ``streaming.cu`` with the given layout.

    With a layout of ``persistent.cu``, that kernel makes all iterations between first and last.

    Args:
        edits: texts of ``persistent.cu``, each found once, and what takes their place.
    """
    p, n, m = scores.shape
    out = torch.full((p, n, m), torch.nan, dtype=out_dtype or scores.dtype)
    potentials = torch.full((2 * p * m,), torch.nan)
    chunk_sums = torch.full((2 * p * plan.chunks * m,), torch.nan)
    group_sums = torch.full((2 * p * plan.groups * m,), torch.nan)
    counters = torch.zeros(p * (plan.groups + 1), dtype=torch.int32)
    power = 1.0 if relaxation is None else relaxation / (relaxation + epsilon)
    middle = 1 if relaxation is None else 2
    types = {"WEIGHTED": int(a is not None), **_types(scores, out)}
    steps = [middle] * (num_iters - 1) if persistent is None else [PERSISTENT]
    for step in (0, *steps, 3):
        if step == PERSISTENT:
            assert persistent is not None
            given = (scores, b, a, potentials)
            _persist(*given, persistent, epsilon, num_iters, types, seed, edits)
            continue
        constants = {**plan.constants(step), **types}
        _library("streaming", tuple(constants.items())).run(
            _pointer(scores),
            _pointer(out),
            _pointer(b),
            _pointer(a),
            _pointer(potentials),
            _pointer(chunk_sums),
            _pointer(group_sums),
            _pointer(counters),
            *_numbers(scores.stride(0), scores.stride(1), n, m),
            *_numbers(plan.chunks, plan.chunks_per_group, *_strides(b, a)),
            ctypes.c_double(1 / (math.log(2) * epsilon)),
            ctypes.c_double(power),
            p,
            plan.threads,
            plan.shared_bytes,
            seed,
        )
        assert not counters.any(), "a counter was not left at zero"
    return out


def _persist(
    scores: Tensor,
    b: Tensor | None,
    a: Tensor | None,
    potentials: Tensor,
    plan: plans.Persistent,
    epsilon: float,
    num_iters: int,
    types: dict[str, int],
    seed: int,
    edits: tuple[tuple[str, str], ...],
) -> None:
    """Make the iterations between the first class step and the result, as the launches would."""
    p, n, m = scores.shape
    blocks = plan.together * plan.blocks
    stored = torch.full((max(1, blocks * plan.stored_bytes),), 0xFF, dtype=torch.uint8)
    sums = torch.full((plan.together * plan.sums, m), torch.nan)
    factors = torch.full((p, m), torch.nan)
    counters = torch.zeros(p * plan.cluster, dtype=torch.int32)
    for first in range(0, p, plan.together):
        _library("persistent", tuple({**plan.constants, **types}.items()), edits).run(
            *map(_pointer, (scores, b, a, potentials, stored, sums, factors, counters)),
            *_numbers(scores.stride(0), scores.stride(1), n, m, num_iters - 1),
            *_numbers(*_strides(b, a), first),
            ctypes.c_double(1 / (math.log(2) * epsilon)),
            min(plan.together, p - first),
            plan.threads,
            plan.shared_bytes,
            seed,
        )

"""Reads the machine code of compiled kernels: attributes of a cubin, and its instructions."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sysconfig
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_REGISTERS, _FRAME = 0x2F, 0x11
"""Numbers of attributes in ``.nv.info``: registers and bytes of local memory of a thread."""


class Code(NamedTuple):
    """Resources of a kernel.

    Attributes:
        registers: registers of a thread.
        local_bytes: local memory of a thread, for what the registers cannot hold.
        shared_bytes: static shared memory of a block, with what the system reserves.
    """

    registers: int
    local_bytes: int
    shared_bytes: int


class Operations(NamedTuple):
    """Instructions of a kernel.

    Attributes:
        names: their names with modifiers, in order.
    """

    names: list[str]

    def count(self, pattern: str) -> Counter[str]:
        """Return how often each name occurs whose beginning matches ``pattern``."""
        return Counter(name for name in self.names if re.match(pattern, name))


def disassembler() -> str | None:
    """Return the path of ``nvdisasm``: of its own package, of Triton or of a toolkit."""
    found = sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin/nvdisasm"))
    triton = find_spec("triton")
    if triton is not None and triton.origin is not None:
        found.append(Path(triton.origin).parent / "backends/nvidia/bin/nvdisasm")
    return next((str(path) for path in found if path.is_file()), shutil.which("nvdisasm"))


def operations(cubin: bytes, folder: Path) -> Operations:
    """Return the instructions of ``cubin``; ``folder`` takes the input of the disassembler."""
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    # The analysis of branches takes a quarter of the time and changes no instruction.
    command = [str(disassembler()), "--print-code", "--no-dataflow", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    guard = r"(?:@!?U?P\w+\s+)?"
    return Operations(re.findall(rf"/\*[0-9a-f]{{4,}}\*/\s+{guard}([A-Z][\w.]+)", text))


def attributes(cubin: bytes) -> Code:
    """Return the resources of the only kernel in ``cubin``, a 64-bit ELF file."""
    (start,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names = struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQ", cubin, start + i * size) for i in range(count)]
    values: dict[int, int] = {}
    shared = 0
    for name_at, _, _, _, offset, length in headers:
        begin = headers[names][4] + name_at
        name = cubin[begin : cubin.index(b"\0", begin)].decode()
        if name == ".nv.info":
            values = _values(cubin[offset : offset + length])
        if name.startswith(".nv.shared.sinkhorn"):
            shared = length
    return Code(values[_REGISTERS], values[_FRAME], shared)


def _values(info: bytes) -> dict[int, int]:
    """Return the attributes that give the kernel one number each.

    An entry has its format, its number and two more bytes. In format 4 these are the size of the
    data that follow: the symbol of the kernel and the number, 4 bytes each.
    """
    values = {}
    place = 0
    while place < len(info):
        form, number, size = struct.unpack_from("<BBH", info, place)
        place += 4
        if form == 4:
            if size == 8:
                values[number] = struct.unpack_from("<II", info, place)[1]
            place += size
    return values

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from crkd.core.errors import InputError
from crkd.data.vectors.numpy_file import read_npy, read_npz
from crkd.data.vectors.table import read_features

ROWS = np.random.default_rng(0).normal(size=(100, 30)).astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """The begin of a .npy file that declares so much; a few bytes follow."""
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(100)


def archive(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as opened:
        for name, data in members.items():
            opened.writestr(f"{name}.npy", data)
    return content.getvalue()


def encrypted() -> bytes:
    content = bytearray(archive(features=npy(ROWS)))
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def damaged(method: int) -> bytes:
    content = bytearray(archive(method, features=npy(ROWS)))
    for place in range(200, 260):
        content[place] ^= 0x5A
    return bytes(content)


HOSTILE = {
    "an array behind the name of an archive": ("x.npz", npy(ROWS), "not a zip file"),
    "an archive behind the name of an array": ("x.npy", archive(features=npy(ROWS)), "magic"),
    "garbage": ("x.npz", b"PK\x03\x04" + bytes(500), "not a zip file"),
    "an empty file": ("x.npz", b"", "not a zip file"),
    "garbage in the archive": ("x.npz", archive(features=b"not an array"), "magic"),
    "garbage as labels": ("x.npz", archive(features=npy(ROWS), label=b"?"), "magic"),
    "an encrypted archive": ("x.npz", encrypted(), "is encrypted"),
    "damaged deflate": ("x.npz", damaged(zipfile.ZIP_DEFLATED), "while decompressing|CRC"),
    "damaged values": ("x.npz", damaged(zipfile.ZIP_STORED), "CRC|header|decode|ends"),
    "damaged lzma": ("x.npz", damaged(zipfile.ZIP_LZMA), "another method than deflate"),
    "lzma": ("x.npz", archive(zipfile.ZIP_LZMA, features=npy(ROWS)), "another method"),
    "16 TB": ("x.npy", header((4 * 10**12, 1)), r"declares 29.1 TiB of values, more than 200"),
    "16 TB in an archive": ("x.npz", archive(features=header((4 * 10**12, 1))), "29.1 TiB"),
    "labels of 4 kB each": (
        "x.npz",
        archive(features=npy(ROWS), label=header((4 * 10**9,), "<U1000")),
        "14.8 TiB",
    ),
    "labels without width": (
        "x.npz",
        archive(features=npy(ROWS), label=header((10**12,), "<U0")),
        "58.2 TiB",
    ),
    "a shape beyond int64": ("x.npy", header((2**62, 2**62)), "more than 1,024 TiB"),
    "a negative shape": ("x.npy", header((-4, 1)), "declares the shape"),
    "too few values": ("x.npy", header((100, 1)), "ends before the 400 bytes"),
    "a long header": (
        "x.npy",
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"(" * 99,
        "header",
    ),
    "a header without end": (
        "x.npy",
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 900) + b"(" * 900,
        ".",
    ),
    "a version for records": ("x.npy", b"\x93NUMPY\x03\x00" + bytes(100), "version"),
    "pickled objects": ("x.npy", header((4, 3), "|O"), "objects, which are never read"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_before_memory_is_used(tmp_path: Path, case: str) -> None:
    name, content, reason = HOSTILE[case]
    (tmp_path / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=reason):
            read_features(tmp_path / name)


@pytest.mark.parametrize("kind", ["<f4", ">f8", "<f2", "|i1", "<i8", "|b1", "<U5"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_numpy_reads_them(tmp_path: Path, kind: str, order: str) -> None:
    array = np.asarray(np.arange(12).reshape(4, 3), order=order).astype(kind, order="K")  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "stored.npz", features=array, other=array)
    np.savez_compressed(tmp_path / "deflated.npz", features=array)
    found = read_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, np.load(tmp_path / "a.npy"))
    assert found.dtype == array.dtype
    assert found.flags.writeable
    for name in ("stored", "deflated"):
        arrays, present = read_npz(tmp_path / f"{name}.npz", ("features", "label"))
        assert list(arrays) == ["features"]
        assert present == (["features", "other"] if name == "stored" else ["features"])
        np.testing.assert_array_equal(arrays["features"], array)


def test_a_bomb_is_refused_by_the_ratio_of_its_sizes(tmp_path: Path) -> None:
    """300 MiB of zeros in 0.3 MB; numpy would unpack them."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as opened,
        opened.open("features.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(header((75 << 20, 1))[:128])
        for _ in range(300):
            stream.write(bytes(1 << 20))
    (tmp_path / "x.npz").write_bytes(content.getvalue())
    with pytest.raises(InputError, match=r"declares 600.0 MiB of values, more than 200 times"):
        read_features(tmp_path / "x.npz")

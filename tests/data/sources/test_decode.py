import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crkd.core.errors import InputError
from crkd.data.sources import webp
from crkd.data.sources.base import UnreadableImageError
from crkd.data.sources.decode import MAX_PIXELS, decode_image, read_header
from crkd.data.sources.webp import decode_lossless_webp


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_rgb_comes_back_exactly(kind: str) -> None:
    pixels = noise(5, 7)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(pixels), kind), "x"), pixels)


def test_exif_orientation_is_applied() -> None:
    pixels = noise(6, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    data = encoded(Image.fromarray(pixels), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(data, "x"), np.rot90(pixels, k=3))


def test_damaged_exif_does_not_cost_the_image() -> None:
    data = encoded(Image.fromarray(noise(4, 4)), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    assert decode_image(data, "x").shape == (4, 4, 3)


def test_gray_is_repeated_over_the_colors() -> None:
    gray = noise(4, 5, 1)[..., 0]
    decoded = decode_image(encoded(Image.fromarray(gray), "PNG"), "x")
    np.testing.assert_array_equal(decoded, np.repeat(gray[..., None], 3, axis=2))


def test_one_bit_becomes_black_and_white() -> None:
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    decoded = decode_image(encoded(bits, "PNG"), "x")
    assert decoded[..., 0].tolist() == [[0, 255], [255, 0]]


def test_cmyk_becomes_rgb() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    decoded = decode_image(encoded(red, "JPEG", quality=100), "x")
    assert decoded.shape == (16, 16, 3)
    assert np.abs(decoded.astype(int) - [255, 0, 0]).max() <= 8


def test_alpha_is_laid_on_white() -> None:
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], np.uint8)
    decoded = decode_image(encoded(Image.fromarray(rgba), "PNG"), "x")
    assert decoded[0, :2].tolist() == [[255, 255, 255], [10, 20, 30]]
    assert np.abs(decoded[0, 2].astype(int) - 204).max() <= 1


def test_transparent_palette_entry_is_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    decoded = decode_image(encoded(palette, "PNG", transparency=0), "x")
    assert decoded[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_gray_with_alpha_is_laid_on_white() -> None:
    layered = Image.fromarray(np.array([[[7, 0], [7, 255]]], np.uint8), mode="LA")
    assert decode_image(encoded(layered, "PNG"), "x")[0, :, 0].tolist() == [255, 7]


def test_sixteen_bit_gray_keeps_its_upper_byte() -> None:
    deep = np.array([[0, 257, 65535], [32768, 255, 256]], np.uint16)
    decoded = decode_image(encoded(Image.fromarray(deep), "PNG"), "x")
    assert decoded[..., 1].tolist() == [[0, 1, 255], [128, 0, 1]]


@pytest.mark.parametrize(("largest", "expected"), [(65535, [0, 1, 128]), (4095, [0, 16, 255])])
def test_gray_of_a_pgm_is_scaled_by_its_largest_value(largest: int, expected: list[int]) -> None:
    deep = np.array([0, 257, min(32768, largest)], ">u2")
    decoded = decode_image(b"P5 3 1 %d\n" % largest + deep.tobytes(), "x")
    assert decoded[0].tolist() == [[value] * 3 for value in expected]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_images_without_a_range_are_refused(mode: str) -> None:
    data = encoded(Image.new(mode, (3, 3), 1), "TIFF")
    with pytest.raises(UnreadableImageError, match="no defined range"):
        decode_image(data, "x")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode_image(data, "x")[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_truncated_file_is_an_error_with_path_and_reason(kind: str, tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(noise(64, 64)), kind)
    path = tmp_path / "half image.bin"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableImageError, match="half image") as caught:
        decode_image(path, str(path))
    assert caught.value.path == str(path)
    assert caught.value.reason
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_no_image_at_all(content: bytes) -> None:
    with pytest.raises(UnreadableImageError, match="not a JPEG"):
        decode_image(content, "x")


def test_eps_is_never_handed_to_an_external_program() -> None:
    eps = encoded(Image.new("RGB", (4, 4)), "EPS")
    with pytest.raises(UnreadableImageError, match="not a JPEG"):
        decode_image(eps, "x")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="does not exist"):
        decode_image(tmp_path / "missing.png", "missing.png")


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("size", [(8193, 8192), (60000, 60000), (2**31 - 1, 1)])
def test_decompression_bomb_is_refused_before_it_is_unpacked(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableImageError, match=r"pixels"):
        decode_image(png_header(*size), "bomb.png")


def test_largest_allowed_size_passes_the_size_check() -> None:
    assert MAX_PIXELS == 8192 * 8192
    with pytest.raises(UnreadableImageError) as caught:
        decode_image(png_header(8192, 8192), "x")
    assert "pixels" not in caught.value.reason  # refused for its missing data, not for its size


def test_header_sees_the_size_and_the_end_of_the_file(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG"):
        whole = encoded(Image.fromarray(noise(64, 70)), kind)
        good, cut = tmp_path / f"good.{kind}", tmp_path / f"cut.{kind}"
        good.write_bytes(whole)
        cut.write_bytes(whole[:-40])
        assert read_header(good, "good") == read_header(whole, "good") == (70, 64, True)
        assert read_header(whole[:-40], "cut") == (70, 64, False)
        assert read_header(cut, "cut") == (70, 64, False)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UnreadableImageError):
        read_header(tmp_path / "text.png", "text.png")


@settings(max_examples=200, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]))
def test_mangled_files_give_pixels_or_the_one_error(data: st.DataObject, kind: str) -> None:
    content = bytearray(encoded(Image.fromarray(noise(9, 6)), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_image(bytes(content), "mangled")
    except UnreadableImageError:
        return
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 3
    assert decoded.shape[2] == 3


@pytest.mark.parametrize("size", [1, 7, 32])
def test_short_way_for_webp_equals_the_general_one(size: int) -> None:
    pixels = noise(size, size)
    data = encoded(Image.fromarray(pixels), "WEBP", lossless=True)
    fast = decode_lossless_webp(data, size)
    if fast is None:
        pytest.skip("this build of torchvision has no WebP decoder")
    np.testing.assert_array_equal(fast.transpose(1, 2, 0), pixels)
    np.testing.assert_array_equal(decode_lossless_webp(data), fast)
    np.testing.assert_array_equal(decode_image(data, "x"), pixels)


def test_webp_is_decoded_where_torchvision_has_no_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(8, 8)
    data = encoded(Image.fromarray(pixels), "WEBP", lossless=True)
    monkeypatch.delattr("torchvision.io.decode_webp")
    webp._torchvision_decoder.cache_clear()
    try:
        assert decode_lossless_webp(data) is None
        np.testing.assert_array_equal(decode_image(data, "x"), pixels)
    finally:
        webp._torchvision_decoder.cache_clear()


def test_short_way_for_webp_leaves_everything_else_alone() -> None:
    lossy = encoded(Image.fromarray(noise(8, 8)), "WEBP", quality=50)
    layered = encoded(Image.fromarray(noise(8, 8, 4)), "WEBP", lossless=True)
    other_size = encoded(Image.fromarray(noise(9, 9)), "WEBP", lossless=True)
    cut = encoded(Image.fromarray(noise(8, 8)), "WEBP", lossless=True)[:60]
    for data in (
        lossy,
        layered,
        other_size,
        cut,
        b"",
        encoded(Image.fromarray(noise(8, 8)), "PNG"),
    ):
        assert decode_lossless_webp(data, 8) is None
    oblong = encoded(Image.fromarray(noise(9, 8)), "WEBP", lossless=True)
    large = encoded(Image.new("RGB", (513, 513)), "WEBP", lossless=True)
    for data in (lossy, layered, oblong, large, cut, b""):
        assert decode_lossless_webp(data) is None

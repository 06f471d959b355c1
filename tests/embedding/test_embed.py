"""Images to a file of vectors: what is in it, what is not done twice, what is refused."""

from __future__ import annotations

import csv
import functools
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from crkd.core.errors import InputError
from crkd.data.datasets.features import FeatureSource
from crkd.data.vectors import read_features
from crkd.data.vectors.embedded_source import EmbeddedSource
from crkd.data.vectors.embedding_file import EmbeddingInfo, read_info
from crkd.embedding import assemble, in_memory, plan, run
from crkd.embedding.in_memory import embed_images
from crkd.embedding.parts import parts_folder
from crkd.embedding.plan import EmbedSettings, reopen
from crkd.embedding.progress import smoothed
from crkd.embedding.run import EmbedSummary, embed
from crkd.models.pretrained.open import open_pretrained
from crkd.runs.atomic_files import write_json
from crkd.training.interruption import Interrupted

OPEN = functools.cache(open_pretrained)
SETTINGS = EmbedSettings(image_size=32, runtime="torch")


def photo(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "open_pretrained", OPEN)
    monkeypatch.setattr(in_memory, "open_pretrained", OPEN)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(6):
        photo(tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png", number)
    return tmp_path / "photos"


def renamed_by(rename: Callable[[Path, Path], None], *arguments: Any) -> EmbeddingInfo:
    """Return what assemble returns with another function that gives the file its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble.os, "replace", rename)
        return assemble.assemble(*arguments)


def quiet(images: list[Path], out: Path, settings: EmbedSettings = SETTINGS) -> EmbedSummary:
    return embed(images, out, settings, log=lambda line: None)


def test_a_file_holds_ids_classes_and_the_vectors_of_the_network(photos: Path, tmp_path: Path):
    out = tmp_path / "v.parquet"
    made = quiet([photos], out)
    table = read_features(out)
    assert list(table.ids) == [f"photos/cat/{n}.png" for n in (0, 2, 4)] + [
        f"photos/dog/{n}.png" for n in (1, 3, 5)
    ]
    assert table.labels == ["cat"] * 3 + ["dog"] * 3
    assert table.embedding is not None
    assert table.embedding["form"]["runtime"] == "torch"
    assert (made.rows, made.embedded, made.reused) == (6, 6, 0)
    network = open_pretrained("lite0", image_size=32).network
    assert network is not None
    with Image.open(photos / "dog" / "1.png") as image:
        square = image.resize((32, 32), Image.Resampling.BICUBIC, box=(5, 0, 45, 40))
    view = (torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() - 127) / 128
    expected = network(view)[0]
    np.testing.assert_allclose(table.features[3], expected, rtol=1e-4, atol=1e-4)


def test_only_new_images_are_embedded(photos: Path, tmp_path: Path):
    out = tmp_path / "v.parquet"
    quiet([photos], out)
    first = read_features(out)
    photo(photos / "cat" / "7.png", 7)
    shutil.move(photos / "dog" / "1.png", photos / "dog" / "renamed.png")
    (photos / "dog" / "3.png").unlink()
    made = quiet([photos], out)
    assert (made.rows, made.embedded, made.reused) == (6, 1, 5)
    second = read_features(out)
    assert "photos/dog/3.png" not in second.ids
    np.testing.assert_array_equal(
        second.features[list(second.ids).index("photos/dog/renamed.png")],
        first.features[list(first.ids).index("photos/dog/1.png")],
    )
    quiet([photos], tmp_path / "fresh.parquet")
    assert out.read_bytes() == (tmp_path / "fresh.parquet").read_bytes()


def test_vectors_of_several_row_groups_follow_their_images(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(assemble, "ROW_GROUP", 2)
    out = tmp_path / "v.parquet"
    quiet([photos], out)
    assert pq.ParquetFile(out).metadata.num_row_groups == 3
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        path.rename(photos / ("cat", "dog")[number % 2] / f"new {9 - number}.png")
    assert quiet([photos], out).embedded == 0
    quiet([photos], tmp_path / "fresh.parquet")
    assert out.read_bytes() == (tmp_path / "fresh.parquet").read_bytes()


def test_rows_of_folders_that_are_not_named_stay(photos: Path, tmp_path: Path):
    other = photo(tmp_path / "b" / "photos" / "x.png", 20).parent
    out = tmp_path / "v.parquet"
    quiet([photos], out)
    made = quiet([other], out)
    assert (made.rows, made.embedded) == (7, 1)
    # Two folders of one name stay separate, in every later call.
    assert list(read_features(out).ids)[-1] == "photos-2/x.png"
    assert quiet([other], out).embedded == 0
    quiet([photos, other], tmp_path / "both.parquet")
    assert out.read_bytes() == (tmp_path / "both.parquet").read_bytes()


def test_a_folder_within_one_of_an_earlier_call_is_refused(photos: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to("photos")
    for first, second in (("photos", "photos/cat"), ("photos/cat", "photos"), ("photos", "link")):
        out = tmp_path / f"{first}-{second}".replace("/", "-")
        out = out.with_suffix(".parquet")
        rows = quiet([tmp_path / first], out).rows
        with pytest.raises(InputError, match=r"is within .* only one may be in --out"):
            quiet([tmp_path / second], out)
        assert read_features(out).features.shape[0] == rows


def test_tar_files_and_tables_give_the_vectors_of_the_same_images(photos: Path, tmp_path: Path):
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(photos / "cat", "cat")
    names = sorted((photos / "cat").iterdir())
    rows = [{"bytes": path.read_bytes(), "path": None} for path in names]
    pq.write_table(pa.table({"img": rows, "label": ["cat"] * 3}), tmp_path / "set.parquet")
    tables = []
    for place in (photos, tmp_path / "set.tar", tmp_path / "set.parquet"):
        out = tmp_path / f"{place.suffix[1:]}-v.parquet"
        quiet([place], out)
        tables.append(read_features(out))
    folder, tar_, table = tables
    np.testing.assert_array_equal(tar_.features, folder.features[:3])
    np.testing.assert_array_equal(table.features, folder.features[:3])
    assert tar_.labels == table.labels == ["cat"] * 3
    assert tar_.ids[0] == "set.tar/cat/0.png"
    assert table.ids[0] == "set.parquet/0000000"


def test_damaged_and_odd_files_are_listed_and_none_waits(photos: Path, tmp_path: Path):
    (photos / "cat" / "broken.png").write_bytes((photos / "cat" / "0.png").read_bytes()[:200])
    os.mkfifo(photos / "cat" / "pipe.png")
    (photos / "cat" / "folder.png").mkdir()
    (photos / "dog" / "nothing.jpg").symlink_to("absent")
    (photos / "dog" / "x.heic").write_bytes(b"")
    out = tmp_path / "v.parquet"
    made = quiet([photos], out)
    assert made.rows == 6
    assert sorted(made.skipped) == [
        f"photos/{name}" for name in ("cat/broken.png", "cat/pipe.png", "dog/nothing.jpg")
    ]
    assert made.skipped["photos/cat/pipe.png"] == "a named pipe, not a regular file"
    assert made.passed_over == {".heic": 1}
    assert read_info(out).skipped == 3
    with (tmp_path / "v.skipped.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == sorted(made.skipped)


def test_nothing_readable_is_an_error_that_leaves_nothing(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="no image of DIR can be read, the first of 1 is"):
        quiet([tmp_path / "photos"], tmp_path / "v.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_second_call_on_one_file_is_refused_before_it_reads(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, other = tmp_path / "v.parquet", photo(tmp_path / "other" / "x.png", 20).parent
    quiet([photos], out)
    reader, refused = run.EmbeddingFile, list[str]()

    def slow(path: Path) -> run.EmbeddingFile:
        monkeypatch.setattr(run, "EmbeddingFile", reader)
        with pytest.raises(InputError, match=r"--out: .*parts' is in use by process") as caught:
            quiet([other], out)
        refused.append(str(caught.value))
        return reader(path)

    monkeypatch.setattr(run, "EmbeddingFile", slow)
    quiet([photos], out)
    assert len(refused) == 1
    assert quiet([other], out).rows == 7


def test_a_call_without_a_readable_image_keeps_the_parts_of_another_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "v.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(run, "assemble", lambda *given: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            quiet([photos], out)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="no image of DIR can be read, the first of 1 is"):
        quiet([tmp_path / "bad"], out)
    assert quiet([photos], out).reused == 6


def test_an_interruption_before_the_file_has_its_name_keeps_the_vectors(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "v.parquet"

    def interrupted(old: Path, new: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "assemble", functools.partial(renamed_by, interrupted))
        with pytest.raises(Interrupted, match=r"are kept in .*; give the same command to continue"):
            quiet([photos], out)
    assert not out.exists()
    assert not list(parts_folder(out).glob("*unfinished*"))
    assert quiet([photos], out).reused == 6


def test_vectors_of_another_size_runtime_or_program_are_not_mixed(photos: Path, tmp_path: Path):
    out = tmp_path / "v.parquet"
    quiet([photos], out)
    before = out.read_bytes()
    for settings, word in (
        (EmbedSettings(image_size=64), "--image-size 64"),
        (EmbedSettings(runtime="torch-bf16"), "--runtime torch-bf16"),
    ):
        with pytest.raises(InputError, match=word):
            quiet([photos], out, settings)
    # Without a wish the form of the file is kept.
    assert quiet([photos], out, EmbedSettings()).reused == 6
    assert out.read_bytes() == before
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"a": [1.0]}), foreign)
    with pytest.raises(InputError, match="not a file of crkd embed"):
        quiet([photos], foreign)
    assert pq.read_table(foreign).num_rows == 1


def test_parts_of_other_weights_are_refused(photos: Path, tmp_path: Path):
    out = tmp_path / "v.parquet"
    quiet([photos], out)
    values = {**(read_features(out).embedding or {}), "weights_sha256": "0" * 64}
    out.unlink()
    write_json(parts_folder(out) / "plan.json", values)
    with pytest.raises(InputError, match=r"the weights 579344248a93.*000000000000"):
        quiet([photos], out)


def test_refusals_come_before_any_work(photos: Path, tmp_path: Path):
    out = tmp_path / "v.parquet"
    for images, target, word in (
        ([photos], tmp_path / "v.npy", "does not end in .parquet"),
        ([tmp_path / "absent"], out, "does not exist"),
        ([photos / "cat" / "0.png"], out, "name a folder of images"),
        ([photos, photos / "cat"], out, "is within"),
        ([photos], photos, "does not end"),
    ):
        with pytest.raises(InputError, match=word):
            quiet(images, target)
    with pytest.raises(InputError, match="does not exist"):
        quiet([tmp_path / "absent"], tmp_path / "new" / "v.parquet")
    with pytest.raises(InputError, match="--resume"):
        embed([photos], out, SETTINGS, resume=True)
    with pytest.raises(InputError, match="--runtime 'fast' is unknown"):
        quiet([photos], out, EmbedSettings(runtime="fast"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_images_in_memory_have_the_vectors_of_their_files(photos: Path, tmp_path: Path):
    quiet([photos], tmp_path / "v.parquet")
    vectors = read_features(tmp_path / "v.parquet").features
    files = sorted(photos.rglob("*.png"))
    opened = [Image.open(path) for path in files]
    for images in (photos, files, opened, [np.asarray(image) for image in opened]):
        found = embed_images(images, image_size=32, runtime="torch")
        np.testing.assert_array_equal(found, vectors)


def test_what_is_no_list_of_images_is_refused(photos: Path):
    for images, words in (
        (photos.rglob("*.png"), "images is a generator; give a folder, or a list"),
        (5, "images is a int; give a folder, or a list"),
        ([b"encoded"], "an image is a bytes; give a file, an image of Pillow or"),
        (torch.zeros(1, 3, 8, 8), "an image is a Tensor; give a file"),
    ):
        with pytest.raises(InputError, match=words):
            embed_images(images, image_size=32, runtime="torch")  # type: ignore[arg-type]


def test_an_opened_image_that_comes_twice_is_decoded_by_one_thread(
    photos: Path, monkeypatch: pytest.MonkeyPatch
):
    files, decoded = sorted(photos.rglob("*.png"))[:2], Counter[int]()
    first, again = (Image.open(path) for path in files)
    decode = in_memory.upright_rgb

    def counting(image: Image.Image, where: str) -> Image.Image:
        decoded[id(image)] += 1
        return decode(image, where)

    monkeypatch.setattr(in_memory, "upright_rgb", counting)
    found = embed_images([first, again, again, again], image_size=32, runtime="torch")
    assert decoded[id(again)] == 1
    expected = embed_images([files[0], *[files[1]] * 3], image_size=32, runtime="torch")
    np.testing.assert_array_equal(found, expected)


def test_opened_images_are_turned_laid_on_white_and_scaled_as_their_files(tmp_path: Path):
    random, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    turned, layered, deep = tmp_path / "turned.jpg", tmp_path / "layered.png", tmp_path / "deep.png"
    Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8)).save(turned, exif=exif)
    Image.fromarray(random.integers(0, 256, (40, 50, 4), np.uint8)).save(layered)
    Image.fromarray(random.integers(0, 65536, (40, 50)).astype(np.uint16)).save(deep)
    files = [turned, layered, deep]
    found = embed_images([Image.open(file) for file in files], image_size=32, runtime="torch")
    expected = embed_images(files, image_size=32, runtime="torch")
    np.testing.assert_array_equal(found, expected)
    for mode in ("I", "F"):
        with pytest.raises(InputError, match=f"'{mode}' image .* convert it to mode 'RGB'"):
            embed_images([Image.new(mode, (4, 4))], image_size=32, runtime="torch")


def test_an_image_that_cannot_be_read_in_python_names_no_flag_of_a_command(photos: Path) -> None:
    (photos / "none.png").write_bytes(b"no image")
    for images in (photos, [photos / "none.png"], sorted(photos.rglob("*.png"))):
        with pytest.raises(InputError, match=r"none\.png' cannot be read: .*or leave it out$"):
            embed_images(images, image_size=32, runtime="torch")


def test_a_file_says_how_further_images_are_embedded(photos: Path, tmp_path: Path):
    quiet([photos], tmp_path / "v.parquet")
    embedder = reopen(read_info(tmp_path / "v.parquet"))
    assert embedder.form.runtime == "torch"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = embed_images(list(pixels), image_size=32, runtime="torch")
    np.testing.assert_array_equal(embedder(pixels), expected)


def test_images_of_a_folder_whose_name_is_not_utf8_are_found_again(photos: Path, tmp_path: Path):
    odd, out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xff")), tmp_path / "v.parquet"
    photos.rename(odd)
    quiet([odd], out)
    assert quiet([odd], out).reused == 6
    table = read_features(out)
    source = EmbeddedSource(FeatureSource([0] * 6, ["a"], table.ids), [table])
    source.check()
    assert source.file(0) == odd / "cat" / "0.png"
    with pytest.raises(InputError, match="is within"):
        quiet([odd / "cat"], out)


def test_the_rate_is_steady_and_forgets_slowly():
    rate, before = 0.0, 0.0
    for _ in range(40):
        rate, before = smoothed(rate, 100, 1.0, before=before), before + 1.0
    assert rate == pytest.approx(100.0)
    assert 90.0 < smoothed(rate, 0, 1.0, before=before) < 100.0

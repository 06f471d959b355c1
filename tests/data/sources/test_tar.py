"""Own images in tar files: the same as in folders, read in place, in bounded memory."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.config.load import load_config
from crkd.core.errors import InputError
from crkd.data.sources.base import UnreadableImageError
from crkd.data.sources.folder import folder_dataset
from crkd.data.sources.tar import tar_dataset
from crkd.data.splits.partition import partition
from crkd.data.storage.streaming import StreamingImages
from crkd.stages.run_data import prepare


def png(seed: int, size: int = 40) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def pack(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


KNOWN = {f"{name}/{number}.png": png(number) for name in ("ant", "cat") for number in range(3)}
NOVEL = {"bee/1.png": png(7), "bee/2.png": png(8), "yak/deep/1.png": png(9)}


def test_archives_hold_what_folders_hold(tmp_path: Path) -> None:
    for part, files in (("known", KNOWN), ("novel", NOVEL)):
        for name, content in files.items():
            file = tmp_path / part / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    folders, split = folder_dataset(tmp_path / "known", tmp_path / "novel")
    # Two shards of known images; what is not an image is skipped.
    first = dict(list(KNOWN.items())[:4]) | {"readme.txt": b"hello", ".hidden.png": b""}
    pack(tmp_path / "k" / "0.tar", first)
    pack(tmp_path / "k" / "1.tar", dict(list(KNOWN.items())[4:]))
    archives, same = tar_dataset(tmp_path / "k", pack(tmp_path / "novel.tar", NOVEL))
    assert archives.class_names == folders.class_names == ("ant", "cat", "bee", "yak")
    assert list(archives.train.ids) == list(folders.train.ids)
    assert archives.train.labels.tolist() == folders.train.labels.tolist()
    assert (same.known, same.novel) == (split.known, split.novel)
    assert archives.image_size == folders.image_size
    for index in reversed(range(len(folders.train))):
        np.testing.assert_array_equal(archives.train.read(index), folders.train.read(index))
    parts = partition(archives, same, validation_fraction=0.0, seed=0)
    assert parts.unlabeled.labels.tolist() == [-1, -1, -1]
    assert parts.hidden.unlabeled().tolist() == [2, 2, 3]


def test_an_unlabeled_archive_with_a_known_class(tmp_path: Path) -> None:
    known = pack(tmp_path / "k.tar", KNOWN)
    novel = pack(tmp_path / "n.tar", {"cat/1.png": png(7), "bee/2.png": png(8)})
    dataset, split = tar_dataset(known, novel, mixed=True)
    assert split.joint_names == ("ant", "cat", "bee")
    parts = partition(dataset, split, validation_fraction=0.0, seed=0)
    assert len(parts.known_train) == len(KNOWN)
    assert parts.hidden.unlabeled().tolist() == [1, 2]
    assert tar_dataset(known, novel)[1].joint_names == ("ant", "cat", "bee", "cat (novel)")


def test_the_case_of_the_suffix_does_not_matter_and_hidden_files_are_left_out(
    tmp_path: Path,
) -> None:
    pack(tmp_path / "k" / "0.TAR", KNOWN)
    # macOS writes such a file for each file on a drive of another system.
    (tmp_path / "k" / "._0.tar").write_bytes(b"no archive")
    archives, _ = tar_dataset(tmp_path / "k", pack(tmp_path / "novel.Tar", NOVEL))
    assert len(archives.train) == len(KNOWN) + len(NOVEL)


def test_class_files_next_to_the_images(tmp_path: Path) -> None:
    files = {}
    for number, name in enumerate(["dog", "cat", "dog"]):
        files[f"{number:06d}.jpg"] = png(number)
        files[f"{number:06d}.cls"] = f"{name}\n".encode()
    dataset, split = tar_dataset(
        pack(tmp_path / "known.tar", files), pack(tmp_path / "novel.tar", {"a.png": png(5)})
    )
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.labels.tolist() == [1, 0, 1, -1]
    assert split.novel == ()


def test_a_run_takes_archives_in_the_place_of_folders(tmp_path: Path) -> None:
    known, novel = pack(tmp_path / "k.tar", KNOWN), pack(tmp_path / "n.tar", NOVEL)
    places = {"known": str(known), "novel": str(novel)}
    config = load_config(None, ["data.storage=streaming"], {"dataset": "folder", "data": places})
    data = prepare(config, torch.device("cpu"))
    assert data.split.joint_names == ("ant", "cat", "bee", "yak")
    assert isinstance(data.store(data.subsets.unlabeled), StreamingImages)


def test_a_further_step_knows_its_classes(tmp_path: Path) -> None:
    novel = pack(tmp_path / "novel.tar", {"a.png": png(5)})
    dataset, split = tar_dataset(None, novel, classes_so_far=["ox", "ant"])
    assert dataset.class_names == ("ox", "ant")
    assert split.known == (0, 1)
    with pytest.raises(InputError, match="does not know: cat"):
        tar_dataset(pack(tmp_path / "k.tar", KNOWN), novel, classes_so_far=["ox", "ant"])


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    good = pack(tmp_path / "good.tar", KNOWN)

    def refused(files: dict[str, bytes], message: str, mode: str = "w") -> None:
        with pytest.raises(InputError, match=message):
            tar_dataset(pack(tmp_path / "bad.tar", files, mode))

    refused({"a.png": png(0)}, "has no class")
    refused({"a/a.png": png(0)}, "holds 1 class; at least two")
    refused({"a.txt": b""}, "holds no image")
    refused({"../a/b.png": png(0)}, "is outside it")
    refused({"/a/b.png": png(0)}, "is outside it")
    refused(KNOWN | {"ant/0.png": png(1), "ant/./0.png": png(1)}, "two images are called")
    refused(KNOWN, "not a compressed one", "w:gz")
    with pytest.raises(InputError, match="in the same form"):
        tar_dataset(good, tmp_path / "nothing")
    (tmp_path / "none.tar").write_bytes(b"")
    with pytest.raises(InputError, match="cannot read the tar file"):
        tar_dataset(tmp_path / "none.tar")
    with pytest.raises(InputError, match="cannot read the tar file"):
        tar_dataset(tmp_path / "missing.tar")
    (tmp_path / "cut.tar").write_bytes(good.read_bytes()[: 512 + 2000])
    with pytest.raises(InputError, match=r"beyond the end|cannot read"):
        tar_dataset(tmp_path / "cut.tar")
    dataset, _ = tar_dataset(
        pack(tmp_path / "odd.tar", KNOWN | {"cat/9.png": b"none"}), image_size=32
    )
    with pytest.raises(UnreadableImageError, match=r"odd.tar: known/cat/9.png"):
        dataset.train.read(6)


MEASURED = """
import sys
import numpy as np
import torch
from pathlib import Path
from crkd.data.splits.partition import partition
from crkd.data.sources.tar import tar_dataset
from crkd.data.storage.streaming import StreamingImages

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(l for l in lines if l.startswith("RssAnon")).split()[1]) / 1024

dataset, split = tar_dataset(Path(sys.argv[1]), image_size=32)
part = partition(dataset, split, validation_fraction=0.0, seed=0).known_train
store = StreamingImages(part, 32, workers=1)
order = np.random.default_rng(0).permutation(len(part))
before = anonymous()
for images in store.batches(np.array_split(order, len(order) // 8)):
    assert images.shape[1:] == (3, 32, 32)
print(anonymous() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    # 128 MiB of images that hardly compress, read in any order, in the room of a few of them.
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(content, "BMP")
    images = {f"{'ab'[n % 2]}/{n}.bmp": content.getvalue() for n in range(128)}
    archive = pack(tmp_path / "large.tar", images)
    assert archive.stat().st_size > 128 * 2**20
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, archive],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 40

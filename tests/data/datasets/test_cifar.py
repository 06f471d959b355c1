import contextlib
import functools
import hashlib
import pickle
import shutil
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchvision.datasets

from crkd.core.errors import InputError
from crkd.data.datasets import cifar_files
from crkd.data.datasets.base import load_dataset


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def small_torchvision_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Write five images in torchvision's layout and make all digests those of the files."""
    folder = root / "cifar-100-python"
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (5, 3072), dtype=np.uint8)
    names = [f"class{label:02d}" for label in range(100)]
    for name, part in (("train", rows[:3]), ("test", rows[3:])):
        content = {"data": part, "fine_labels": list(range(len(part)))}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    kind = torchvision.datasets.CIFAR100
    monkeypatch.setattr(kind, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(kind, "test_list", [["test", md5(folder / "test")]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(folder / "meta")})
    digests = {name: sha256(folder / name) for name in ("meta", "test", "train")}
    monkeypatch.setitem(cifar_files.FILES, folder.name, digests)
    return rows


def test_torchvision_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = small_torchvision_cifar100(tmp_path, monkeypatch)
    dataset = load_dataset("cifar100", tmp_path)
    assert dataset.train.labels.tolist() == [0, 1, 2]
    assert dataset.class_names[:2] == ("class00", "class01")
    assert dataset.test is not None
    pixels = dataset.test.pixels()
    assert pixels is not None
    np.testing.assert_array_equal(pixels, rows[3:].reshape(2, 3, 32, 32))
    assert list(dataset.test.ids) == ["test/00000", "test/00001"]


class Boom:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


def test_altered_pickle_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_torchvision_cifar100(tmp_path, monkeypatch)
    mark = tmp_path / "opened"
    altered = tmp_path / "cifar-100-python" / "train"
    altered.write_bytes(pickle.dumps(Boom(mark)))
    # MD5 alone would let it pass.
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "train_list", [["train", md5(altered)]])
    with pytest.raises(InputError, match=r"by its SHA-256: train; .*--download"):
        load_dataset("cifar100", tmp_path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Boom(mark)))  # the trap itself works
    assert mark.exists()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve an archive of the small set at torchvision's address."""
    origin = tmp_path / "origin"
    origin.mkdir()
    small_torchvision_cifar100(origin, monkeypatch)
    kind = torchvision.datasets.CIFAR100
    archive = origin / kind.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(origin / kind.base_folder, kind.base_folder)
    monkeypatch.setattr(kind, "tgz_md5", md5(archive))
    monkeypatch.setitem(cifar_files.ARCHIVES, kind.base_folder, sha256(archive))
    serve = functools.partial(SimpleHTTPRequestHandler, directory=str(origin))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        monkeypatch.setattr(kind, "url", f"http://127.0.0.1:{server.server_port}/{archive.name}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield archive
        server.shutdown()
        thread.join()


def test_download_fetches_and_checks(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    assert len(load_dataset("cifar100", root, download=True).train) == 3
    archive.unlink()
    assert len(load_dataset("cifar100", root, download=True).train) == 3
    damaged = root / "cifar-100-python" / "test"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(InputError, match="by its SHA-256: test; delete that folder and give"):
        load_dataset("cifar100", root, download=True)
    # The archive was kept next to the folder.
    shutil.rmtree(damaged.parent)
    assert len(load_dataset("cifar100", root, download=True).train) == 3


def test_an_interrupted_extraction_begins_again(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    root.mkdir()

    def interrupted(name: str, folder: str) -> None:
        (Path(folder) / "cifar-100-python").mkdir(parents=True)
        (Path(folder) / "cifar-100-python" / "train").write_bytes(b"half of the images")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("torchvision.datasets.utils.extract_archive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_dataset("cifar100", root, download=True)
    assert [file.name for file in root.iterdir()] == [archive.name]
    # A killed process leaves a part.
    with contextlib.suppress(KeyboardInterrupt):
        interrupted("", str(root / ".cifar-100-python.unfinished"))
    assert len(load_dataset("cifar100", root, download=True).train) == 3
    assert {file.name for file in root.iterdir()} == {archive.name, "cifar-100-python"}


def test_another_archive_is_not_extracted(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setitem(cifar_files.ARCHIVES, "cifar-100-python", "0" * 64)
    with pytest.raises(InputError, match="not the published archive by its SHA-256; delete it"):
        load_dataset("cifar100", root, download=True)
    assert not (root / "cifar-100-python").exists()


def test_digests_are_those_of_the_files_that_torchvision_reads() -> None:
    for kind in (torchvision.datasets.CIFAR10, torchvision.datasets.CIFAR100):
        read = [name for name, _ in (*kind.train_list, *kind.test_list)]
        assert {*read, kind.meta["filename"]} == set(cifar_files.FILES[kind.base_folder])
    digests = [*cifar_files.ARCHIVES.values()]
    digests += [digest for files in cifar_files.FILES.values() for digest in files.values()]
    assert len({bytes.fromhex(digest) for digest in digests if len(digest) == 64}) == 12


def test_missing_set_lists_places_layouts_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset("cifar100", tmp_path)
    for part in (str(tmp_path), "--data-root DIR", "--download", "cifar-100-python", "parquet"):
        assert part in str(caught.value)
    with pytest.raises(InputError, match="is not a folder"):
        load_dataset("cifar100", tmp_path / "nowhere")


def test_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'cifar100'"):
        load_dataset("cifar-100")


def parquet_cifar10(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for part in ("train", "test"):
        images = [{"bytes": b"", "path": None}] * count
        table = pa.table({"img": images, "label": [0] * count})
        names = b'{"info": {"features": {"label": {"names": ["plane"]}}}}'
        pq.write_table(
            table.replace_schema_metadata({"huggingface": names}),
            folder / f"{part}-00000-of-00001.parquet",
        )


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRKD_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    parquet_cifar10(tmp_path / "data/cifar10/plain_text", count=2)
    assert len(load_dataset("cifar10").train) == 2
    parquet_cifar10(tmp_path / "elsewhere/cifar10", count=3)
    monkeypatch.setenv("CRKD_DATA", str(tmp_path / "elsewhere"))
    assert len(load_dataset("cifar10").train) == 3
    assert len(load_dataset("cifar10", "data").train) == 2
    monkeypatch.setenv("CRKD_DATA", str(tmp_path))  # holds none: the next place is tried
    assert len(load_dataset("cifar10").train) == 2


def test_missing_shard_is_noticed(tmp_path: Path) -> None:
    parquet_cifar10(tmp_path / "cifar10", count=1)
    shard = tmp_path / "cifar10/train-00000-of-00001.parquet"
    shard.rename(tmp_path / "cifar10/train-00000-of-00003.parquet")
    with pytest.raises(InputError, match="1 of 3 Parquet shards"):
        load_dataset("cifar10", tmp_path)


def test_digits_are_split_the_same_everywhere() -> None:
    dataset = load_dataset("digits")
    assert dataset.test is not None
    assert (len(dataset.train), len(dataset.test)) == (1438, 359)
    pixels = dataset.train.pixels()
    assert pixels is not None
    assert pixels.shape == (1438, 3, 16, 16)
    np.testing.assert_allclose(pixels.mean() / 255, dataset.mean[0], atol=1e-7)
    np.testing.assert_allclose(pixels.std() / 255, dataset.std[0], atol=1e-7)
    counts = np.bincount(dataset.train.labels) + np.bincount(dataset.test.labels)
    np.testing.assert_allclose(np.bincount(dataset.test.labels) / counts, 0.2, atol=0.003)
    # Stated so that a change of the drawing, which would change every result, is noticed.
    digest = hashlib.sha256(dataset.test.labels.astype("<i8").tobytes()).hexdigest()
    assert digest == "501b002008c0c6b92937111d5bab878ce35276f097b29fc89fa873decdd5ef56"

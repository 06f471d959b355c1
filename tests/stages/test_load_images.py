"""Own images: digests of their files in the entry of a split."""

from __future__ import annotations

import builtins
import io
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crkd.config.load import load_config
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.runs.search import find_stage1
from crkd.stages.load_images import default_image_size, load_images, split_entry, split_of
from crkd.stages.pretrain.run import pretrain
from crkd.training.interruption import Interrupted
from tests.support.small_runs import interrupt_at


def images(folder: Path, seed: int, count: int = 6) -> Path:
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("known/cat", "known/dog", "novel"):
        images(tmp_path / name, len(name))
    return tmp_path


def config_of(root: Path, known: str = "known", novel: str | None = "novel") -> Config:
    unlabeled = None if novel is None else str(root / novel)
    given = {
        "dataset": "folder",
        "data": {"known": str(root / known), "novel": unlabeled, "image_size": 16},
        "model": {"backbone": "resnet8"},
        "pretrain": {"epochs": 4, "batch_size": 8},
    }
    return load_config(None, ["device=cpu"], given)


def test_other_images_in_folders_of_the_same_names_are_another_stage_1(folders: Path) -> None:
    entry = split_entry(split_of(config_of(folders)), 1.0)
    assert split_entry(split_of(config_of(folders)), 1.0) == entry
    images(folders / "other" / "cat", 7)
    images(folders / "other" / "dog", 8)
    (folders / "known").rename(folders / "before")
    (folders / "other").rename(folders / "known")
    changed = split_entry(split_of(config_of(folders)), 1.0)
    assert changed["known"] != entry["known"]
    assert (changed["name"], changed["fingerprint"]) == (entry["name"], entry["fingerprint"])
    assert changed["images"] == entry["images"]
    (folders / "novel" / "more.png").write_bytes((folders / "novel" / "0.png").read_bytes())
    assert split_entry(split_of(config_of(folders)), 1.0)["images"] != entry["images"]


def test_tar_files_have_a_digest_too(folders: Path) -> None:
    digests = []
    place = folders / "archive"
    place.mkdir()
    for seed in (1, 1, 2):
        folder = images(folders / f"made-{len(digests)}" / "cat", seed).parent
        with tarfile.open(place / "known.tar", "w") as archive:
            for file in sorted(folder.glob("*/*.png")):
                archive.add(file, arcname=f"cat/{file.name}")
            archive.add(folders / "known" / "dog" / "0.png", arcname="dog/0.png")
        digests.append(split_entry(split_of(config_of(folders, "archive", None)), 1.0)["known"])
    assert digests[0] == digests[1] != digests[2]


def replaced_by_noise(folders: Path) -> None:
    images(folders / "noise", 77)
    for file in (folders / "noise").iterdir():
        file.rename(folders / "known" / "cat" / file.name)


def moved_to_another_class(folders: Path) -> None:
    (folders / "known" / "cat" / "0.png").rename(folders / "known" / "dog" / "moved.png")


def added(folders: Path) -> None:
    images(folders / "novel" / "more", 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced_by_noise, r"\d+ with other content \('known/cat/0.png', "),
        (
            moved_to_another_class,
            r"1 missing \('known/cat/0.png'\), 1 new \('known/dog/moved.png'\)",
        ),
        (added, r"\d+ new \('novel/more/0.png', "),
    ],
)
def test_resume_names_what_changed_in_the_images(
    folders: Path, change: Callable[[Path], None], message: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted):
            pretrain(config_of(folders), folders / "run")
    change(folders)
    description = (folders / "run" / "run.json").read_bytes()
    with pytest.raises(InputError, match=f"the data has changed since .* began: {message}"):
        pretrain(config_of(folders), folders / "run", resume=True)
    assert (folders / "run" / "run.json").read_bytes() == description
    assert not (folders / "run" / ".lock").exists()


def test_changed_images_are_refused_at_resume_and_not_found_as_stage_1(folders: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(Interrupted):
            pretrain(config_of(folders), folders / "run")
    (folders / "known" / "cat" / "0.png").unlink()
    with pytest.raises(InputError, match=r"began: 1 missing \('known/cat/0.png'\); restore it"):
        pretrain(config_of(folders), folders / "run", resume=True)
    finished = pretrain(config_of(folders), folders / "runs" / "again")
    known = split_entry(split_of(config_of(folders)), 1.0)["known"]
    found = find_stage1([folders / "runs"], dataset="folder", known=known, seed=0)
    assert found is not None
    assert found[0] == finished.path
    images(folders / "known" / "cat" / "more", 9)
    known = split_entry(split_of(config_of(folders)), 1.0)["known"]
    assert find_stage1([folders / "runs"], dataset="folder", known=known, seed=0) is None


def test_each_image_is_opened_once_for_its_check_and_once_for_its_digest(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, honest = Counter[str](), io.open

    def counted(file, *arguments, **options):  # type: ignore[no-untyped-def]
        if str(file).endswith(".png"):
            opened[str(file)] += 1
        return honest(file, *arguments, **options)

    config = load_config(settings=["data.image_size=null"], base=config_of(folders))
    monkeypatch.setattr(builtins, "open", counted)
    monkeypatch.setattr(io, "open", counted)
    split_of(config)
    assert set(opened.values()) == {1}
    opened.clear()
    dataset, _ = load_images(config)
    assert (len(opened), set(opened.values())) == (18, {2})
    # The size of a training is that of the sides which the check saw.
    assert dataset.image_size == 32
    opened.clear()
    assert default_image_size(config) == 32
    assert set(opened.values()) == {2}

"""Full disks, read-only folders, damaged checkpoints and vanished images: said, and survived."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crkd.commands.main import run_verb
from crkd.config.load import load_config
from crkd.core import atomic_write
from crkd.core.errors import InputError
from crkd.runs.folder import RunFolder
from crkd.stages.pretrain.run import SupervisedTraining, pretrain
from crkd.stages.run_data import prepare
from crkd.training.checkpoint import load_state, states
from crkd.training.interruption import Interrupted
from tests.support.forked import started
from tests.support.reliability import LONG, Record
from tests.support.small_runs import interrupt_at, same, small_config

CPU = torch.device("cpu")
PLACES = 200 if LONG else 20
NEW_USERS, NEW_MOUNTS = 0x10000000, 0x00020000
"""CLONE_NEWUSER and CLONE_NEWNS of Linux."""
SAVED = small_config("loop.checkpoint_every=1.0e-9")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run = pretrain(SAVED, tmp_path_factory.mktemp("straight") / "run")
    return run.read_model(run.read_info())[0]


@pytest.mark.parametrize("what", ["write", "fsync", "replace"])
def test_a_disk_that_fills_up_leaves_the_last_good_state(
    what: str, tmp_path: Path, straight: dict[str, torch.Tensor]
) -> None:
    honest, calls = getattr(os, "fdopen" if what == "write" else what), []

    def full(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return honest(*arguments, **options)

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic_write.os, "fdopen" if what == "write" else what, full)
        with pytest.raises(InputError, match="No space left on device"):
            pretrain(SAVED, out)
    assert not list(out.glob(f".*{atomic_write.UNFINISHED}"))
    run = pretrain(SAVED, out, resume=True)
    assert same(run.read_model(run.read_info())[0], straight)


def on_a_small_disk(place: Path, verb: str, *arguments: str) -> int:
    """Run a verb in a name space where a file system of 300 KiB is mounted at a place."""
    users, libc = (os.getuid(), os.getgid()), ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(NEW_USERS | NEW_MOUNTS) == 0, os.strerror(ctypes.get_errno())
    Path("/proc/self/setgroups").write_text("deny")
    for name, outside in zip(("uid_map", "gid_map"), users, strict=True):
        Path("/proc/self", name).write_text(f"0 {outside} 1")
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    return run_verb(verb, arguments)


def test_a_small_disk(tmp_path: Path) -> None:
    permitted = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "true"],
        capture_output=True,
        check=False,
    )
    if permitted.returncode:
        pytest.skip("this system lets nobody mount a file system of his own")
    place, said = tmp_path / "disk", tmp_path / "said.txt"
    place.mkdir()
    settings = [f"--set={s}" for s in ("pretrain.epochs=1", "loop.checkpoint_every=1.0e-9")]
    words = (*settings, "--out", str(place / "run"))
    process = started(on_a_small_disk, place, "pretrain", *words, output=said)
    process.join()
    assert process.exitcode == 2, said.read_text()
    last = said.read_text().strip().splitlines()[-1]
    assert "cannot be written (No space left on device); free space" in last


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(4, patch)
        with pytest.raises(Interrupted):
            pretrain(small_config(), out)
    return out


@pytest.mark.parametrize("damage", ["bit", "cut"])
def test_a_damaged_checkpoint_is_never_loaded(
    damage: str, interrupted: Path, tmp_path: Path, record: Record
) -> None:
    (file,) = states(interrupted)
    content = file.read_bytes()
    config = small_config()
    training = SupervisedTraining(config, prepare(config, CPU), CPU)
    loop = training.loop(RunFolder(tmp_path))
    modules = loop.task.modules
    before = {name: value.clone() for name, value in modules.state_dict().items()}
    random = np.random.default_rng(0)

    def load() -> int:
        return load_state(
            tmp_path, stage="pretrain", modules=modules, optimizer=loop.optimizer, config=config
        )[0]

    for _ in range(PLACES):
        place = int(random.integers(len(content)))
        damaged = bytearray(content if damage == "bit" else content[:place])
        if damage == "bit":
            damaged[place] ^= 1 << int(random.integers(8))
        (tmp_path / file.name).write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            load()
        assert same(before, modules.state_dict())
    record(f"damaged checkpoints, {damage}", places=PLACES, silent_loads=0)
    (tmp_path / file.name).write_bytes(content)
    assert load() == 5


@pytest.mark.parametrize(("name", "trained"), [("4.png", False), ("3.png", True)])
def test_an_image_that_vanished_is_named_and_the_state_stays(
    tmp_path: Path, name: str, trained: bool
) -> None:
    """One image is trained on; the other is of the validation part, which is read afterwards."""
    random = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "known" / kind).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "known" / kind / f"{number}.png")
    config = load_config(
        "digits",
        ["pretrain.epochs=2", "pretrain.batch_size=4", "data.storage=streaming"],
        {"dataset": "folder", "data": {"known": str(tmp_path / "known")}},
    )
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(1, patch)
        with pytest.raises(Interrupted):
            pretrain(config, out)
    (file,) = states(out)
    state = file.read_bytes()
    honest = RunFolder.write_info

    def vanish(run: RunFolder, info: object) -> None:
        # After the images were listed and looked at.
        (tmp_path / "known" / "dog" / name).unlink(missing_ok=True)
        honest(run, info)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "write_info", vanish)
        with pytest.raises(InputError, match=rf"dog.{name}"):
            pretrain(config, out, resume=True)
    assert file in states(out)
    assert len(states(out)) == 1 + trained
    assert file.read_bytes() == state
    assert RunFolder(out).read_info().status == "failed"

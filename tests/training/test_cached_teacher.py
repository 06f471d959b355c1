from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.gpu_checks.fresh_loops import discovery_loop
from crkd.stages.discover.run import discover
from crkd.stages.distill import run as distillation
from crkd.stages.distill.run import distill
from crkd.stages.run_data import prepare
from crkd.training import cached_teacher
from crkd.training.cached_teacher import StoredTeacher, store_teacher
from crkd.training.checkpoint import states
from crkd.training.interruption import Interrupted
from crkd.training.loop import Loop
from crkd.training.soft_label_files import FOLDER, INDEX, LabelStore
from tests.support.small_runs import interrupt_at, same, scramble_hidden_labels, small_config

pytestmark = pytest.mark.usefixtures("few_images")

CPU = torch.device("cpu")
EPOCHS = 2
TERMS = "discover.distillation=[{name: class_relation, weight: 0.1}, {name: kd, weight: 0.1}]"


def config_of(*settings: str, mode: str = "full_float32") -> Config:
    return small_config(
        "discover.epochs=1",
        "discover.batch_size=32",
        "discover.num_small=0",
        "model.num_heads=1",
        "evaluation.baselines=[]",
        f"discover.stored_epochs={EPOCHS}",
        f"discover.label_mode={mode}",
        TERMS,
        *settings,
    )


def loop_of(config: Config) -> Loop:
    return discovery_loop(config, prepare(config, CPU), CPU)


def stored(loop: Loop, *, mode: str = "full_float32", resume: bool = False) -> StoredTeacher:
    task = loop.task
    return store_teacher(
        loop,
        task.teacher,
        task.teacher_network,
        mode=mode,
        num_classes=5,
        resume=resume,
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


@pytest.fixture(scope="module")
def straight(stage1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    return discover(config_of(), tmp_path_factory.mktemp("runs") / "straight", stage1).path


@pytest.fixture(scope="module")
def plain() -> Loop:
    return loop_of(config_of())


@pytest.mark.parametrize(("mode", "tolerance"), [("full_float32", 1e-5), ("full_float16", 2e-3)])
def test_the_losses_are_those_of_the_teacher_at_hand(plain: Loop, mode: str, tolerance: float):
    """Every batch of all passes, stored ones and those that come again."""
    live, kept = plain.task.teacher, stored(loop_of(config_of(mode=mode)), mode=mode)
    for batch in list(plain.loader.batches(0, 3 * plain.loader.steps_per_epoch))[::6]:
        found = []
        for teacher in (live, kept):
            plain.task.teacher = teacher
            found.append(plain.task.losses(batch)[1])
        for name in ("class_relation", "kd"):
            assert found[1][name].item() == pytest.approx(found[0][name].item(), rel=tolerance)
    plain.task.teacher = live


def test_training_is_that_with_the_teacher_at_hand():
    """Until rounding has grown: 1e-7 in one layer's first weights moves this curve further."""

    def curve(mode: str | None) -> list[float]:
        loop = loop_of(config_of())
        if mode is not None:
            loop.task.teacher = stored(loop, mode=mode)
        losses = []
        for step, batch in enumerate(loop.loader.batches(0, 8)):
            loop.step(batch, step)
            losses.append(loop.training_step.totals.take()["loss"])
        return losses

    live, kept, hard = curve(None), curve("full_float32"), curve("hard")
    assert kept[:3] == pytest.approx(live[:3], rel=1e-5)
    assert kept == pytest.approx(live, rel=3e-2)
    assert hard[0] != pytest.approx(live[0], rel=3e-2)


def test_the_network_runs_no_more_once_the_labels_are_there(monkeypatch: pytest.MonkeyPatch):
    loop = loop_of(config_of())
    task = loop.task
    task.teacher = stored(loop)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the teacher's network ran")

    monkeypatch.setattr(task.teacher_network, "forward", forbidden)
    (batch,) = loop.loader.batches(30, 31)
    assert task.losses(batch)[1]["kd"].isfinite()


def test_known_logits_are_the_stored_distribution(plain: Loop):
    """And only those: no features, no maps."""
    loop = loop_of(config_of(mode="marginal_smoothing_k2"))
    kept = stored(loop, mode="marginal_smoothing_k2")
    (batch,) = plain.loader.batches(15, 16)
    for first in (0, batch.num_labeled):
        live = plain.task.teacher(batch, first).known_logits.softmax(dim=-1)
        found = kept(batch, first)
        assert found.features.shape == (*live.shape[:2], 0)
        assert (found.maps, found.novel_logits) == ((), None)
        label = found.known_logits.softmax(dim=-1)
        best = live.topk(2, dim=-1)
        torch.testing.assert_close(label.topk(2).values, best.values, atol=1e-5, rtol=1e-4)
        rest = label.sort(dim=-1).values[..., :3]
        torch.testing.assert_close(rest, rest.mean(dim=-1, keepdim=True).expand_as(rest))


def interrupt_after(writes: int, patch: pytest.MonkeyPatch) -> list[int]:
    """Send this process a SIGTERM when so many passes are written; return what is written."""
    honest, written = LabelStore.write, []

    def write(self, epoch, record):  # type: ignore[no-untyped-def]
        honest(self, epoch, record)
        written.append(epoch)
        if len(written) == writes:
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(LabelStore, "write", write)
    return written


def test_an_interrupted_generation_continues(straight: Path, stage1: Path, tmp_path: Path):
    config = config_of()
    with pytest.MonkeyPatch.context() as patch:
        assert interrupt_after(1, patch) == []
        with pytest.raises(Interrupted, match=r"after 1 of 2 passes of the teacher;.*--resume"):
            discover(config, tmp_path / "run", stage1)
    folder = tmp_path / "run" / FOLDER
    assert sorted(f.name for f in folder.iterdir()) == ["epoch-0000.safetensors", INDEX]
    with pytest.MonkeyPatch.context() as patch:
        written = interrupt_after(9, patch)
        resumed = discover(config, tmp_path / "run", stage1, resume=True)
    assert written == [1], "the first pass was kept"
    assert same(*map(weights, (straight, resumed.path)))
    assert not states(resumed.path)


def test_a_signal_within_a_pass_ends_the_run_before_its_file(stage1: Path, tmp_path: Path):
    honest = cached_teacher.TrainingProgress.show

    def show(self, step, metrics):  # type: ignore[no-untyped-def]
        if self.title == "teacher" and step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        honest(self, step, metrics)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cached_teacher.TrainingProgress, "show", show)
        with pytest.raises(Interrupted, match="after 0 of 2 passes"):
            discover(config_of(), tmp_path / "run", stage1)
    assert not (tmp_path / "run" / FOLDER).exists()


def test_a_resumed_training_uses_the_labels_at_hand(straight: Path, stage1: Path, tmp_path: Path):
    config = config_of()
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(4, patch)
        with pytest.raises(Interrupted, match="stopped after step 5"):
            discover(config, tmp_path / "run", stage1)
    with pytest.MonkeyPatch.context() as patch:
        written = interrupt_after(9, patch)
        resumed = discover(config, tmp_path / "run", stage1, resume=True)
    assert written == []
    assert same(*map(weights, (straight, resumed.path)))


CHANGES = {
    "seed": ("seed=1", ["images", "seed", "teacher"]),
    "views": ("discover.large.options={rotation: 5}", ["views"]),
    "precision": ("loop.precision=bfloat16", ["precision"]),
    "images": ("data.validation_fraction=0.2", ["counts", "images"]),
}


@pytest.fixture(scope="module")
def ours() -> Loop:
    """A loop whose labels are stored."""
    loop = loop_of(config_of())
    stored(loop)
    return loop


@pytest.mark.parametrize("what", CHANGES)
def test_foreign_labels_are_refused(what: str, ours: Loop):
    setting, different = CHANGES[what]
    theirs = loop_of(config_of(setting))
    theirs.run = ours.run
    with pytest.raises(InputError, match="of another origin") as refused:
        stored(theirs)
    named = str(refused.value).split("different: ")[1].split(")")[0].split(", ")
    assert what in named
    assert set(named) <= set(different)


def test_another_teacher_or_mode_is_refused():
    loop = loop_of(config_of())
    stored(loop)
    with pytest.raises(InputError, match=r"different: label_mode\)"):
        stored(loop, mode="hard")
    with torch.no_grad():
        next(loop.task.teacher_network.parameters()).add_(1e-3)
    with pytest.raises(InputError, match=r"different: teacher\)"):
        stored(loop)


def test_more_stored_epochs_keep_those_at_hand():
    loop = loop_of(config_of())
    stored(loop)
    with pytest.MonkeyPatch.context() as patch:
        written = interrupt_after(9, patch)
        loop.loader.view_epochs = 3
        stored(loop, resume=True)
    assert written == [2]


def test_labels_that_do_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cached_teacher, "free_bytes", lambda device: 1000)
    with pytest.raises(
        InputError, match=r"stored_epochs 2 with label_mode 'full_float32' takes.*lower stored_epo"
    ):
        stored(loop_of(config_of()))


def test_hidden_labels_never_enter(stage1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither the stored labels nor the weights; pseudo-labels and mixtures included."""
    terms = '[{name: ferkd, weight: 0.05, options: {"on": pseudo, hard: 0.5, self_mix: 0.5}}]'
    config = config_of(f"discover.distillation={terms}", mode="smoothed")
    honest = discover(config, tmp_path / "honest", stage1)
    scramble_hidden_labels(monkeypatch)
    runs = (honest, discover(config, tmp_path / "scrambled", stage1))
    assert same(*(weights(run.path) for run in runs))
    assert len({(run.path / FOLDER / INDEX).read_text() for run in runs}) == 1
    both = [run.read_metrics()["task_aware"]["train"]["novel"] for run in runs]
    assert both[0] != both[1], "the evaluator alone must have seen the scrambled labels"


@pytest.mark.parametrize(
    ("terms", "epochs", "message"),
    [
        ("[{name: fkd}]", 0, r"'fkd' needs stored_views.*set discover\.stored_epochs to a number"),
        (
            "[{name: fitnet}]",
            2,
            r"'fitnet' needs feature_maps.*with stored labels; set discover\.stored_epochs to 0,"
            r".*choose one of: class_relation, contrastive, ferkd, fkd, kd,",
        ),
        ("[{name: srrl}]", 2, r"'srrl' needs feature_maps"),
        ("[]", 2, r"discover\.stored_epochs keeps a teacher's labels, and no distillation loss"),
        (
            '[{name: kd}, {name: ferkd, options: {"on": labeled, self_mix: 0.5}}]',
            2,
            r"different values \(kd 0, ferkd 0\.5\); set self_mix to 0",
        ),
    ],
)
def test_what_does_not_go_together_is_said_at_start_up(terms: str, epochs: int, message: str):
    with pytest.raises(InputError, match=message):
        loop_of(config_of(f"discover.distillation={terms}", f"discover.stored_epochs={epochs}"))


def test_self_mix_changes_the_student_alone(monkeypatch: pytest.MonkeyPatch):
    """The student sees mixed large views, the teacher unmixed ones, the term their shares."""
    terms = '[{name: ferkd, options: {"on": labeled, self_mix: 1.0}}]'
    loop = loop_of(config_of(f"discover.distillation={terms}", "discover.num_small=1"))
    task, seen = loop.task, {}
    (batch,) = loop.loader.batches(0, 1)
    honest, live = task._forward, task.teacher

    def forward(views, **options):  # type: ignore[no-untyped-def]
        seen["student"] = views
        return honest(views, **options)

    def teacher(given, first):  # type: ignore[no-untyped-def]
        seen["teacher"] = given.views
        return live(given, first)

    class Noting(torch.nn.Module):
        def forward(self, inputs):  # type: ignore[no-untyped-def]
            seen["mix"] = inputs.mix
            return inputs.student.known_logits.sum()

    monkeypatch.setattr(task, "_forward", forward)
    task.teacher = teacher
    task.modules.terms.terms[0] = Noting()
    task.losses(batch)
    assert all(torch.equal(a, b) for a, b in zip(seen["teacher"], batch.views, strict=True))
    large, small = seen["student"][:2], seen["student"][2:]
    assert not any(torch.equal(a, b) for a, b in zip(large, batch.views, strict=False))
    assert all(torch.equal(a, b) for a, b in zip(small, batch.views[2:], strict=True))
    assert seen["mix"].shape == batch.labels.shape
    assert 0 < seen["mix"].mean() < 1


def test_a_student_learns_from_stored_labels_of_known_and_novel_classes(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = {}

    def noting(loop, teacher, *rest, **options):  # type: ignore[no-untyped-def]
        kept = store_teacher(loop, teacher, *rest, **options)
        (batch,) = loop.loader.batches(5, 6)
        seen["live"] = teacher(batch, 0).known_logits.log_softmax(dim=-1)
        seen["kept"] = kept(batch, 0).known_logits
        return kept

    monkeypatch.setattr(distillation, "store_teacher", noting)
    config = config_of(
        "distill.epochs=1",
        "distill.batch_size=32",
        "distill.stored_epochs=1",
        "distill.label_mode=full_float32",
        "distill.views=[{recipe: digits}, {recipe: digits}]",
        "distill.method=[{name: ferkd, options: {self_mix: 0.5}}]",
    )
    run = distill(config, tmp_path / "student", straight)
    assert seen["kept"].shape[-1] == 10
    torch.testing.assert_close(seen["kept"], seen["live"], atol=1e-4, rtol=1e-4)
    assert run.read_info().status == "complete"
    assert (run.path / FOLDER / INDEX).exists()

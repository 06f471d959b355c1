"""Reading of run folders and plan folders for a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crkd.config.check import plain
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.core.fields import check_fields, list_of, number, text, whole
from crkd.evaluation.comparison import Entry
from crkd.evaluation.predictions_file import load_predictions
from crkd.evaluation.report import evaluate
from crkd.runs.atomic_files import read_json
from crkd.runs.folder import RunFolder, RunInfo
from crkd.runs.summary import accuracies

METHODS: Final = {"supervised": "pretrain", "discovered": "discover", "distilled": "distill"}
"""Kind of a run -> its method, unless the configuration names another one."""

BASELINE_NOTES: Final = {
    "baseline: k-means": "kmeans",
    "baseline: semi-supervised k-means": "semi-kmeans",
    "supervised upper bound": "supervised",
}
"""Begins of the notes by which runs name their baseline whose ``run.json`` does not."""

_MACHINE: Final = (
    *("seed", "device", "split", "class_order_seed", "data.root", "data.storage"),
    "data.session",
    *(f"loop.{key}" for key in ("log_every", "checkpoint_every", "keep_states", "loggers")),
)
"""Settings that do not shape a result, or that the data of a run describe better."""

_OWN_IMAGES: Final = ("data.known", "data.novel", "data.features")

_UNUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "supervised": ("discover.", "distill.", "vectors."),
    "discovered": ("distill.",),
    "baseline": ("distill.", "vectors."),
    "distilled": (),
}
"""Kind of a run -> blocks of the configuration that it does not read."""

_SHARE: Final = number(0.0, 1.0).or_null()
_PLAN: Final = {
    "plan": list_of(whole(1, 100_000), 1, 100_000),
    "method": text(100),
    "seed": whole(-(2**63), 2**63 - 1),
    "forgetting": list_of(number(-1.0, 1.0).or_null(), 0, 100_000),
}


HUNGARIAN: Final = {"M_f": "max_forgetting", "M_d": "mean_discovery"}
"""Metric of a plan on vectors -> its key in ``metrics.json``."""


@dataclass(frozen=True)
class ReadRun:
    """A finished run, its metrics and its entry in a comparison.

    Attributes:
        folder: the run.
        metrics: see :func:`crkd.evaluation.report.evaluate`.
        entry: see :class:`crkd.evaluation.comparison.Entry`.
    """

    folder: RunFolder
    metrics: dict[str, Any]
    entry: Entry


@dataclass(frozen=True)
class ReadPlan:
    """A finished plan of ``crkd increments``, its metrics and its entry in a comparison."""

    metrics: dict[str, Any]
    entry: Entry


def is_plan_folder(path: Path) -> bool:
    """Return whether ``crkd increments`` wrote a folder."""
    begun = (path / "step-0.yaml").is_file() or (path / "config.yaml").is_file()
    return begun and not (path / "run.json").is_file()


def read_run(path: Path, name: str, label: str | None = None) -> ReadRun:
    """Read a finished run.

    Args:
        path: its folder.
        name: its name in the comparison.
        label: name of its group; None lets method and settings decide.

    Raises:
        InputError: it is not a run, or unfinished, or has no predictions.
    """
    run = RunFolder.open(path)
    info = run.read_info()
    if info.status != "complete":
        raise InputError(
            f"the run in {path} is not finished (status {info.status!r}); finish it with --resume, "
            "or leave it out"
        )
    table = run.path / "predictions.parquet"
    if not table.is_file():
        raise InputError(
            f"the run in {path} has no predictions (no {table.name} in it); leave it out"
        )
    metrics = evaluate(load_predictions(table))
    config = run.read_config()
    entry = Entry(
        name=name,
        kind="run",
        method=method_of(info, config),
        seed=info.seed,
        data=data_of(info),
        settings=settings_of(info, config) | _parent_settings(info),
        scores=accuracies(metrics),
        label=label,
    )
    return ReadRun(run, metrics, entry)


def read_plan(path: Path, name: str, label: str | None = None) -> ReadPlan:
    """Read a finished plan; the arguments and the error are those of :func:`read_run`.

    The scores are ``final/all``, ``final/old`` and ``final/new``: the accuracy on test images after
    the last step; ``forgetting/labeled``: of the classes of stage 1; and ``forgetting/mean``: of
    all groups but the last one. A plan on vectors has the results of one Hungarian matching too:
    ``hungarian/NAME`` after the last step, M_f and M_d.
    """
    file = path / "metrics.json"
    metrics = read_json(file) if file.is_file() else {}
    steps = metrics.get("steps") if isinstance(metrics, dict) else None
    if not isinstance(steps, list) or len(steps) < len(metrics.get("plan", ())) or not steps:
        raise InputError(
            f"the plan in {path} is not finished; finish it with crkd increments --resume, or "
            "leave it out"
        )
    check_fields({key: metrics.get(key) for key in _PLAN}, _PLAN, file)
    accuracy = steps[-1].get("acc") if isinstance(steps[-1], dict) else None
    if not isinstance(accuracy, dict) or not all(map(_SHARE.check, accuracy.values())):
        raise InputError(f"{file}: the last of steps has no block 'acc' of shares; restore it")
    data, settings = _plan_data(path, len(steps) - 1)
    data["split"] = "-".join(map(str, metrics["plan"]))
    lost = metrics["forgetting"]
    known = [value for value in lost if value is not None]
    entry = Entry(
        name=name,
        kind="plan",
        method=metrics["method"],
        seed=metrics["seed"],
        data=data,
        settings=settings | _session(metrics),
        scores={
            **{f"final/{name}": value for name, value in accuracy.items()},
            **_hungarian(metrics, file),
            "forgetting/labeled": lost[0] if lost else None,
            "forgetting/mean": sum(known) / len(known) if known else None,
        },
        label=label,
    )
    return ReadPlan(metrics, entry)


def _plan_data(path: Path, last: int) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the data and the settings of a plan."""
    config = RunFolder(path).read_config() if (path / "config.yaml").is_file() else None
    if config is not None and config.dataset == "features":
        # The easy baseline on vectors has no run folder.
        unused = ("pretrain.", "distill.", "model.", "loop.")
        settings = {
            key: value
            for key, value in flat(plain(config)).items()
            if key not in _MACHINE and not key.startswith(unused)
        }
        return {"dataset": config.dataset}, settings
    run = RunFolder.open(path / f"step-{last}")
    info = run.read_info()
    # The split of the last step holds the order of all classes.
    return data_of(info), settings_of(info, run.read_config())


def _session(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of the sessions of a plan as a setting."""
    session = metrics.get("session")
    return {} if session is None else {"session": f"{session.get('new')}-{session.get('old')}"}


def _hungarian(metrics: Mapping[str, Any], file: Path) -> dict[str, float | None]:
    """Return the results of one matching after the last session, where a plan has them."""
    found = metrics["steps"][-1].get("hungarian")
    if found is None:
        return {}
    values = {f"hungarian/{name}": value for name, value in found.items()}
    values |= {f"hungarian/{name}": metrics.get(key) for name, key in HUNGARIAN.items()}
    if not all(value is None or -1 <= value <= 1 for value in values.values()):
        raise InputError(
            f"{file}: the last of steps has no block 'hungarian' of shares; restore it"
        )
    return values


def method_of(info: RunInfo, config: Config) -> str:
    """Return the name of the method of a run."""
    if info.kind == "baseline":
        named = (name for begin, name in BASELINE_NOTES.items() if _has_note(info, begin))
        return info.baseline or next(named, "baseline")
    if info.kind == "discovered" and config.discover.method != "swapped":
        return config.discover.method
    return METHODS[info.kind]


def _has_note(info: RunInfo, begin: str) -> bool:
    return any(note.startswith(begin) for note in info.notes)


def data_of(info: RunInfo) -> dict[str, str]:
    """Return the data set and the split of a run, whose runs can be paired."""
    rest = {f"split.{key}": value for key, value in info.split.items() if key != "name"}
    return {"dataset": info.dataset, "split": info.split["name"], **rest}


def settings_of(info: RunInfo, config: Config) -> dict[str, Any]:
    """Return the settings that shape the result of a run, except its seed, as dotted keys."""
    left_out = _MACHINE
    if "images" in info.split:
        # The digests of the images name them; the folders may have moved.
        left_out += _OWN_IMAGES
    blocks = _UNUSED[info.kind]
    if info.dataset != "features":
        blocks += ("vectors.",)
    return {
        key: value
        for key, value in flat(plain(config)).items()
        if key not in left_out and not key.startswith(blocks)
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested blocks as one block of dotted keys; lists are values.

    >>> flat({"a": {"b": 1, "c": [2]}, "d": {}})
    {'a.b': 1, 'a.c': [2], 'd': {}}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        inside = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return found


def _parent_settings(info: RunInfo) -> dict[str, Any]:
    """Return the settings of stage 1, and of a teacher, as the run before has them.

    A discovery may start from a stage 1 of another configuration than its own one says. A run
    before that is not there any more is taken to be as this one says.
    """
    if info.parent is None or not (Path(info.parent["path"]) / "run.json").is_file():
        return {}
    parent = RunFolder(info.parent["path"])
    try:
        about, before = parent.read_info(), parent.read_config()
    except InputError:
        return {}
    is_student = info.kind == "distilled"
    blocks = ("pretrain.", "discover.") if is_student else ("pretrain.",)
    found = {k: v for k, v in settings_of(about, before).items() if k.startswith(blocks)}
    return found | ({"teacher": method_of(about, before)} if is_student else {})


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest endings of the paths that are unique.

    >>> short_names([Path("runs/a/seed0"), Path("runs/b/seed0")])
    ['a/seed0', 'b/seed0']
    """
    for length in range(1, 1 + max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{number + 1}: {path}" for number, path in enumerate(paths)]

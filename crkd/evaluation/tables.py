"""Result tables of one run or several runs for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from crkd.core.errors import InputError, listed
from crkd.evaluation.report import PROTOCOLS
from crkd.evaluation.scores import MEASURES

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

NO_LABELS = "no labels"
NOT_APPLICABLE = "-"
ORACLE = "Oracle head: chosen by hidden labels, only for comparison; nothing uses it."
# The oracle line comes below the main line of each protocol.
_LEADING = {
    "task_aware": ("train", "novel"),
    "task_agnostic": ("test", "all"),
    "joint_hungarian": ("test", "all"),
}
_TITLES = {
    "task_aware": "task-aware",
    "task_agnostic": "task-agnostic",
    "joint_hungarian": "joint Hungarian",
    "supervised": "known head alone",
}
_MEASURE_TITLES = {"acc": "acc", "macro_acc": "macro acc", "nmi": "NMI", "ari": "ARI"}
# Spreads of a score without a spread over heads.
_WITHOUT_SPREAD = dict.fromkeys(MEASURES)


def protocol_table(metrics: Mapping[str, Any], *, title: str | None = None) -> Table:
    """Return a table of every protocol of one run and every baseline; fits 80 columns.

    Values are percent with one decimal: the mean over heads and, after ±, the standard deviation
    over heads.

    Args:
        metrics: result of :func:`crkd.evaluation.report.evaluate`, or its JSON form.
        title: title of the table.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heads = metrics["counts"]["heads"]
    # With one head there is nothing to choose.
    oracle = heads > 1 and metrics["oracle"]["head"] is not None and metrics["oracle"]
    caption = _caption(heads) + (f" {ORACLE}" if oracle else "")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    table.title = None if title is None else Text(title)
    table.add_column("protocol, images", overflow="fold")
    for measure in MEASURES:
        table.add_column(_MEASURE_TITLES[measure], justify="right", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    for protocol in PROTOCOLS:
        if not heads and protocol != "supervised":
            continue
        table.add_row(Text(_TITLES[protocol], style="bold"))
        for part, group in _parts_and_groups(metrics, protocol):
            score = metrics[protocol][part][group]
            spread = _spread(metrics, protocol, part, group)
            table.add_row(f" {part} {group}", *_cells(score, spread))
            for name, baseline in metrics["baselines"].items():
                score = baseline.get(protocol, {}).get(part, {}).get(group)
                if score is not None and score["num_images"]:
                    table.add_row(
                        _baseline_title(name, " "), *_cells(score, _WITHOUT_SPREAD), style="dim"
                    )
            if oracle and (part, group) == _LEADING.get(protocol):
                score = oracle[protocol][part][group]
                table.add_row(" oracle head", *_cells(score, _WITHOUT_SPREAD), style="dim")
    return table


def compare_table(runs: Mapping[str, Mapping[str, Any]], *, measure: str = "acc") -> Table:
    """Return a table of one measure of several runs, the best of each line in bold.

    Args:
        runs: name of the run -> its metrics.
        measure: one of acc, macro_acc, nmi, ari.

    Raises:
        InputError: no run is given, or there is no such measure.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not runs:
        raise InputError("runs is empty; name at least one run to compare")
    if measure not in MEASURES:
        raise InputError(f"unknown measure {measure!r}; choose one of: {listed(MEASURES)}")
    every = list(runs.values())
    heads = max(metrics["counts"]["heads"] for metrics in every)
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, caption=_caption(heads), caption_justify="left"
    )
    table.add_column(Text(_MEASURE_TITLES[measure]), overflow="fold")
    for name in runs:
        table.add_column(Text(name), justify="right", overflow="fold")
    for protocol in PROTOCOLS:
        table.add_row(Text(_TITLES[protocol], style="bold"))
        for part, group in _parts_and_groups(every[0], protocol):
            cells = [
                (
                    metrics[protocol][part][group][measure],
                    _spread(metrics, protocol, part, group)[measure],
                    bool(metrics["counts"]["heads"]) or protocol == "supervised",
                )
                for metrics in every
            ]
            table.add_row(f"  {part} {group}", *_compared(cells))
    for name in dict.fromkeys(name for metrics in every for name in metrics["baselines"]):
        table.add_row(_baseline_title(name, "", style="bold"))
        for part in ("train", "test"):
            found = [metrics["baselines"].get(name) for metrics in every]
            cells = [
                (entry and entry["task_aware"][part]["novel"][measure], None, entry is not None)
                for entry in found
            ]
            table.add_row(f"  {part} novel", *_compared(cells))
    table.add_section()
    table.add_row("known + clusters", *(_sizes(metrics) for metrics in every))
    return table


def protocol_title(protocol: str) -> str:
    """Return the name of a protocol for a table."""
    return _TITLES.get(protocol, protocol.replace("_", " "))


def _parts_and_groups(metrics: Mapping[str, Any], protocol: str) -> Iterator[tuple[str, str]]:
    for part, groups in metrics[protocol].items():
        for group in groups:
            yield part, group


def _spread(
    metrics: Mapping[str, Any], protocol: str, part: str, group: str
) -> Mapping[str, float | None]:
    # All heads share the known head, and a single head has no spread.
    if protocol == "supervised" or metrics["counts"]["heads"] < 2:
        return _WITHOUT_SPREAD
    spread: Mapping[str, float | None] = metrics["spread_over_heads"][protocol][part][group]
    return spread


def _cells(score: Mapping[str, Any], spread: Mapping[str, float | None]) -> list[str]:
    if not score["num_images"]:
        return [NO_LABELS, *[NOT_APPLICABLE] * (len(MEASURES) - 1), "0"]
    values = [_figure(score[measure], spread[measure]) for measure in MEASURES]
    return [*values, str(score["num_images"])]


def _compared(cells: list[tuple[float | None, float | None, bool]]) -> list[Text]:
    from rich.text import Text

    scores = [score for score, _, _ in cells if score is not None]
    texts = []
    for score, spread, applicable in cells:
        if score is None:
            texts.append(Text(NO_LABELS if applicable else NOT_APPLICABLE, style="dim"))
            continue
        # Values that are displayed equally are both bold.
        best = len(scores) > 1 and round(score, 3) == round(max(scores), 3)
        texts.append(Text(_figure(score, spread), style="bold" if best else ""))
    return texts


def _figure(value: float, spread: float | None) -> str:
    # Adding zero turns -0.0 into 0.0.
    percent = f"{round(100 * value, 1) + 0.0:.1f}"
    return percent if spread is None else f"{percent} ±{100 * spread:.1f}"


def _baseline_title(name: str, indent: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(indent + name.replace("kmeans", "k-means").replace("_", " "), style=style)


def _sizes(metrics: Mapping[str, Any]) -> str:
    return f"{metrics['counts']['known_classes']} + {metrics['counts']['novel_clusters']}"


def _caption(heads: int) -> str:
    return f"Percent; mean ± standard deviation over {heads} heads." if heads > 1 else "Percent."

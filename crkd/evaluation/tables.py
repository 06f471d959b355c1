"""Result tables of one run or several runs for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crkd.core.errors import InputError, listed
from crkd.evaluation.protocol_list import PROTOCOLS
from crkd.evaluation.scores import MEASURES
from crkd.evaluation.table_rows import (
    ORACLE,
    TableRow,
    has_oracle,
    shown_groups,
    shown_protocols,
    spread_of,
    table_rows,
)

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

NO_LABELS = "no labels"
NOT_APPLICABLE = "-"
ORACLE_NOTE = "Oracle head: chosen by hidden labels, only for comparison; nothing uses it."
MEASURE_TITLES = {"acc": "acc", "macro_acc": "macro acc", "nmi": "NMI", "ari": "ARI"}


def protocol_table(
    metrics: Mapping[str, Any], *, title: str | None = None, variants: bool = False
) -> Table:
    """Return a table of the protocols of one run and every baseline; fits 80 columns.

    Values are percent with one decimal: the mean over heads and, after ±, the standard deviation
    over heads.

    Args:
        metrics: result of :func:`crkd.evaluation.report.evaluate` or
            :func:`crkd.evaluation.any_method.evaluate_outputs`, or its JSON form.
        title: title of the table.
        variants: also the protocols that are variants; see
            :func:`crkd.evaluation.table_rows.table_rows`.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    caption = _caption(metrics["counts"]["heads"])
    caption += f" {ORACLE_NOTE}" if has_oracle(metrics) else ""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    table.title = None if title is None else Text(title)
    table.add_column("protocol, images", overflow="fold")
    for measure in MEASURES:
        table.add_column(MEASURE_TITLES[measure], justify="right", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    protocol = None
    for row in table_rows(metrics, variants=variants):
        if row.protocol != protocol:
            protocol = row.protocol
            table.add_row(Text(PROTOCOLS[protocol].title, style="bold"))
        style = "dim" if row.method else ""
        table.add_row(_row_title(row), *_cells(row.score, row.spread), style=style)
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
    table.add_column(Text(MEASURE_TITLES[measure]), overflow="fold")
    for name in runs:
        table.add_column(Text(name), justify="right", overflow="fold")
    protocols = [list(shown_protocols(metrics)) for metrics in every]
    for protocol in max(protocols, key=len):
        groups = dict.fromkeys(p for m in every for p in shown_groups(m, protocol))
        if groups:
            table.add_row(Text(PROTOCOLS[protocol].title, style="bold"))
        for part, group in groups:
            cells = [
                (
                    _value(metrics, protocol, part, group, measure),
                    spread_of(metrics, protocol, part, group)[measure],
                    bool(metrics["counts"]["heads"]) or protocol == "supervised",
                )
                for metrics in every
            ]
            table.add_row(f"  {part} {group}", *_compared(cells))
    for name in dict.fromkeys(name for metrics in every for name in metrics.get("baselines", {})):
        table.add_row(_baseline_title(name, "", style="bold"))
        for part in ("train", "test"):
            found = [metrics.get("baselines", {}).get(name) for metrics in every]
            cells = [
                (entry and entry["task_aware"][part]["novel"][measure], None, entry is not None)
                for entry in found
            ]
            table.add_row(f"  {part} novel", *_compared(cells))
    table.add_section()
    table.add_row("known + clusters", *(_sizes(metrics) for metrics in every))
    return table


def _value(
    metrics: Mapping[str, Any], protocol: str, part: str, group: str, measure: str
) -> float | None:
    """Return a score, None where metrics of an earlier version do not have it."""
    groups = metrics.get(protocol, {}).get(part, {})
    value: float | None = groups.get(group, {}).get(measure)
    return value


def _row_title(row: TableRow) -> Text | str:
    if row.method == ORACLE:
        return " oracle head"
    return _baseline_title(row.method, " ") if row.method else f" {row.part} {row.group}"


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

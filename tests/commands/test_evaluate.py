"""``crkd evaluate`` on files of predictions, and the forms of its output."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crkd.commands.main import main
from crkd.evaluation.any_method import evaluate_outputs
from crkd.evaluation.predictions import Predictions
from crkd.evaluation.predictions_file import save_predictions
from crkd.evaluation.protocol_list import PROTOCOLS
from tests.support import ROOT

OUTPUTS = [0, 0, 3, 2, 3, 1, 4, 2]
LABELS = [0, 0, 2, 3, 2, 1, 3, 1]
PARTS = ["train"] * 6 + ["test"] * 2


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    rows = [
        f"{number},{output},{label},{part}"
        for number, (output, label, part) in enumerate(zip(OUTPUTS, LABELS, PARTS, strict=True))
    ]
    Path("other.csv").write_text("\n".join(["id,prediction,label,part", *rows]))
    return "other.csv"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["evaluate", *words]) == 0
    return capsys.readouterr().out


def test_the_table_names_the_protocols_and_their_sources(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "--predictions", file, "--num-known", "2")
    assert max(map(len, text.splitlines())) <= 80
    lines, words = [line.strip() for line in text.splitlines()], " ".join(text.split())
    metrics = evaluate_outputs(OUTPUTS, LABELS, num_known=2, part=PARTS)
    for protocol, entry in PROTOCOLS.items():
        assert (entry.title in lines) == (protocol in metrics)
        if protocol in metrics:
            assert entry.title in words
    for sentence in metrics["not_supported"]:
        assert f"note: not scored: {sentence}" in words


def test_json_csv_and_latex_of_a_file(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--predictions", file, "--num-known", "2")
    metrics = json.loads(said(capsys, *flags, "--json"))
    assert metrics == evaluate_outputs(OUTPUTS, LABELS, num_known=2, part=PARTS)
    rows = list(csv.DictReader(io.StringIO(said(capsys, *flags, "--csv"))))
    assert {row["protocol"] for row in rows} == metrics.keys() & PROTOCOLS.keys()
    assert "\\toprule" in said(capsys, *flags, "--latex")


def test_csv_and_latex_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ROOT / "tests" / "runs" / "kept" / "schema-3" / "discovered"
    rows = list(csv.DictReader(io.StringIO(said(capsys, str(kept), "--csv"))))
    assert {row["protocol"] for row in rows} == set(PROTOCOLS)
    assert "separate Hungarian & train novel" in said(capsys, str(kept), "--latex")
    assert "novel Hungarian" in said(capsys, str(kept))


def test_labels_known_classes_and_clusters(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.csv").write_text("id,label\n2,cat\n1,owl\n0,fox\n")
    Path("known.txt").write_text("owl\ncat\n")
    np.savez("p.npz", id=np.arange(3), prediction=np.array(["k1", "k0", "k0"]))
    names = ("--predictions", "p.npz", "--labels", "labels.csv", "--known-classes", "known.txt")
    metrics = json.loads(said(capsys, *names, "--clusters", "--json"))
    assert metrics["counts"]["known_classes"] == 2
    assert metrics["joint_hungarian"]["train"]["all"]["acc"] == pytest.approx(2 / 3)
    assert "novel_hungarian" not in metrics
    assert main(["evaluate", *names, "--json"]) == 0
    both = capsys.readouterr()
    assert "novel_hungarian" in json.loads(both.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--predictions", "FILE"], "--predictions needs --num-known K or --known-classes FILE"),
        (["--predictions", "FILE", "--num-known", "-1"], "--num-known -1 is below 0"),
        (["--predictions", "FILE", "--num-known", "99999"], "num_known is 99999"),
        (["--predictions", "none.csv", "--num-known", "2"], "'none.csv' is not a file"),
        (["--predictions", "a" * 300 + ".csv", "--num-known", "2"], "aaa"),
        (["run", "--num-known", "2"], "--num-known belongs to --predictions"),
        (["run", "--labels", "x"], "--labels belongs to --predictions"),
        (["run", "--clusters"], "--clusters belongs to --predictions"),
    ],
)
def test_wrong_flags(
    file: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("FILE", file) if word == "FILE" else word for word in words]
    assert main(["evaluate", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["run", "--predictions", "x.csv"],
        ["run", "--json", "--csv"],
        ["--predictions", "x.csv", "--num-known", "2", "--known-classes", "y"],
    ],
)
def test_flags_that_exclude_each_other(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *words])
    assert stop.value.code == 2
    assert "usage: crkd evaluate" in capsys.readouterr().err


def test_a_run_of_generalized_category_discovery_has_the_lines_of_train(tmp_path: Path) -> None:
    """Through the file of a run: the unlabeled training images hold known classes."""
    from crkd.evaluation.predictions_file import load_predictions
    from crkd.evaluation.report import evaluate
    from crkd.evaluation.table_rows import table_rows

    outputs, labels = np.array(OUTPUTS), np.array(LABELS)
    table = Predictions(
        id=[str(number) for number in range(len(outputs))],
        part=PARTS,
        label=labels,
        known_head=np.zeros_like(outputs),
        novel_heads=[np.maximum(outputs - 2, 0)],
        joint_heads=[outputs],
        confidence=np.full(len(outputs), 0.5),
        class_names=list("abcd"),
        num_known=2,
        num_novel=3,
        chosen_head=0,
    )
    save_predictions(table, tmp_path / "predictions.parquet")
    metrics = evaluate(load_predictions(tmp_path / "predictions.parquet"))
    lines = [(row.part, row.group) for row in table_rows(metrics) if "joint" in row.protocol]
    assert lines[:3] == [("train", "all"), ("train", "known"), ("train", "novel")]


def test_no_table_of_a_run_or_a_file_waits_for_torch(file: str) -> None:
    kept = ROOT / "tests" / "runs" / "kept" / "schema-3"
    commands = [
        ["evaluate", str(kept / "discovered")],
        ["evaluate", "--predictions", file, "--num-known", "2"],
        ["compare", str(kept / "discovered"), str(kept / "vectors")],
    ]
    code = (
        "import json, sys; from crkd.commands.main import main;"
        "codes = [main(words) for words in json.loads(sys.argv[1])];"
        "print(codes, [name for name in ('torch', 'sklearn', 'faiss') if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.splitlines()[-1] == "[0, 0, 0] []", ended.stderr

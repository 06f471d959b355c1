from __future__ import annotations

from crkd.config.reference import reference
from tests.support import ROOT

PAGE = ROOT / "docs" / "configuration.md"


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text() == reference(), (
        "run: python -m crkd.config.reference > docs/configuration.md"
    )


def test_every_key_has_a_meaning_or_a_telling_name() -> None:
    bare = [
        line.split("|")[1].strip() for line in reference().splitlines() if line.endswith("|  |")
    ]
    telling = {"weight_decay", "momentum", "epochs", "batch_size", "name", "label_smoothing"}
    assert {key.strip("`").rsplit(".", 1)[-1] for key in bare} <= telling | {"kmeans_restarts"}

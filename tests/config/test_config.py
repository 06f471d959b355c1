from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crkd.config.check import build, plain
from crkd.config.load import (
    FOLDERS,
    dump_config,
    load_config,
    merge,
    parse_setting,
    parse_yaml,
    shipped_configs,
)
from crkd.config.schema import Config
from crkd.core.errors import InputError
from crkd.data.loader import shares

SHIPPED = [file for folder in FOLDERS[:2] for file in shipped_configs(folder)]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_every_shipped_configuration_is_valid(file: Path) -> None:
    known = "images" if file.stem == "folder" else None
    config = load_config(str(file), flags={"data": {"known": known}})
    assert load_config(None, flags=plain(config)) == config


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_shipped_configurations_state_only_differences(file: Path) -> None:
    values = parse_yaml(file.read_text(), str(file))
    extended = values.pop("extends", None)
    base = Config() if extended is None else load_config(extended)

    def repeated(block: dict, default: dict, key: str = "") -> list[str]:
        found = []
        for name, value in block.items():
            if isinstance(value, dict) and isinstance(default.get(name), dict):
                found += repeated(value, default[name], f"{key}{name}.")
            elif value == default.get(name):
                found.append(key + name)
        return found

    assert not repeated(values, plain(base))


def test_resolved_configuration_reads_back() -> None:
    config = load_config(None, ["discover.optimizer.lr=1e-3", "model.num_heads=2"])
    assert build(Config, parse_yaml(dump_config(config), "dump")) == config


def test_scientific_notation_is_a_number() -> None:
    # PyYAML reads 1e-4 as a string.
    assert load_config(None, ["pretrain.optimizer.weight_decay=1e-4"]).pretrain.optimizer == (
        dataclasses.replace(load_config(None).pretrain.optimizer, weight_decay=1e-4)
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("discover.epoch=3", r"unknown configuration key 'discover.epoch' \(did you mean 'epochs"),
        (
            "discover.distillation=[{name: kd, temperature: 2}]",
            r"\[0\].temperature' \(options of a name go into the block 'options'\)",
        ),
        ("discover.epochs=0", r"'discover.epochs' is 0; it must be a number at least 1"),
        ("discover.epochs=1.5", r"'discover.epochs' is 1.5; it must be a whole number"),
        ("discover.num_novel=many", "is 'many'; it must be a whole number, or 'auto'"),
        ("discover.num_novel=0", r"'discover.num_novel' is 0; it must be .*, or 'auto'"),
        ("discover.epochs=true", r"'discover.epochs' is True; it must be a whole number"),
        ("discover.optimizer.lr=.nan", "it must be a number above 0"),
        ("discover.optimizer.lr=1" + "0" * 400, "it must be a number"),
        ("seed=9223372036854775808", "it must be a whole number"),
        ("seed=1.0e+30", "it must be a whole number"),
        ("seed='\u0663'", "it must be a whole number"),
        ("seed='" + "9" * 5000 + "'", "it must be a whole number"),
        ("seed=" + "9" * 5000, "not readable"),
        ("discover.optimizer.name=adam", "it must be one of 'sgd', 'adamw'"),
        ("discover.large=3", "must hold a block of keys"),
        ("discover.distillation=class_relation", r"must be a list such as \[a, b\]"),
        ("discover.distillation=[{nme: x}]", r"unknown configuration key 'discover.distillation\["),
        ("loop.compile=1", "it must be true or false"),
        ("data.validation_fraction=0.9", r"in \[0, 0.5\]"),
        ("discover.epochs", "has no '='"),
    ],
)
def test_errors_name_key_value_and_what_is_allowed(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config(None, [setting])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "duplicate configuration key 'seed' in line 2"),
        ("a: &x 1\nb: *x\n", "aliases"),
        ("a: !!python/object/apply:os.system ['true']\n", "not readable as YAML"),
        ("a: [1\n", "not readable as YAML"),
        ("1: 2\n", "is not text"),
    ],
)
def test_hostile_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_yaml(text, "file")


@pytest.mark.parametrize("value", ["{}", "[{}]", "{{a: {}}}"])
@pytest.mark.parametrize("key", ["seed", "dataset", "device", "loop", "pretrain"])
def test_a_number_that_python_cannot_write_is_refused(key: str, value: str) -> None:
    """Python reads hexadecimal numbers of any length, and writes at most 4300 decimal digits."""
    values = parse_yaml(f"{key}: " + value.format("0x" + "f" * 5000), "text")
    with pytest.raises(InputError, match=rf"configuration key '{key}(\.a)?'"):
        build(Config, values)


def test_missing_file_lists_the_shipped_ones() -> None:
    with pytest.raises(InputError, match=r"shipped: .*digits"):
        load_config("nothing-here")


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 5\ndiscover: {epochs: 7, batch_size: 99}\n")
    config = load_config(str(file), ["discover.epochs=8"], {"seed": 6, "device": None})
    assert (config.seed, config.discover.epochs, config.discover.batch_size) == (6, 8, 99)
    assert config.model.backbone == "resnet8", "the data set's own file is the base"


def test_files_extend_each_other_to_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each name is relative to the file that has it, wherever the command runs."""
    (tmp_path / "ours" / "small").mkdir(parents=True)
    (tmp_path / "ours/base.yaml").write_text("extends: digits\nseed: 1\nmodel: {hidden: 7}\n")
    (tmp_path / "ours/more.yaml").write_text("extends: base.yaml\nseed: 2\ndevice: cpu\n")
    last = tmp_path / "ours/small/last.yaml"
    last.write_text("extends: ../more.yaml\nseed: 3\n")
    monkeypatch.chdir("/")
    config = load_config(str(last))
    assert (config.seed, config.device, config.model.hidden) == (3, "cpu", 7)
    assert config.model.backbone == "resnet8"  # of the shipped configuration "digits"
    monkeypatch.chdir(tmp_path / "ours/small")
    assert load_config("last.yaml") == config


def test_files_that_extend_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: ./a.yaml\n")
    with pytest.raises(InputError, match=r"a\.yaml, which extends .*b\.yaml, .*a\.yaml, so that"):
        load_config(str(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_text("extends: missing.yaml\n")
    with pytest.raises(InputError, match=r"a\.yaml extends 'missing\.yaml', which is neither"):
        load_config(str(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_text("extends: [b.yaml]\n")
    with pytest.raises(InputError, match="name one file"):
        load_config(str(tmp_path / "a.yaml"))


def test_a_batch_without_an_unlabeled_image_is_refused() -> None:
    """Exactly where the loader would round their number to none."""
    for size in (2, 3, 128):
        for labeled in [0.0, 0.25, 0.5, 0.75, 0.83, 0.9, 0.995, 0.997, 1.0]:
            settings = [f"discover.batch_size={size}", f"discover.labeled_share={labeled}"]
            if shares(size, [labeled, 1 - labeled])[1]:
                load_config(None, settings)
                continue
            with pytest.raises(InputError, match=rf"{labeled:g} leaves no unlabeled .* {size};"):
                load_config(None, settings)


def test_options_are_replaced_as_a_whole() -> None:
    under = {"view": {"recipe": "large", "options": {"flip": 0.0}}}
    over = {"view": {"options": {"rotation": 3}}}
    assert merge(under, over) == {"view": {"recipe": "large", "options": {"rotation": 3}}}


keys = st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5}){0,2}", fullmatch=True)


@given(keys, st.integers(-5, 5))
def test_settings_nest(key: str, value: int) -> None:
    nested = parse_setting(f"{key}={value}")
    for name in key.split("."):
        nested = nested[name]
    assert nested == value


@given(st.text(max_size=80))
def test_any_text_gives_values_or_a_clear_error(text: str) -> None:
    try:
        build(Config, parse_yaml(text, "file") or {})
    except InputError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    ["0123", "1.10", "0x10", "1_000", "12:30", "photos #2", "#new", "[a", "true", "a: b"],
)
def test_a_key_of_text_has_the_text_of_its_setting(text: str) -> None:
    assert load_config(None, [f"data.known={text}"]).data.known == text
    assert load_config(None, [f"split= {text} "]).split == text


def test_a_key_of_text_may_be_null_or_in_quotes() -> None:
    for text in ("", "null", "~"):
        assert load_config(None, ["data.novel=x", f"data.novel={text}"]).data.novel is None
    assert load_config(None, ["data.novel='null'"]).data.novel == "null"
    assert load_config(None, ['data.novel="a # b"']).data.novel == "a # b"


def test_numbers_are_decimal() -> None:
    assert load_config(None, ["seed=010"]).seed == 10
    with pytest.raises(InputError, match=r"'seed' is '1:30'; it must be a whole number"):
        load_config(None, ["seed=1:30"])
    values = {"a": "010", "b": "1:30.5", "c": 10, "d": -1.5, "e": 0, "f": 16}
    assert parse_yaml("{a: 010, b: 1:30.5, c: 10, d: -1.5, e: 0, f: 0x10}", "here") == values


def test_on_is_a_word_and_true_is_a_boolean():
    text = "{on: labeled, a: true, b: off, c: yes, d: False}"
    assert parse_yaml(text, "here") == {
        "on": "labeled", "a": True, "b": "off", "c": "yes", "d": False
    }  # fmt: skip


def test_a_written_configuration_keeps_words_that_look_like_booleans():
    config = load_config("digits", ["discover.distillation=[{name: kd, options: {on: 'off'}}]"])
    again = build(Config, parse_yaml(dump_config(config), "here"))
    assert again == config


def test_what_one_reader_changes_the_next_one_does_not_see():
    text = "{a: {b: 1}, c: [2]}"
    first = parse_yaml(text, "here")
    first["a"]["b"] = 3
    first["c"].append(4)
    assert parse_yaml(text, "there") == {"a": {"b": 1}, "c": [2]}

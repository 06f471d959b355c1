"""``crkd completion``: completion scripts for the shells."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator

from crkd.commands.verbs import VERBS, Parser, parsers
from crkd.config.load import FOLDERS, shipped_configs
from crkd.data.splits.class_split import DEFAULT_SPLITS

DESCRIPTION = """\
Print a completion script for a shell. It completes verbs, flags, choices, the
names of shipped configurations after --config and of data sets after --dataset.

  eval "$(crkd completion bash)"     # in ~/.bashrc
  eval "$(crkd completion zsh)"      # in ~/.zshrc, after compinit
"""

# "-o default" completes file names where the function finds nothing.
BASH = """\
_crkd() {
    local current="${COMP_WORDS[COMP_CWORD]}" words
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="$_crkd_verbs"
    else
        words="$(_crkd_words "${COMP_WORDS[1]}" "${COMP_WORDS[COMP_CWORD-1]}" "$current")"
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _crkd crkd
"""
ZSH = """\
_crkd() {
    local -a found
    if (( CURRENT == 2 )); then
        found=(${=_crkd_verbs})
    else
        found=($(_crkd_words "${words[2]}" "${words[CURRENT-1]}" "${words[CURRENT]}"))
    fi
    if (( $#found )); then compadd -- $found; else _files; fi
}
compdef _crkd crkd
"""
SHELLS = {"bash": BASH, "zsh": ZSH}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("shell", choices=tuple(SHELLS), help="shell of the script")


def run(given: argparse.Namespace) -> int:
    """Print the script; return the exit code."""
    print(script(given.shell), end="")
    return 0


def script(shell: str) -> str:
    """Return the completion script for a shell, with the words of all parsers.

    Args:
        shell: a key of ``SHELLS``.
    """
    _, made = parsers(*VERBS)
    values = [case for verb, parser in made.items() for case in _value_cases(verb, parser)]
    words = [case for verb, parser in made.items() for case in _word_cases(verb, parser)]
    lines = [
        f"_crkd_verbs={shlex.quote(' '.join([*VERBS, '--help', '--version']))}",
        "# Arguments: the verb, the word before the cursor, the word at the cursor.",
        "_crkd_words() {",
        '    case "$1 $2" in',
        *values,
        "    esac",
        '    case "$1 $3" in',
        *words,
        "    esac",
        "}",
        SHELLS[shell],
    ]
    return "\n".join(lines)


def _value_cases(verb: str, parser: Parser) -> Iterator[str]:
    """Yield the case lines for the words after a flag that takes a value."""
    names = {
        "--config": sorted({path.stem for folder in FOLDERS for path in shipped_configs(folder)}),
        "--dataset": sorted(DEFAULT_SPLITS),
    }
    others = []
    for action in _actions(parser):
        if not action.option_strings or action.nargs in (0, "?"):
            continue
        patterns = "|".join(f"'{verb} {flag}'" for flag in action.option_strings)
        named = next((names[flag] for flag in action.option_strings if flag in names), None)
        choices = action.choices if named is None else named
        if choices:
            yield f"        {patterns}) {_echo(choices)}return ;;"
        else:
            others.append(patterns)
    if others:
        yield f"        {'|'.join(others)}) return ;;"


def _word_cases(verb: str, parser: Parser) -> Iterator[str]:
    """Yield the case lines for all other words: flags, and choices of positional arguments.

    A verb whose positional arguments have no choices expects file names there.
    """
    flags = [flag for action in _actions(parser) for flag in action.option_strings]
    positional = [action for action in _actions(parser) if not action.option_strings]
    choices = [choice for action in positional for choice in action.choices or ()]
    yield f"        '{verb} -'*) {_echo(flags)};;"
    yield f"        '{verb} '*) {_echo(choices if positional else flags)};;"


def _actions(parser: Parser) -> Iterable[argparse.Action]:
    # argparse has no public list of the arguments of a parser.
    return parser._actions


def _echo(words: Iterable[object]) -> str:
    text = " ".join(str(word) for word in words)
    return f"echo {shlex.quote(text)}; " if text else ""

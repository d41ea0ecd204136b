"""What the mains of all jobs share: a command line becomes a config, a config an exit code.

    fields of the config -> parser -> config -> call(config) -> exit code and one line on stderr

Nothing here imports a room of `cluster`: a job imports its own in `call`, after the command line was
parsed, so that `--help` and a wrong option are answered before Ray or PyTorch is loaded.
"""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, Field
from types import NoneType
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from cluster.text.options import Option, flag_of, options_of
from cluster.text.plain_text import one_line

C = TypeVar("C")
DONE, PROBLEM, WRONG_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
"""Exit codes of every job; an error with an `exit_code` of its own ends the job with that."""
ON_RAY = (
    "The job joins the Ray cluster that the environment variable RAY_ADDRESS names, as HOST:PORT; "
    "where it is unset, empty or local, the job starts a Ray of its own on this machine."
)
"""Sentence for the description of a job that runs on Ray."""
EXPECTED = {int: "a whole number", float: "a number", str: "text"}


def parse_config(name: str, description: str, config_class: type[C], arguments: list[str] | None) -> C:
    """Return the config of a command line; exit with 2 and one line on stderr where it is wrong.

    Args:
        name: name of the job, which begins every line on stderr.
        description: what the job does, printed first in the help.
        config_class: dataclass whose fields are the options.
        arguments: words of the command line; None takes those of the process.
    """
    parser = make_parser(name, description, config_class)
    words = _with_negative_values(sys.argv[1:] if arguments is None else arguments)
    given = vars(parser.parse_args(words))
    hints = get_type_hints(config_class)
    try:
        values = {
            of.name: _converted(of, told, hints[of.name], given[of.name])
            for of, told in options_of(config_class)
            if of.name in given
        }
        return config_class(**values)
    except ValueError as error:
        parser.error(str(error))


def _with_negative_values(words: list[str]) -> list[str]:
    """Return --ir-range -40:120 as --ir-range=-40:120: argparse takes the second word for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1].startswith("--") and re.match(r"-\.?\d", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def run(
    name: str,
    parse_arguments: Callable[[list[str] | None], C],
    call: Callable[[C], str],
    arguments: list[str] | None,
) -> int:
    """Parse the command line, call the job and return its exit code, with one line on stderr if not 0.

    Args:
        name: name of the job, which begins that line.
        parse_arguments: makes the job's config of the words of its command line.
        call: does the job; returns why it must not count as a success, or an empty text.
        arguments: words of the command line; None takes those of the process.
    """
    config = parse_arguments(arguments)
    with _sigterm_interrupts() as terminated:
        try:
            problem, code = call(config), PROBLEM
        except (ValueError, OSError) as error:
            problem, code = str(error) or type(error).__name__, getattr(error, "exit_code", WRONG_INPUT)
        except KeyboardInterrupt:
            code = TERMINATED if terminated.is_set() else INTERRUPTED
            problem = "interrupted before it was done: run the same command again"
    if not problem:
        return DONE
    print(f"{name}: {one_line(problem)}", file=sys.stderr)
    return code


@contextmanager
def _sigterm_interrupts() -> Iterator[threading.Event]:
    """Let a SIGTERM stop the job in order, as Ctrl-C does; a second one ends the process at once.

    Yields:
        An event that is set once a SIGTERM has come. Ray raises a KeyboardInterrupt of its own in place
        of the handler's, so the exception cannot tell.
    """
    terminated = threading.Event()

    def stop(*_: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        terminated.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield terminated  # Python calls handlers of signals in the main thread alone
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before)


class _Parser(argparse.ArgumentParser):
    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """Return the words of a line of an options file; # begins a comment."""
        return shlex.split(arg_line, comments=True)

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2 and one line, from which secrets are taken out."""
        self.exit(WRONG_INPUT, f"{self.prog}: {one_line(message)} (--help lists every option)\n")


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=6)


def make_parser(name: str, description: str, config_class: type[Any]) -> argparse.ArgumentParser:
    """Return a parser whose options, in their groups, are the fields of a config."""
    required = [
        f"{flag_of(of)} {told.metavar}"
        for of, told in options_of(config_class)
        if of.default is MISSING
    ]
    parser = _Parser(
        prog=name,
        usage=" ".join(["%(prog)s", *required, "[option ...]"]),
        description=f"{description} A word @FILE stands for the options in a file.",
        formatter_class=_HelpFormatter,
        add_help=False,
        fromfile_prefix_chars="@",
        allow_abbrev=False,  # an abbreviation in a script would fail once a longer option is added
        argument_default=argparse.SUPPRESS,  # the defaults are the dataclass's
    )
    hints = get_type_hints(config_class)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for of, told in options_of(config_class):
        if told.group not in groups:
            groups[told.group] = parser.add_argument_group(told.group)
        groups[told.group].add_argument(flag_of(of), **_argument(of, told, hints[of.name]))
    parser.add_argument_group("help").add_argument(
        "-h", "--help", action="help", help="Print this help and stop."
    )
    return parser


def _argument(of: Field[Any], told: Option, hint: Any) -> dict[str, Any]:
    """Return what argparse is told of an option. It passes on words: `_converted` makes values."""
    text = told.help
    if hint is bool:
        return {"dest": of.name, "help": text, "action": f"store_{'false' if of.default else 'true'}"}
    if default := _default_text(of, told):
        text = f"{text} Default: {default}."
    return {
        "dest": of.name,
        "help": text.replace("%", "%%"),
        "metavar": "{" + ",".join(told.choices) + "}" if told.choices else told.metavar,
        "nargs": _num_words(told, hint),
        "required": of.default is MISSING,
    }


def _default_text(of: Field[Any], told: Option) -> str:
    if of.default in (MISSING, None, ()):
        return told.unset
    values = of.default if isinstance(of.default, tuple) else (of.default,)
    return " ".join(f"{value:.12g}" if isinstance(value, float) else str(value) for value in values)


def _value_types(hint: Any) -> tuple[Any, ...]:
    """Return the types of an option's values: (int,) of `int | None`, (str, ...) of `tuple[str, ...]`."""
    inner = tuple(part for part in get_args(hint) if part is not NoneType)
    if not inner:
        return (hint,)
    return _value_types(inner[0]) if len(inner) == 1 else inner


def _num_words(told: Option, hint: Any) -> int | str | None:
    """Return how many words follow an option: some ("+"), a number, or one (None)."""
    types = _value_types(hint)
    if Ellipsis in types:
        return "+"
    return len(types) if len(types) > 1 and told.parse is None else None


def _converted(of: Field[Any], told: Option, hint: Any, given: Any) -> Any:
    """Return an option's words as the value of its field.

    Raises:
        ValueError: a word is no such value.
    """
    if hint is bool:
        return given
    if isinstance(given, list):
        return tuple(_converted(of, told, hint, word) for word in given)
    value_type = _value_types(hint)[0]
    try:
        return (told.parse or value_type)(given)
    except ValueError as error:
        expected = str(error) if told.parse else EXPECTED[value_type]
        raise ValueError(f"{flag_of(of)} is {given!r}, expected {expected}") from error

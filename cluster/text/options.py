"""Options of a job: each one stands once, as a field of the job's frozen config dataclass.

    num_actors: int = option("Number of actors.", "resources", default=1, bounds=(1, 100_000))

The field gives the option's type and default, `option` its help text, its group in the help and its
allowed values. `cluster.text.job_main` makes the command line from the fields, and the config's own
`__post_init__` calls `check_options`, so that a config made in Python is held to the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

METADATA_KEY = "option"
URL_FIELDS = ("_url", "_urls")
"""How the names of fields that hold URLs end: a URL or None, or a tuple of URLs or of (name, URL)."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """What the command line says about one field of a config, beside its type and default."""

    help: str
    """Full sentences that name the unit; the default is added from the field."""
    group: str
    """Heading under which the help lists the option."""
    flag: str
    """Name on the command line, with its dashes; empty where it follows from the field's name."""
    metavar: str
    """What stands for the value in the help."""
    choices: tuple[str, ...]
    """Values that are allowed; empty where any text or number may be given."""
    bounds: tuple[float, float] | None
    """Least and greatest allowed number, both included; None where there is no limit."""
    unset: str
    """What a default of None, or of no values, means in words."""
    parse: Callable[[str], Any] | None
    """Makes one value of one word, raising ValueError; None where the field's type does."""


def option(
    text: str,
    group: str,
    *,
    default: Any = MISSING,
    flag: str = "",
    metavar: str = "",
    choices: tuple[str, ...] = (),
    bounds: tuple[float, float] | None = None,
    unset: str = "",
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """Return a dataclass field that is an option of a job; see `Option` for the arguments.

    Args:
        text: the help, in full sentences.
        group: heading in the help.
        default: value where the option is not given; an option without one is required.
        flag: needed where the name does not follow from the field's: see `flag_of`.
        metavar: needed where the option takes a value that is none of `choices`.
        choices: allowed texts.
        bounds: allowed numbers, of each value where the option takes several.
        unset: needed where the default is None or an empty tuple and that means something.
        parse: needed where one word makes a pair of values.
    """
    told = Option(
        help=text, group=group, flag=flag, metavar=metavar, choices=choices, bounds=bounds,
        unset=unset, parse=parse,
    )  # fmt: skip
    return field(default=default, metadata={METADATA_KEY: told})


def options_of(config: Any) -> list[tuple[Field[Any], Option]]:
    """Return the fields of a config (or of its class) that are options, in their order."""
    return [(f, f.metadata[METADATA_KEY]) for f in fields(config) if METADATA_KEY in f.metadata]


def flag_of(of: Field[Any]) -> str:
    """Return an option's name on the command line: --actors of num_actors, --index of index_url."""
    told: Option = of.metadata[METADATA_KEY]
    name = of.name.removesuffix("_urls").removesuffix("_url").removeprefix("num_")
    return told.flag or f"--{name.replace('_', '-')}"


def check_options(config: Any) -> None:
    """Raise ValueError where a URL can't be meant, or a value is not among the choices or bounds."""
    for of, told in options_of(config):
        given = getattr(config, of.name)
        if given is None:
            continue
        for value in given if isinstance(given, tuple) else (given,):
            if of.name.endswith(URL_FIELDS) and isinstance(value, str) and not value.strip():
                raise ValueError(
                    f"{flag_of(of)} is empty, expected a path or a URL: is a shell variable in it unset?"
                )
            if of.name == "output_url" and value.startswith(("http://", "https://")):
                raise ValueError(
                    f"{flag_of(of)} is a URL of a web server, expected a place that can be written: "
                    "a local path or an s3:// URL"
                )
            if told.choices and value not in told.choices:
                raise ValueError(
                    f"{flag_of(of)} is {value!r}, expected one of {', '.join(told.choices)}"
                )
            if told.bounds and not told.bounds[0] <= value <= told.bounds[1]:
                low, high = told.bounds
                raise ValueError(
                    f"{flag_of(of)} is {value}, expected a number from {low:,} to {high:,}"
                )


def check_index_name(url: str, flag: str = "--index") -> None:
    """Raise ValueError where the URL of a table, given by an option, ends in no format that is read."""
    if not url.endswith((".parquet", ".csv")):
        raise ValueError(f"{flag} is {url!r}, expected a name that ends in .parquet or .csv")

"""The page itself: data, scripts and styles in one HTML file that loads nothing from elsewhere.

What comes from an archive is hostile until shown otherwise. Jinja2 escapes it in HTML, `as_script` in
JSON, and the page's content security policy lets the browser run the scripts of this package alone, by
their digests.
"""

from __future__ import annotations

import base64
import importlib.resources
import json
import math
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cluster.reporting.charts import bundle
from cluster.text import units
from cluster.text.plain_text import printable


@dataclass(frozen=True)
class Page:
    """One kind of page: its template and the parts of its script, in their order."""

    template: str
    scripts: tuple[str, ...]
    has_charts: bool
    """Whether BokehJS is in the page."""


ARCHIVE_PAGE = Page(
    "index.html",
    ("base.js", "condition.js", "charts.js", "lists.js", "zoom.js", "viewer.js", "follow.js",
     "pair.js", "main.js"),  # fmt: skip
    has_charts=True,
)
METHODS_PAGE = Page("methods.html", ("base.js", "zoom.js", "follow.js", "methods.js"), has_charts=False)
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""Letters that could end a script element or its text, and JSON's way to write them."""


def render(data: dict[str, Any], page: Page = ARCHIVE_PAGE) -> bytes:
    """Return a page as UTF-8.

    Args:
        data: what the page shows, in plain values; the script reads it as JSON.
        page: which kind of page.
    """
    environment = Environment(
        loader=PackageLoader("cluster.reporting", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": printable, "number": _number, "duration": units.duration}
    charts, script = bundle() if page.has_charts else "", _script(page)
    text = environment.get_template(page.template).render(
        data=data,
        payload=Markup(as_script(data)),
        style=Markup(_part("style.css")),
        charts_script=Markup(charts),
        script=Markup(script),
        policy=_policy(*filter(None, (charts, script))),
    )
    return text.encode("utf-8", "replace")


def as_script(value: Any) -> str:
    """Return a value as JSON that can stand in a script element: no text in it can end that element."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    for letter, escaped in ESCAPES.items():
        text = text.replace(letter, escaped)
    return text


def _finite(value: Any) -> Any:
    """Return a value with null for the numbers that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(of) for name, of in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(of) for of in value]
    return value


def _policy(*scripts: str) -> str:
    """Return a content security policy under which a browser runs these scripts and requests nothing.

    Images may come from beside the page: `file:` names them where it is opened from a folder.
    """
    digests = [base64.b64encode(sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'"
    )


def _script(page: Page) -> str:
    parts = "\n".join(map(_part, page.scripts))
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


def _part(name: str) -> str:
    folder = importlib.resources.files("cluster.reporting").joinpath("page")
    return folder.joinpath(name).read_text(encoding="utf-8")


def _number(value: float | None, digits: int = 4) -> str:
    """Return a number as people read it: whole ones with commas, others with a few digits."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{int(value):,}" if value == int(value) or abs(value) >= 1e4 else f"{value:.{digits}g}"

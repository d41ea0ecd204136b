"""URLs in the config of a job: made absolute before work starts, without secrets when recorded.

A config is a dataclass; `cluster.text.options.URL_FIELDS` says which of its fields hold URLs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar, cast

from cluster.storage.urls import absolute_url, expand_home, redact_url
from cluster.text.options import URL_FIELDS

C = TypeVar("C")


def with_absolute_urls(config: C) -> C:
    """Return a config with its local paths absolute: a worker runs in another folder.

    A ~ or ~user that a path begins with is that user's home, which a shell leaves in --output=~/fused.

    Raises:
        ValueError: there is no such user.
    """
    changed = {
        of.name: _changed(getattr(config, of.name), lambda url: absolute_url(expand_home(url)))
        for of in fields(config)  # type: ignore[arg-type]
        if of.name.endswith(URL_FIELDS)
    }
    return replace(config, **changed)  # type: ignore[type-var]


def without_secrets(config: Any) -> dict[str, Any]:
    """Return a config as it is read back from JSON, its URLs without user, password and query."""
    shown = {
        name: _changed(value, redact_url) if name.endswith(URL_FIELDS) else value
        for name, value in asdict(config).items()
    }
    return cast(dict[str, Any], json.loads(json.dumps(shown)))


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """Return a URL, a tuple of URLs or a tuple of (name, URL) with each URL changed."""
    if isinstance(value, tuple):
        return tuple(
            change(item) if isinstance(item, str) else (item[0], change(item[1])) for item in value
        )
    return None if value is None else change(value)

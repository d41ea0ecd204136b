"""Where the fused images of each method are: its listing against the pairs of the index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cluster.archive.matching import IGNORED
from cluster.archive.name_reader import NameReader, as_text
from cluster.archive.naming import NamePattern, of_one_extension
from cluster.evaluating.scoring import Method
from cluster.storage import fused_store, objects, urls

Row = dict[str, Any]


def find_method(name: str, url: str) -> Method:
    """Say what lies at a URL: an output of fuse_archive, its store, or a folder of images."""
    for store in (urls.join_url(url, "fused.zarr"), url):
        if fused_store.read_store_attributes(store) is not None:
            return Method(name, "store", store)
    return Method(name, "images", url)


def find_images(
    methods: list[Method], pairs: pd.DataFrame, patterns: Mapping[str, str], *, limited: bool
) -> tuple[dict[str, dict[str, str]], list[Row]]:
    """Return by pair and method where the fused image is, and a row for each that is not as expected.

    Files that the pair index would leave out, as text beside images, are left out here too.

    Args:
        methods: methods whose images are in stores and folders.
        pairs: rows of the index, with pair_id and set.
        patterns: pattern of a method's file names, by the method's name, where it is not {id}.
        limited: whether the index has more pairs, so that others' images are no surprise.

    Raises:
        ValueError: a pattern is given for a store.
    """
    sets: dict[str, str] = dict(zip(pairs["pair_id"], pairs["set"], strict=True))
    places: dict[str, dict[str, str]] = {name: {} for name in sets}
    problems: list[Row] = []
    for method in methods:
        found, extra = _listed(method, patterns, sets)

        def problem(name: str, reason: str, detail: str, by: str = method.name) -> None:
            row = {"method": by, "pair_id": as_text(name), "set": sets.get(name, "")}
            problems.append(row | {"reason": reason, "detail": as_text(detail)})

        if not limited:
            for name, detail in extra:
                problem(name, "extra", detail)
        for name in sorted(found.keys() | sets.keys()):
            found_urls = [urls.redact_url(url) for url in sorted(found.get(name, []))]
            if name not in sets:
                if not limited:
                    problem(name, "extra", f"{', '.join(found_urls)}: no pair of the index has this name")
            elif not found_urls:
                problem(name, "missing", f"nothing of this name in {urls.redact_url(method.url)}")
            elif len(found_urls) > 1:
                several = f"several files of this name: {', '.join(found_urls)}"
                narrower = of_one_extension(patterns.get(method.name, "{id}"), found_urls)
                advice = f": take one by --fused-pattern '{method.name}={narrower}'" if narrower else ""
                problem(name, "ambiguous", several + advice)
            else:
                places[name][method.name] = found[name][0]
    return places, problems


def _listed(
    method: Method, patterns: Mapping[str, str], sets: Mapping[str, str]
) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """Return the places of a method's images by pair_id, and name and detail of those without one."""
    found: dict[str, list[str]] = {}
    extra: list[tuple[str, str]] = []
    text = patterns.get(method.name, "{id}")
    if method.kind == "store":
        if method.name in patterns:
            raise ValueError(
                f"--fused-pattern names {method.name!r}, which is an output of fuse_archive, expected a "
                "folder of images: leave the pattern out, since an output knows its pair_ids"
            )
        ids = {fused_store.escape_pair_id(name): name for name in sets}
        for path in fused_store.list_fused(method.url):
            found.setdefault(ids.get(path, path), []).append(path)
        return found, extra
    files = objects.list_files(method.url)
    reader = NameReader(NamePattern(text, flag="--fused-pattern"), files)
    for file in files:
        name, reason, detail = reader.read(file.path, file.url)
        if reason in IGNORED:
            continue
        if reason:
            extra.append((name, f"{urls.redact_url(file.url)}: {detail}"))
        else:
            found.setdefault(name, []).append(file.url)
    return found, extra

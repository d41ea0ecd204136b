"""Distributions of each measure over all pairs of an archive, counted by DuckDB and never sampled."""

from __future__ import annotations

from typing import Any

from cluster.reporting.archive_tables import Archive
from cluster.reporting.groups import OTHERS
from cluster.storage.tables import Database, quoted

MIN_BINS, MAX_BINS = 8, 40
"""Fewest and most bins of a histogram; between them twice the root of the number of pairs."""
NUM_QUANTILES = 201
"""Quantiles from the least to the greatest value, by which the page finds a pair's percentile."""
TAIL = 0.001
"""Share of the pairs on either side that the outer bins take in, however far away these lie."""


def distributions(database: Database, archive: Archive) -> dict[str, Any]:
    """Return quantiles, bins and counts of each measure with a finite value, in plain values.

    Returns:
        quantiles: measure -> NUM_QUANTILES values from least to greatest.
        means: measure -> its mean.
        numbers: measure -> the number of pairs with a finite value.
        edges: measure -> the edges of its bins.
        groups: for each group its name, its values and, by measure, the rows [number, mean, counts] of
            each value; the first group is that of all pairs.
    """
    quantiles: dict[str, list[float]] = {}
    means, numbers, edges = {}, {}, {}
    steps = ", ".join(str(step / (NUM_QUANTILES - 1)) for step in range(NUM_QUANTILES))
    for name in archive.measures:
        column = quoted(name)
        number, mean, found, low, high = database.first(
            f"select count(*), avg({column}), quantile_cont({column}, [{steps}]), "
            f"quantile_cont({column}, {TAIL}), quantile_cont({column}, {1 - TAIL}) "
            f"from measured where isfinite({column})"
        )
        if number:
            quantiles[name] = [rounded(value) for value in found]
            means[name], numbers[name] = rounded(mean), number
            edges[name] = _edges(low, high, number)
    measures = list(quantiles)
    groups = [{"name": "", "values": ["all pairs"], "rows": _counts(database, edges, "0", 1)}]
    for index, group in enumerate(archive.groups):
        rows = _counts(database, edges, f"g{index}", len(group.values) + 1)
        values = list(group.values)
        if any(rows[name][-1][0] for name in measures):
            values.append(OTHERS)
        else:
            rows = {name: rows[name][:-1] for name in measures}
        groups.append({"name": group.name, "values": values, "rows": rows})
    return {
        "measures": measures, "quantiles": quantiles, "means": means, "numbers": numbers,
        "edges": edges, "groups": groups,
    }  # fmt: skip


def rounded(value: float | None) -> float:
    """Return a number with six digits, which is more than a page shows."""
    return float(f"{value:.6g}") if value is not None else 0.0


def _edges(low: float, high: float, number: int) -> list[float]:
    num_bins = min(MAX_BINS, max(MIN_BINS, round(2 * number**0.5)))
    if high <= low:
        margin = abs(low) * 0.01 or 0.5
        low, high = low - margin, high + margin
    return [low + (high - low) * step / num_bins for step in range(num_bins + 1)]


def _counts(
    database: Database, edges: dict[str, list[float]], code: str, num_values: int
) -> dict[str, list[list[Any]]]:
    """Return, by measure, [number, mean, counts of the bins] of each value of a group."""
    found: dict[str, list[list[Any]]] = {}
    for name, limits in edges.items():
        column, low = quoted(name), limits[0]
        num_bins = len(limits) - 1
        width = (limits[-1] - low) / num_bins
        place = f"greatest(0, least({num_bins - 1}, floor(({column} - {low!r}) / {width!r})))::int"
        counted = database.frame(
            f"select {code} as value, {place} as bin, count(*) as number, sum({column}) as total "
            f"from measured where isfinite({column}) group by all"
        )
        rows: list[list[Any]] = [[0, 0.0, [0] * num_bins] for _ in range(num_values)]
        for value, place_of, number, total in counted.itertuples(index=False):
            row = rows[int(value)]
            row[0] += int(number)
            row[1] += float(total)
            row[2][int(place_of)] = int(number)
        for row in rows:
            row[1] = rounded(row[1] / row[0]) if row[0] else None
        found[name] = rows
    return found

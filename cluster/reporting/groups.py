"""Ways to part the pairs of an archive: by folder, run, size, or a column that the pair index carried.

A group has at most NUM_VALUES values; what is left is counted together as OTHERS. Times are parted by
day, and numbers of many values at their quartiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.storage.tables import Database, quoted

NUM_VALUES = 8
"""Most values of a group that have a name."""
MAX_GROUPS = 12
MANY = 24
"""Number of distinct values from which numbers are parted at their quartiles."""
OTHERS = "others"
WHOLE_NUMBERS = frozenset(
    f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE")
) | {"INTEGER", "UINTEGER"}
NUMBERS = WHOLE_NUMBERS | {"FLOAT", "DOUBLE"}
FOLDER = "regexp_extract(s.pair_id, '^(.*)/[^/]*$', 1)"
"""SQL of the folder that a pair_id lies in, empty where it names none."""


@dataclass(frozen=True)
class Group:
    """One way to part the pairs."""

    name: str
    """What people read."""
    values: tuple[str, ...]
    """Values in the order of their numbers."""
    label: str
    """SQL of a row's value, where `s` is the metrics and `l` the table `latest`."""

    def code(self, parameter: str) -> str:
        """Return SQL for the place of a row's value among `values`, and their number for any other.

        Args:
            parameter: name of the statement's value that is the list of `values`.
        """
        place = f"list_position(${parameter}::varchar[], coalesce({self.label}, ''))"
        return f"coalesce(nullif({place}, 0) - 1, {len(self.values)})::utinyint"


def find_groups(database: Database, carried: dict[str, str]) -> tuple[Group, ...]:
    """Return the groups in which an archive has more than one value.

    Args:
        database: holds the view `stored` and the table `latest`.
        carried: columns that the index carried, with their SQL types.
    """
    candidates = [("folder of pair_id", FOLDER, False)]
    for name, kind in carried.items():
        found = _of_column(database, name, kind)
        if found:
            candidates.append(found)
    size = "concat(s.height, ' x ', s.width, ' px')"
    candidates += [("run", "l.run_id", True), ("size", size, False)]
    if "grid" in database.columns("from stored"):
        candidates.append(("grid", "s.grid", False))
    groups: list[Group] = []
    for name, label, is_ordered in candidates:
        values = _values(database, label, latest=is_ordered)
        if values and len(groups) < MAX_GROUPS:
            groups.append(Group(name, values, label))
    return tuple(groups)


def _of_column(database: Database, name: str, kind: str) -> tuple[str, str, bool] | None:
    """Return name, SQL of the label, and whether the labels have an order, of a carried column."""
    column = f"s.{quoted(name)}"
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return name, f"({column})::date::varchar", True
    if kind not in NUMBERS | {"VARCHAR", "BOOLEAN"} and not kind.startswith("DECIMAL"):
        return None
    num_values, num_rows, num_times = database.first(
        f"select approx_count_distinct({column}), count({column}), "
        f"count(try_cast({column}::varchar as timestamp)) from stored s"
    )
    if kind == "VARCHAR":
        if num_rows and num_times == num_rows:
            return name, f"try_cast({column} as timestamp)::date::varchar", True
        if num_values > MANY and num_values > num_rows / 2:
            return None  # a name of its own for each pair
        return name, column, False
    if kind == "BOOLEAN" or num_values <= MANY:
        return name, f"({column})::varchar", False
    limits = database.first(f"select quantile_cont({column}, [0.25, 0.5, 0.75]) from stored s")[0]
    first, middle, last = (f"{float(limit):.4g}" for limit in limits)
    return (
        name,
        (
            f"case when {column} <= {limits[0]} then '1: up to {first}' "
            f"when {column} <= {limits[1]} then '2: {first} to {middle}' "
            f"when {column} <= {limits[2]} then '3: {middle} to {last}' "
            f"when {column} is not null then '4: above {last}' end"
        ),
        False,
    )


def _values(database: Database, label: str, *, latest: bool) -> tuple[str, ...]:
    """Return the values that are shown of a label; none where all pairs have one and the same."""
    order = "label desc" if latest else "number desc, label"
    rows = database.frame(
        f"select coalesce({label}, '') as label, count(*) as number from stored s "
        "left join latest l using (pair_id) "
        f"group by 1 order by {order} limit {NUM_VALUES + 1}"
    )
    if len(rows) < 2:
        return ()
    kept = [str(value) for value in rows["label"][:NUM_VALUES]]
    return tuple(sorted(kept))

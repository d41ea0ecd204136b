"""What is left to do of surveyed scenes: windows to fuse, windows to score, scenes to finish.

A scene's row in the ledger, of window 0, says `surveyed` from the survey on until the scene is finished.
Its windows have rows of their own, numbered from 1 on row by row, which count where they are later than
the survey: `fused`, then `scored`; or `rejected`, which ends the scene.
"""

from __future__ import annotations

from cluster.fusing.ledger import HAS_LEDGER_ROW
from cluster.fusing.plan import RETRIED
from cluster.fusing.steps.rows import RANGES
from cluster.storage.tables import Database

SURVEYED = (
    "zarr_path", "bands", "dtype", "num_windows", "grid", "source_version", "survey_digest",
    "source_note", *RANGES,
)  # fmt: skip
"""Columns of a survey's row that the rows of the scene's windows have too; `scene_height` and
`scene_width`, which they have beside their own height and width, are those of the scene."""


def find_windows(database: Database) -> None:
    """Make the tables of the scenes of `todo` whose survey holds, from those of `Ledger.load`.

    `surveyed` has __row, recorded_at, scene_height, scene_width and SURVEYED of every such scene, and
    `windows` has its windows that have a row: __row, window, status, reason, detail, and what the
    finished scene sums up of them.

    Args:
        database: holds the tables that `Ledger.load` and `make_plan` leave.
    """
    columns = ", ".join(f"l.{name}" for name in SURVEYED)
    database.run(
        "create or replace table surveyed as select __row, l.recorded_at, l.height as scene_height, "
        f"l.width as scene_width, {columns} from surveyed join pairs p using (__row) "
        f"join latest r on r.pair_id = p.pair_id join ledger l on {HAS_LEDGER_ROW.format('r')}"
    )
    database.run(
        'create or replace table windows as select __row, l."window", l.status, l.reason, l.detail, '
        "l.height * l.width as num_pixels, l.valid_share, l.read_bytes, l.written_bytes, l.seconds "
        "from ledger l join pairs p using (pair_id) join surveyed s using (__row) "
        'where l."window" > 0 and l.recorded_at > s.recorded_at '
        'qualify row_number() over (partition by __row, l."window" order by l.recorded_at desc) = 1'
    )


def windows_to_fuse(*, retry: bool = False) -> str:
    """Return the query for the windows that have no row yet.

    Args:
        retry: whether it gives those instead whose failure may pass: see RETRIED.
    """
    every = 'select *, unnest(range(1, num_windows + 1)) as "window" from surveyed'
    if retry:
        failed = f"from windows where reason in {RETRIED}"
        return f'from ({every}) semi join ({failed}) using (__row, "window")'
    return f'from ({every}) anti join windows using (__row, "window")'


def windows_to_score() -> str:
    """Return the query for the windows to score: those that are fused, of scenes without any other left.

    Beside the columns of `surveyed` it has what the window's row sums up to.
    """
    whole = (
        "select __row from windows w join surveyed s using (__row) group by __row "
        "having count(*) = max(s.num_windows) and bool_and(w.status != 'rejected')"
    )
    return (
        'select s.*, w."window", w.valid_share, w.read_bytes, w.written_bytes, w.seconds from surveyed s '
        f"join windows w using (__row) where w.status = 'fused' and __row in ({whole})"
    )


def scenes_to_finish() -> str:
    """Return the query for the scenes whose windows are all scored, or of which one is rejected.

    It has the columns of `surveyed`, the reason and the detail of a rejected window, empty where there is
    none, and of all windows the valid share, the bytes and the seconds.
    """
    sums = (
        "select __row, count(*) as number, count(*) filter (status = 'scored') as num_scored, "
        "coalesce(arg_min(reason, \"window\") filter (status = 'rejected'), '') as reason, "
        "coalesce(arg_min('window ' || \"window\" || ': ' || detail, \"window\") "
        "filter (status = 'rejected'), '') as detail, "
        "sum(valid_share * num_pixels) / greatest(sum(num_pixels), 1) as valid_share, "
        "sum(read_bytes)::bigint as read_bytes, sum(written_bytes)::bigint as written_bytes, "
        "sum(seconds) as seconds from windows group by __row"
    )
    return (
        'select s.*, 0::bigint as "window", t.* exclude (__row, number, num_scored) '
        f"from surveyed s join ({sums}) t using (__row) "
        "where t.num_scored = s.num_windows or (t.reason != '' and t.number = s.num_windows)"
    )

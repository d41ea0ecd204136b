"""The main job: index, plan, three steps on Ray Data, ledger, tables.

    open_index, Ledger.load -> make_plan -> read_window -> FuseWindows -> write_window -> Ledger.append
                                                       -> write_tables -> write_items -> write_record

Scenes, which are larger than a window, are surveyed on this way, and then go on by windows: see
`_Run.fuse` and scenes.py. All of it under the lease on the output, which one run holds at a time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cluster.archive.pair_index import open_index
from cluster.archive.sources import radiometric
from cluster.fusing import report, scenes
from cluster.fusing.config import FuseConfig
from cluster.fusing.estimate import describe_actor_memory, estimate
from cluster.fusing.items import write_items
from cluster.fusing.lease import Lease, LeaseLost
from cluster.fusing.ledger import Ledger
from cluster.fusing.output import Output
from cluster.fusing.plan import Plan, check_fingerprint, make_fingerprint, make_plan, mark_lost
from cluster.fusing.preview import write_preview
from cluster.fusing.results import metric_means, write_record, write_tables
from cluster.fusing.steps.rows import delete_sums
from cluster.fusing.summary import Summary, judge, summarise
from cluster.runtime.address import check_cluster
from cluster.storage import fused_store, objects, urls
from cluster.storage.config_urls import with_absolute_urls
from cluster.storage.scene_store import survey_url
from cluster.storage.stac_table import table_url
from cluster.storage.tables import Database
from cluster.text.plain_text import one_line
from cluster.text.progress import Progress
from cluster.text.run_log import RunLog
from dmnet_core import __version__
from dmnet_core.checkpoint import Checkpoint, load_checkpoint
from dmnet_core.scene import check_window
from dmnet_core.survey import halo_of

if TYPE_CHECKING:
    from cluster.runtime.telemetry import RunMetrics

CONFIRMED_AT_ONCE = 10_000
"""Number of pairs with unchanged bytes whose rows are put together."""
LOOKED_AT = 8
"""Number of infrared JPEGs that are read before a run to see whether they are radiometric."""
REJECTED_FIELDS = ("pair_id", "reason", "detail")
FUSING = ("pairs", "windows")
"""Stages of a run in which pixels are fused."""
NEW_PAIRS = 'select __row, 0::bigint as "window" from todo anti join surveyed using (__row)'
"""Query for the pairs that no run has looked at with the present settings."""
Steps = Callable[[str], Generator[list[dict[str, Any]], None, None]]


def fuse_archive(
    config: FuseConfig, write_report: Callable[[str, RunLog], None] | None = None
) -> Summary:
    """Fuse every pair of an archive that is not done yet, and write every output.

    Args:
        config: what to fuse, and how.
        write_report: called with the output's URL once the run's record is there and its lease and
            database are given back; None for no report. Runs that write no tables don't call it.

    Raises:
        LeaseHeld: another run writes the output; nothing was done.
        ValueError, OSError: an input, a setting or a URL is wrong, or storage fails; one line. The
            same command goes on from where the ledger stands.
    """
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    log = RunLog(run_id, as_json=config.log_format == "json")
    try:
        with Database() as database:
            run = _Run(with_absolute_urls(config), log, database)
            summary = _fuse_archive(run)
        if not config.dry_run:
            if write_report and not config.partition:
                write_report(run.output.url, log)
            run.say_summary(summary)  # the last that is said of a run
        return summary
    except (Exception, KeyboardInterrupt) as error:
        log.say("failed", error=one_line(error) or type(error).__name__)  # people read it from the job
        raise


def _fuse_archive(run: _Run) -> Summary:
    config, output, database = run.config, run.output, run.database
    run.open_index()
    if config.dry_run:
        return summarise(database, run.plan())
    run.check_cluster()
    with Lease(output.url, run.log, config.partition, wait=config.wait) as lease:
        if lease.waited:  # there may be other pairs by now
            run.open_index()
        plan = run.plan()
        lease.check()
        run.mark_store()
        try:
            if plan.num_to_compare:
                plan = run.compare(plan, lease)
            run.ledger.mark(database, "to_revoke", "replacing")
            if config.prune:
                run.prune(lease)
            if plan.num_todo:
                run.fuse(plan, lease)
            lease.check()
            if run.has_new_pixels or (config.prune and plan.num_gone):
                plan = run.plan_again()
            summary = judge(database, summarise(database, plan), plan, config.max_rejected)
            run.write_results()
            run.record(summary, "finished")
        except urls.StorageError:
            raise  # there is nowhere to leave a record
        except BaseException as error:
            with suppress(OSError, ValueError):  # the first error counts
                reason = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                run.record(summarise(database, run.plan_again()), reason)
            raise
    run.means = metric_means(database)
    return summary


class _Run:
    """One submission: what it was told, and the steps that it goes through."""

    def __init__(self, config: FuseConfig, log: RunLog, database: Database) -> None:
        """Check what can be checked before anything is read."""
        self.start = time.monotonic()
        _ = config.reading  # its ranges are checked
        self.config = config
        self.log = log
        self.database = database
        self.output = Output(config.output_url)
        self.checkpoint = _load_checkpoint(config)
        check_window(self.checkpoint.model.config, config.window)
        self.fingerprint = make_fingerprint(self.checkpoint, config)
        self.ledger = Ledger(self.output.ledger, log.run_id)
        self.has_new_pixels = False
        self.means: dict[str, float] = {}
        """Mean of each metric over all fused pairs, at the end of the run."""
        self.num_surveyed = 0
        """Number of scenes that this run has surveyed."""
        self.did = {"fused": 0, "rejected": 0, "megapixels": 0.0}
        """What this run itself has done: pairs fused and rejected, and megapixels of the fused ones."""

    def open_index(self) -> None:
        """Read the index, or list the prefixes, as they are now."""
        config = self.config
        left_out = open_index(
            self.database, config.index_url, config.ir_url, config.vis_url, config.partition,
            config.output_url, (config.ir_bands or "", config.vis_bands or ""),
        )  # fmt: skip
        if left_out:
            text = f"{left_out} files left out as no images of the archive; index_archive.py lists them"
            self.log.say("left_out", text, files=left_out)

    def check_cluster(self) -> None:
        """Raise ValueError where there are pairs to fuse and RAY_ADDRESS names no cluster that answers.

        Before the lease is taken, so that nothing is written. The plan that counts is made under the
        lease; this one is made only where no cluster answers, since a run with nothing to do needs none.
        """
        try:
            check_cluster()
        except ValueError:
            if self.plan_again().num_todo:
                raise

    def plan(self) -> Plan:
        """Return what is left to do, and say it.

        Raises:
            ValueError: the output was made with other settings, and may not be reprocessed.
        """
        config, database = self.config, self.database
        self.ledger.load(database, config.partition)
        if not config.reprocess:
            stored = fused_store.read_store_attributes(self.output.store)
            check_fingerprint(database, stored, self.fingerprint, config.output_url)
        if config.verify:
            complete, lost = mark_lost(database, self.output.store)
            text = f"{complete} whole arrays in the store; {lost} that the ledger holds are not there"
            self.log.say("verified", text, whole=complete, lost=lost)
        plan = self._subtract()
        memory = describe_actor_memory(self.checkpoint.model, config)
        pictures = "" if config.temperatures else self._radiometric_pictures()
        cost = None
        if config.dry_run and plan.num_todo:
            cost = estimate(database, config, self.checkpoint.model)
        report.say_plan(
            self.log, plan, prune=config.prune, memory=memory, pictures=pictures, cost=cost
        )
        if not plan.num_todo and not config.dry_run:
            text = "nothing left to do: every pair is in the ledger with these settings"
            if config.partition and not plan.num_index:
                text = "nothing to do: this partition holds no pair of the index"
            self.log.say("nothing_to_do", text)
        return plan

    def plan_again(self) -> Plan:
        """Return how things stand by now, and say nothing."""
        self.ledger.load(self.database, self.config.partition)
        return self._subtract()

    def compare(self, plan: Plan, lease: Lease) -> Plan:
        """Take pairs out of the plan whose files were only copied or touched; return what is left."""
        from cluster.fusing import stream
        from cluster.runtime.session import ray_session

        same: list[str] = []
        num_same = 0
        with ray_session(0), closing(
            stream.compared(self.database, self.output, self.log.run_id)
        ) as batches:
            for rows in batches:
                same += [row["pair_id"] for row in rows if row["same"]]
                if len(same) >= CONFIRMED_AT_ONCE:
                    lease.check()
                    self.ledger.confirm(self.database, same)
                    num_same, same = num_same + len(same), []
        lease.check()
        self.ledger.confirm(self.database, same)
        num_same += len(same)
        left = self.plan_again()
        text = (
            f"{num_same} of {plan.num_to_compare} pairs with other etags have the same bytes as before; "
            f"{left.num_todo} pairs to fuse"
        )
        self.log.say("compared", text, same=num_same, to_fuse=left.num_todo)
        return left

    def mark_store(self) -> None:
        """Write on the store's root what its pixels are made with, where it does not say so yet."""
        attributes = {
            "fingerprint": self.fingerprint.fields,
            "model_card": self.checkpoint.card,
            "software": f"dmnet-archive {__version__}",
        }
        if fused_store.read_store_attributes(self.output.store) != attributes:
            fused_store.create_store(self.output.store, attributes)

    def prune(self, lease: Lease) -> None:
        """Remove the pixels of pairs that left the index."""
        self.ledger.mark(self.database, "gone", "pruning")
        for rows in self.database.batches("select zarr_path from gone"):
            for row in rows:
                lease.check()
                fused_store.delete_fused(self.output.store, row["zarr_path"])
                objects.delete(survey_url(self.output.statistics, row["zarr_path"]))
                delete_sums(self.output.statistics, row["zarr_path"])
        lease.check()
        self.ledger.mark(self.database, "gone", "pruned")

    def fuse(self, plan: Plan, lease: Lease) -> None:
        """Send the pairs to do through their steps, stage by stage, and their rows into the ledger."""
        # Here, so that a run with nothing to do is done before Ray would be imported.
        from cluster.fusing import stream
        from cluster.runtime.session import ray_session
        from cluster.runtime.telemetry import RunMetrics

        config, database = self.config, self.database
        stream.create_groups(database, self.output.store)
        self.has_new_pixels = True
        with ray_session(stream.actor_cpus(config) * config.num_actors) as cpus:
            stages = stream.Stages(
                database, config, self.output, self.log.run_id, self.fingerprint,
                halo_of(self.checkpoint.model.config), cpus,
            )  # fmt: skip
            shown = RunMetrics(self.log.run_id, config.num_actors)
            self._stage("pairs", NEW_PAIRS, stages.fused, lease, shown)
            if not (self.num_surveyed or plan.num_surveyed):
                return
            for name, query, steps in (
                ("windows", scenes.windows_to_fuse(), stages.fused),
                ("windows", scenes.windows_to_fuse(retry=True), stages.fused),
                ("windows to score", scenes.windows_to_score(), stages.scored),
                ("scenes", scenes.scenes_to_finish(), stages.finished),
            ):
                self.plan_again()
                scenes.find_windows(database)
                self._stage(name, query, steps, lease, shown)

    def _stage(
        self, name: str, query: str, steps: Steps, lease: Lease, shown: RunMetrics
    ) -> None:
        """Send the rows of a query through their steps, and what comes back into the ledger."""
        ledger = self.ledger
        (number,) = self.database.first(f"select count(*) from ({query})")
        if not number:
            return
        shown.begin(number, fuses=name in FUSING)
        with Progress(number, name, self.log) as progress, closing(steps(query)) as batches:
            try:
                for rows in batches:
                    lease.check()
                    lag_s = ledger.lag_s
                    ledger.append(rows)
                    self.num_surveyed += sum(row["status"] == "surveyed" for row in rows)
                    self.count(rows)
                    self.say_rejected(rows)
                    shown.add(rows, lag_s)
                    progress.add(
                        len(rows),
                        pixels=sum(r["height"] * r["width"] for r in rows if r["status"] != "surveyed"),
                        rejected=sum(row["status"] == "rejected" for row in rows),
                    )
            except LeaseLost:
                ledger.forget()
                raise
            finally:
                ledger.flush()

    def count(self, rows: list[dict[str, Any]]) -> None:
        """Count the pairs that are done with these ledger rows."""
        for row in rows:
            if row["window"] == 0 and row["status"] in ("fused", "rejected"):
                self.did[row["status"]] += 1
                if row["status"] == "fused":
                    self.did["megapixels"] += row["height"] * row["width"] / 1e6

    def say_rejected(self, rows: list[dict[str, Any]]) -> None:
        """Say, for machines that read the log, which pairs were rejected and why."""
        for row in rows:
            if row["status"] == "rejected" and not row["window"]:
                self.log.say("rejected", **{name: row[name] for name in REJECTED_FIELDS})

    def write_results(self) -> None:
        """Write tables, items and preview; runs over partitions leave that to one over everything."""
        if self.config.partition:
            return
        write_tables(self.database, self.output)
        write_items(self.database, self.output, self.log)
        if self.has_new_pixels or not objects.exists(self.output.preview):
            write_preview(self.database, self.output, self.config)

    def record(self, summary: Summary, exit_reason: str) -> None:
        """Write the run's record."""
        seconds = time.monotonic() - self.start
        write_record(
            self.output, self.log.run_id, self.config, self.fingerprint, summary, self.did,
            exit_reason, seconds,
        )  # fmt: skip

    def say_summary(self, summary: Summary) -> None:
        """Say how the run ended and where its results are."""
        written = {"fused": self.output.store} if self.config.partition else self.output.urls()
        made_of = {"preview": self.output.preview, "stac": table_url(self.output.stac)}
        for name, url in made_of.items():  # there is no preview without a fused pair
            if name in written and not objects.exists(url):
                del written[name]
        seconds = time.monotonic() - self.start
        report.say_summary(self.log, summary, self.means, written, seconds)

    def _radiometric_pictures(self) -> str:
        """Return in words how many of a few infrared JPEGs are pictures of radiometric files."""
        files = self.database.frame(
            "select ir_url from pairs semi join todo using (__row) "
            "where regexp_matches(ir_url, '\\.(jpg|jpeg|rjpg)$', 'i') order by hash(pair_id) limit $most",
            most=LOOKED_AT,
        )["ir_url"]
        found = radiometric.count_pictures(files)
        return f"{found} of {len(files)} infrared JPEGs looked at" if found else ""

    def _subtract(self) -> Plan:
        config, digest = self.config, self.fingerprint.digest
        return make_plan(self.database, digest, config.limit, retry_rejected=config.reprocess)


def _load_checkpoint(config: FuseConfig) -> Checkpoint:
    if config.checkpoint_url is None:
        return load_checkpoint(preset=config.preset)
    name = urls.redact_url(config.checkpoint_url)
    try:
        data = objects.read_bytes(config.checkpoint_url)
    except FileNotFoundError as error:
        raise ValueError(
            f"--checkpoint {name!r} is not there, expected a .safetensors file: check the URL, or leave "
            "it out for the weights of --preset"
        ) from error
    try:
        return load_checkpoint(data)
    except ValueError as error:
        raise ValueError(f"--checkpoint {name!r}: {error}") from error

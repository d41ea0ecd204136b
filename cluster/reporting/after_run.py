"""The report at the end of a run, which never makes the run fail."""

from __future__ import annotations

from cluster.reporting.config import ReportConfig
from cluster.storage import urls
from cluster.text.plain_text import one_line, printable
from cluster.text.run_log import RunLog


def report_after_run(output_url: str, log: RunLog) -> None:
    """Write the report, and say where it is, or why there is none.

    Args:
        output_url: URL of the output of the run.
        log: log of the run.
    """
    try:
        # Here, since what it imports may be absent or broken too.
        from cluster.reporting.job import write_report

        written = write_report(ReportConfig(output_url=output_url), log)
    except Exception as error:
        said = one_line(error) or type(error).__name__
        log.say("no_report", f"  no report: {said}; jobs/report.py tries again", error=said)
        return
    shown = urls.redact_url(written.url)
    log.say(
        "report", f"  report  {printable(shown)}", url=shown, pairs=written.num_pairs,
        shown=written.num_shown, pictures=written.num_pictures, bytes=written.num_bytes,
        seconds=round(written.table_s + written.picture_s, 3),
    )  # fmt: skip

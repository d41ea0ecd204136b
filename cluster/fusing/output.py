"""Where each part of an output lies below --output."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.storage import urls
from cluster.storage.scene_store import STATISTICS


@dataclass(frozen=True)
class Output:
    """The URLs below --output."""

    url: str

    @property
    def store(self) -> str:
        """Zarr store of the fused images."""
        return urls.join_url(self.url, "fused.zarr")

    @property
    def ledger(self) -> str:
        """Folder of the ledger's parts."""
        return urls.join_url(self.url, "ledger")

    @property
    def statistics(self) -> str:
        """Folder of what is frozen of each scene, and of the sums for its metrics."""
        return urls.join_url(self.url, STATISTICS)

    @property
    def metrics(self) -> str:
        """Folder of the metrics table."""
        return urls.join_url(self.url, "metrics.parquet")

    @property
    def rejected(self) -> str:
        """Folder of the table of rejects."""
        return urls.join_url(self.url, "rejected.parquet")

    @property
    def runs(self) -> str:
        """Folder of the run records."""
        return urls.join_url(self.url, "runs")

    def record(self, run_id: str) -> str:
        """Record of one run."""
        return urls.join_url(self.runs, f"{run_id}.json")

    def todo(self, run_id: str) -> str:
        """Beginning of the URLs of the pairs that a run has to fuse; they are removed when it ends."""
        return urls.join_url(self.runs, f"{run_id}.todo")

    @property
    def preview(self) -> str:
        """Picture of a few pairs."""
        return urls.join_url(self.url, "preview.png")

    @property
    def stac(self) -> str:
        """Folder of the STAC items of the pairs that lie on the earth."""
        return urls.join_url(self.url, "stac")

    def urls(self) -> dict[str, str]:
        """Return what a user opens."""
        return {
            "fused": self.store,
            "metrics": self.metrics,
            "rejected": self.rejected,
            "preview": self.preview,
            "stac": self.stac,
        }

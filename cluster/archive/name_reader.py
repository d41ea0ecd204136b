"""What the path of a listed file says: whether it is an image, and of which pair.

The pair index and the evaluation read their listings by it alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.archive.naming import IMAGE_EXTENSIONS, NamePattern, split_extension
from cluster.storage.objects import FileInfo

LITTER_FILES = frozenset(
    "readme license licence copying notice authors contributors changelog citation makefile dockerfile "
    "manifest checksums md5sums sha1sums sha256sums _success icon\r".split(" ")
)
"""Names without extension, in small letters, of files that lie beside images and are none."""
LITTER_FOLDERS = frozenset(
    ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX",
     "__pycache__")
)  # fmt: skip
"""Folders in which systems and tools keep copies of their own."""
STORE = "fused.zarr"
"""Folder by which an output of fuse_archive is known."""
UNFIT = "the name does not fit the pattern"
"""Beginning of the detail of a name without a pair_id."""
OUTPUT_PARTS = frozenset(
    (STORE, "ledger", "lease", "metrics.parquet", "rejected.parquet", "report", "runs", "preview.png")
)
"""Files and folders of an output of fuse_archive."""


class NameReader:
    """Says of each file of a listing which pair it belongs to, or why it belongs to none."""

    def __init__(
        self,
        pattern: NamePattern,
        files: Iterable[FileInfo],
        *,
        order: Sequence[str] = (),
        output: str | None = None,
    ) -> None:
        """Look through a listing for outputs.

        Args:
            pattern: how the paths spell pair_ids.
            files: the listing.
            order: order of the pattern's names in a pair_id; that of the pattern where none is given.
            output: path of the run's own output below the listed folder; empty where it is that folder,
                None where it is elsewhere.
        """
        self.pattern = pattern
        self.order = tuple(order) or pattern.names
        self.own_output = f"{output}/" if output else None
        self.folder, self.folder_is = "", ""
        """The folder last looked at, since a listing has its files together, and what is said of it."""
        self.outputs = {""} if output == "" else set()
        for file in files:
            if STORE in file.path:
                before, store, _ = f"/{file.path}".partition(f"/{STORE}/")
                if store:
                    self.outputs.add(before[1:])

    def read(self, file: FileInfo) -> tuple[str, str, str]:
        """Read the name of a file.

        Returns:
            The pair_id, and why the file belongs to no pair: reason and detail, both empty where it may
            belong to one. With a reason the pair_id is the path without extension.
        """
        stem, dot, extension = split_extension(file.path)
        kind = extension.lower()
        if why := self._why_no_image(file.path, kind if dot else None):
            return stem, "not_image", why
        if not _is_text(file.url):
            return stem, "bad_name", "the file's name is not UTF-8: rename it"
        pattern = self.pattern
        if pattern.extension and kind != pattern.extension:
            detail = f"the pattern {pattern.text!r} leaves this extension out"
            return stem, "other_extension", detail
        found = pattern.spelled.fullmatch(stem)
        if found is None:
            return stem, "missing_partner", f"{UNFIT} {pattern.text!r}"
        if len(self.order) == 1:
            return found[1], "", ""
        return "/".join(found.group(*self.order)), "", ""

    def _why_no_image(self, path: str, extension: str | None) -> str:
        """Return why a file is no image of the archive, or an empty text."""
        if path[0] == "." or "/." in path:
            return "a file or folder whose name begins with a dot"
        folders, _, name = path.rpartition("/")
        if extension is None and name.lower() in LITTER_FILES:
            return f"a file named {name!r}"
        if extension is not None and extension not in IMAGE_EXTENSIONS:
            return f"the extension {'.' + extension!r} is not read"
        if folders != self.folder:
            self.folder, self.folder_is = folders, _why_no_images_in(folders)
        if self.folder_is:
            return self.folder_is
        if self.own_output and path.startswith(self.own_output):
            return "below the --output of this run"
        segments = path.split("/") if self.outputs else []
        for depth, segment in enumerate(segments):
            if segment in OUTPUT_PARTS and "/".join(segments[:depth]) in self.outputs:
                return "in an output of fuse_archive"
        return ""


def _why_no_images_in(folder: str) -> str:
    """Return why no file in a folder is an image of the archive, or an empty text."""
    names = folder.split("/")
    if any(name.endswith(".zarr") for name in names):
        return "in a Zarr store"
    litter = [name for name in names if name in LITTER_FOLDERS]
    return f"in a folder named {litter[0]!r}" if litter else ""


def as_text(text: str) -> str:
    """Return a text with an escape for each byte of it that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

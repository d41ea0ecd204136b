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
HIDDEN = "a file or folder whose name begins with a dot"
IN_OUTPUT = "in an output of fuse_archive"
OUTPUT_PARTS = frozenset(
    (
        *(STORE, "ledger", "lease", "metrics.parquet", "rejected.parquet", "report", "runs"),
        *("preview.png", "stac", "statistics"),
    )
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
        self.own_output = output or None
        self.folder, self.folder_is = "", ""
        """The folder last looked at, since a listing has its files together, and what is said of it."""
        self.outputs = {""} if output == "" else set()
        """Folders that hold an output."""
        for file in files:
            if STORE in file.path:
                before, store, _ = f"/{file.path}".partition(f"/{STORE}/")
                if store:
                    self.outputs.add(before[1:])

    def read(self, path: str, url: str) -> tuple[str, str, str]:
        """Read the name of a file, given by its path below the listed folder and its URL.

        Returns:
            The pair_id, and why the file belongs to no pair: reason and detail, both empty where it may
            belong to one. With a reason the pair_id is the path without extension.
        """
        stem, dot, extension = split_extension(path)
        kind = extension.lower()
        if why := self._why_no_image(path, kind if dot else None):
            return stem, "not_image", why
        if not (url.isascii() or _is_text(url)):
            return stem, "bad_name", "the file's name is not UTF-8: rename it"
        pattern = self.pattern
        if pattern.extension and kind != pattern.extension:
            detail = f"the pattern {pattern.text!r} leaves this extension out"
            return stem, "other_extension", detail
        found = pattern.spelled.fullmatch(stem)
        if found is None:
            return stem, "missing_partner", f"{UNFIT} {pattern.text!r}"
        parts = found.groups()
        return parts[0] if len(parts) == 1 else "/".join(found.group(*self.order)), "", ""

    def _why_no_image(self, path: str, extension: str | None) -> str:
        """Return why a file is no image of the archive, or an empty text."""
        folder, _, name = path.rpartition("/")
        if folder != self.folder:
            self.folder, self.folder_is = folder, self._why_no_images_in(folder)
        if name[0] == ".":
            return HIDDEN
        if extension is None:
            if name.lower() in LITTER_FILES:
                return f"a file named {name!r}"
        elif extension not in IMAGE_EXTENSIONS:
            return f"the extension {'.' + extension!r} is not read"
        if self.folder_is:
            return self.folder_is
        if name in OUTPUT_PARTS and folder in self.outputs:
            return IN_OUTPUT
        return ""

    def _why_no_images_in(self, folder: str) -> str:
        """Return why no file in a folder is an image of the archive, or an empty text."""
        names = folder.split("/")
        for depth, name in enumerate(names):
            if name.startswith("."):
                return HIDDEN
            if name in LITTER_FOLDERS:
                return f"in a folder named {name!r}"
            if name.endswith(".zarr"):
                return "in a Zarr store"
            above = "/".join(names[:depth])
            if name in OUTPUT_PARTS and above in self.outputs:
                return IN_OUTPUT
            if self.own_output == (f"{above}/{name}" if above else name):
                return "below the --output of this run"
        return ""


def as_text(text: str) -> str:
    """Return a text with an escape for each byte of it that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

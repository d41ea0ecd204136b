"""Files and names that an archive should not hold and one day does, each with its expected row.

    python -m tests.e2e.hostile

puts all of them into one archive, indexes and fuses it, and prints what became of each as the table
of docs/reliability.md. Everything is generated; test_hostile.py checks the same run.
"""

import json
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from tests.e2e.archives import png, read_metrics, read_rejected, run_job
from tests.e2e.hostile_files import (
    COUNTS,
    DEEP,
    FLOATS,
    GREY,
    IR,
    JUNK,
    VIS,
    animation,
    counts_png,
    deep_colour_png,
    encode,
    few_strips,
    giant_png,
    half_png,
    jpeg,
    orientation,
    png_file,
    shown,
    tiff,
    with_holes,
    wrong_checksum,
)
from tests.e2e.shared_ray import SharedRay


class Case(NamedTuple):
    what: str
    """What it is, for the table."""
    pair_id: str
    """Of its row."""
    expected: str
    """fused, or the reason of its row in rejected.parquet."""
    write: Callable[[Path, str], object]
    """Writes its files below the archive."""
    pixels: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None
    """Of a fused one: what a right reader has of its infrared and visible file."""
    index_row: bool = False
    """Whether no file can have this name, so that the index gives it to the pair."""


class Run(NamedTuple):
    folder: Path
    index: object
    fuse: object
    metrics: pd.DataFrame
    rejected: pd.DataFrame


# How the cases are made


CASES: dict[str, Case] = {}


def put(archive, side, name, data):
    path = archive / side / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def add_pair(slug, what, expected, ir, vis, pixels=None, *, ext="png"):
    """Add a case of two files; ir and vis return their bytes."""

    def write(archive, pair_id):
        put(archive, "ir", f"{pair_id}.{ext}", ir())
        put(archive, "vis", f"{pair_id}.{ext}", vis())

    CASES[slug] = Case(what, f"content/{slug}", expected, write, pixels)


def add_vis(slug, what, expected, make, pixels=None, **options):
    """Add a case whose visible file is hostile; pixels returns what is in it."""
    both = None if pixels is None else lambda: (IR, pixels())
    add_pair(slug, what, expected, lambda: png(IR), make, both, **options)


def add_ir(slug, what, expected, make, pixels=None, **options):
    """Add a case whose infrared file is hostile."""
    both = None if pixels is None else lambda: (pixels(), VIS)
    add_pair(slug, what, expected, make, lambda: png(VIS), both, **options)


def add_size(slug, what, expected, ir_shape, vis_shape):
    def make(shape):
        return png(np.full(shape, 90, np.uint8))

    add_pair(slug, what, expected, lambda: make(ir_shape), lambda: make(vis_shape))


def name_pixels(pair_id):
    """Return a pair's pixels that are its own, so that one name in another's place shows."""
    step = zlib.crc32(pair_id.encode()) % 61 + 1
    return np.roll(IR, step, axis=1), np.roll(VIS, step, axis=1)


def add_name(slug, what, pair_id, *, index_row=False):
    """Add a case of two good files with a hostile name, or a good name and a hostile pair_id."""
    name = f"by-index/{slug}" if index_row else pair_id

    def write(archive, pair_id):
        for side, pixels in zip(("ir", "vis"), name_pixels(pair_id), strict=True):
            put(archive, side, f"{name}.png", png(pixels))

    CASES[slug] = Case(what, pair_id, "fused", write, lambda: name_pixels(pair_id), index_row)


def add_links(slug, what, expected, pair_id, write):
    pixels = (lambda: (IR, VIS)) if expected == "fused" else None
    CASES[slug] = Case(what, pair_id, expected, write, pixels)


def add_cut_cases():
    add_vis("cut jpeg", "JPEG, first half", "truncated", lambda: jpeg()[: len(jpeg()) // 2], ext="jpg")
    add_vis("cut jpeg closed", "JPEG, last tenth gone, with an end mark put behind", "truncated",
            lambda: jpeg()[: len(jpeg()) * 9 // 10] + b"\xff\xd9", ext="jpg")  # fmt: skip
    add_vis("cut jpeg progressive", "progressive JPEG without its last scans, with an end mark",
            "truncated", lambda: jpeg(progressive=True)[:-600] + b"\xff\xd9", ext="jpg")  # fmt: skip
    add_vis("cut png", "PNG, last 40 bytes gone", "truncated", lambda: png(VIS)[:-40])
    add_vis("half png", "PNG of right checksums whose pixels end half-way", "truncated", half_png)
    add_ir("cut tiff", "TIFF, last quarter gone", "truncated",
           lambda: tiff(DEEP)[:-1500], ext="tif")  # fmt: skip
    add_ir("few strips", "TIFF that lists three of its six strips", "truncated", few_strips, ext="tif")


def add_no_image_cases():
    add_vis("no bytes", "file of 0 bytes", "empty", lambda: b"")
    add_vis("html", "HTML error page named .png", "wrong_type",
            lambda: b"\n<!DOCTYPE html><html>403</html>")  # fmt: skip
    add_vis("lfs pointer", "Git LFS pointer named .png", "wrong_type",
            lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")  # fmt: skip
    add_vis("text bm", "text that begins like a BMP", "wrong_type", lambda: b"BM, see the notes " * 3)
    add_vis("escape codes", "bytes that clear a terminal", "wrong_type", lambda: b"\x1b[2J\x1b]0;x\x07\r")
    add_vis("wrong checksum", "PNG, one checksum of pixels wrong", "unreadable", wrong_checksum)
    add_vis("gif", "animated GIF", "wrong_type", lambda: animation("GIF"), ext="gif")
    add_vis("six bands", "TIFF of six bands", "wrong_type",
            lambda: tiff(np.dstack([VIS, VIS]), planarconfig="contig"), ext="tif")  # fmt: skip
    add_vis("six planes", "TIFF of six bands, plane by plane", "wrong_type",
            lambda: tiff(np.stack([GREY] * 6), planarconfig="separate"), ext="tif")  # fmt: skip


def add_kind_cases():
    add_vis("png named jpg", "PNG named .jpg", "fused", lambda: png(VIS), lambda: VIS, ext="jpg")
    add_vis("junk after png", "PNG with 10 kB of junk behind", "fused",
            lambda: png(VIS) + JUNK, lambda: VIS)  # fmt: skip
    add_vis("junk after jpeg", "JPEG with 10 kB of junk behind", "fused",
            lambda: jpeg() + JUNK, lambda: shown(jpeg()), ext="jpg")  # fmt: skip
    add_vis("progressive", "progressive JPEG", "fused", lambda: jpeg(progressive=True),
            lambda: shown(jpeg(progressive=True)), ext="jpg")  # fmt: skip
    cmyk = Image.fromarray(VIS).convert("CMYK")
    add_vis("cmyk", "CMYK JPEG", "fused", lambda: jpeg(cmyk), lambda: shown(jpeg(cmyk)), ext="jpg")
    add_vis("grey", "grey JPEG", "fused", lambda: jpeg(GREY), lambda: shown(jpeg(GREY), "L"), ext="jpg")
    palette = Image.fromarray(VIS).quantize(16)
    add_vis("palette", "PNG of 16 palette colours", "fused", lambda: encode(palette, "PNG"),
            lambda: np.asarray(palette.convert("RGB")))  # fmt: skip
    one_bit = Image.fromarray(GREY).convert("1")
    add_vis("one bit", "PNG of one bit a pixel", "fused", lambda: encode(one_bit, "PNG"),
            lambda: np.asarray(one_bit.convert("L")))  # fmt: skip
    add_vis("alpha", "PNG with alpha (dropped)", "fused",
            lambda: png(np.dstack([VIS, GREY])), lambda: VIS)  # fmt: skip
    turned = np.ascontiguousarray(np.rot90(VIS))
    add_vis("turned png", "PNG that EXIF turns by 90 degrees", "fused",
            lambda: encode(turned, "PNG", exif=orientation(6)), lambda: VIS)  # fmt: skip
    add_vis("turned jpeg", "JPEG that EXIF turns by 90 degrees", "fused",
            lambda: jpeg(turned, exif=orientation(6)),
            lambda: np.rot90(shown(jpeg(turned)), -1), ext="jpg")  # fmt: skip
    add_vis("animated png", "animated PNG (first frame)", "fused",
            lambda: animation("PNG"), lambda: GREY)  # fmt: skip


def add_depth_cases():
    add_ir("deep grey", "PNG, 16-bit grey", "fused", lambda: png(DEEP), lambda: DEEP)
    add_vis("deep colour", "PNG, RGB of 16 bits", "fused", deep_colour_png,
            lambda: np.repeat(DEEP[..., None], 3, axis=2))  # fmt: skip
    add_vis("deep planes", "TIFF, RGB of 16 bits, plane by plane", "fused",
            lambda: tiff(np.stack([DEEP] * 3), photometric="rgb", planarconfig="separate"),
            lambda: np.repeat(DEEP[..., None], 3, axis=2), ext="tif")  # fmt: skip
    flat = np.full(GREY.shape, 90, np.uint8)
    add_pair("narrow band", "PNG, thermal counts from 29000 to 29383, the visible one grey", "fused",
             lambda: png(COUNTS), lambda: png(flat), lambda: (COUNTS, flat))  # fmt: skip
    for channels, colour, what in ((3, 2, "RGB"), (1, 4, "grey and alpha"), (3, 6, "RGB and alpha")):
        add_ir(f"narrow {what}", f"PNG, thermal counts as {what} of 16 bits", "fused",
               lambda channels=channels, colour=colour: counts_png(channels, colour),
               lambda channels=channels: np.dstack([COUNTS] * channels))  # fmt: skip
    add_ir("big-endian", "TIFF, big-endian, 16 bits", "fused",
           lambda: tiff(DEEP, byteorder=">"), lambda: DEEP, ext="tif")  # fmt: skip
    signed = (DEEP.astype(np.int32) - 32768).astype(np.int16)
    add_ir("signed", "TIFF, signed 16 bits", "fused", lambda: tiff(signed), lambda: signed, ext="tif")
    add_ir("signed bytes", "TIFF, signed 8 bits", "fused",
           lambda: tiff((signed >> 8).astype(np.int8)), lambda: signed >> 8, ext="tif")  # fmt: skip
    add_ir("floats", "TIFF, float32", "fused", lambda: tiff(FLOATS), lambda: FLOATS, ext="tif")
    add_ir("big-endian packed", "TIFF, big-endian float32, compressed", "fused",
           lambda: tiff(FLOATS, byteorder=">", compression="zlib"),
           lambda: FLOATS, ext="tif")  # fmt: skip
    add_ir("white is zero", "TIFF, 16 bits, the lowest count is white", "fused",
           lambda: tiff(DEEP, photometric="miniswhite"), lambda: 65535 - DEEP, ext="tif")  # fmt: skip
    add_ir("holes", "TIFF, float32 with NaN and both infinities", "fused",
           lambda: tiff(with_holes()), with_holes, ext="tif")  # fmt: skip
    add_ir("only nan", "TIFF, float32 of nothing but NaN", "no_finite_pixels",
           lambda: tiff(np.full_like(FLOATS, np.nan)), ext="tif")  # fmt: skip
    add_ir("pages", "TIFF of three pages (the first)", "fused",
           lambda: tiff(np.stack([DEEP, 65535 - DEEP, DEEP])), lambda: DEEP, ext="tif")  # fmt: skip


def add_size_cases():
    add_vis("giant", "PNG of one bit a pixel, 30000 x 30000", "too_many_pixels", giant_png)
    add_vis("claims much", "PNG of 70 bytes whose header says 2147483647 x 1", "too_many_pixels",
            lambda: png_file(2**31 - 1, 1, 8, 0, zlib.compress(b"")))  # fmt: skip
    add_size("one pixel", "1 x 1 px", "too_small", (1, 1), (1, 1))
    add_size("few pixels", "7 x 5 px", "too_small", (7, 5), (7, 5))
    add_size("a line", "3 x 2000 px", "too_small", (3, 2000), (3, 2000))
    add_size("mismatched", "48 x 64 and 48 x 63 px", "size_mismatch", (48, 64), (48, 63))
    add_size("transposed", "48 x 64 and 64 x 48 px", "size_mismatch", (48, 64), (64, 48))
    for slug, what, value in (
        ("black", "both sides black", np.uint8(0)),
        ("constant", "both sides one grey", np.uint8(90)),
        ("constant counts", "both sides one 16-bit count", np.uint16(29_000)),
    ):
        flat = np.full(GREY.shape, value)
        add_pair(slug, what, "fused", lambda flat=flat: png(flat), lambda flat=flat: png(flat),
                 lambda flat=flat: (flat, flat))  # fmt: skip


def add_link_cases():
    def good(archive, name):
        put(archive, "ir", name, png(IR))
        put(archive, "vis", name, png(VIS))

    def linked(archive, pair_id):
        good(archive, "links/target.png")
        for side in ("ir", "vis"):
            (archive / side / f"{pair_id}.png").symlink_to("target.png")

    def dangling(archive, pair_id):
        good(archive, f"{pair_id}.png")
        (archive / f"ir/{pair_id}.png").unlink()
        (archive / f"ir/{pair_id}.png").symlink_to("nowhere.png")

    def loop(archive, pair_id):
        good(archive, f"{pair_id}.png")
        (archive / f"ir/{pair_id}.png").unlink()
        (archive / f"ir/{pair_id}.png").symlink_to(f"{Path(pair_id).name}.png")

    def folder_loop(archive, pair_id):
        good(archive, f"{pair_id}.png")
        for side in ("ir", "vis"):
            (archive / side / "links/round/again").symlink_to("..")

    def folder(archive, pair_id):
        (archive / f"ir/{pair_id}.png").mkdir(parents=True)
        put(archive, "vis", f"{pair_id}.png", png(VIS))

    add_links("link target", "file that another links to", "fused", "links/target", lambda *_: None)
    add_links("link", "link to a file", "fused", "links/linked", linked)
    add_links("dangling link", "link to nothing", "missing_file", "links/dangling", dangling)
    add_links("link loop", "link to itself", "failed", "links/loop", loop)
    add_links("folder loop", "file in a folder that holds a link to its parent", "fused",
              "links/round/inside", folder_loop)  # fmt: skip
    add_links("folder", "empty folder named x.png, a file on the other side", "missing_partner",
              "links/x", folder)  # fmt: skip
    add_links("in folder", "file in a folder named y.png", "fused", "links/y.png/inside",
              lambda archive, pair_id: good(archive, f"{pair_id}.png"))  # fmt: skip
    add_links("not utf-8", "name of the byte FF", "bad_name", "links/\\udcff",
              lambda archive, _: put(archive, "ir", "links/\udcff.png", png(IR)))  # fmt: skip


def add_name_cases():
    long = "n" * 250
    for slug, what, name in (
        ("spaces", "name with spaces", " two  words "),
        ("quotes", "name with quotes", 'it\'s "quoted" `so`'),
        ("newline", "name with a line break", "new\nline\r\ttab"),
        ("terminal", "name that clears a terminal", "\x1b[2J\x1b]0;title\x07\x9b31m"),
        ("right to left", "name that reverses its reading", "gnp\u202egnp"),
        ("nfc", "name in composed Unicode (NFC)", "caf\u00e9"),
        ("nfd", "the same name decomposed (NFD)", "cafe\u0301"),
        ("dash", "name with leading dashes", "--output=-rf"),
        ("escaped", "name of escaped dots and slashes", "%2e%2e%2f%2e%2e%2fescape"),
        ("double escaped", "the escaped name escaped once more", "%252e%252e%252f%252e%252e%252fescape"),
        ("backslashes", "name with backslashes", "up\\..\\..\\escape"),
        ("long", "name of 255 bytes", long + "1"),
        ("long twin", "another, different in its last byte", long + "2"),
        ("long unicode", "name of 254 bytes, accented", "\u00fc" * 125),
        ("html name", "name of HTML", "<script>alert(1)</script>"),
        ("formula", "name that a spreadsheet would run", "=cmd|' /C calc'!A0"),
        ("formula at", "name that a spreadsheet would run", "@SUM(1+1)*cmd"),
        ("shell", "name that a shell would run", "$(touch pwned);`touch pwned`&"),
        ("markdown", "name that breaks a Markdown table", "a | b |\\| ![x](y)"),
        ("zarr", "name of Zarr's own", "zarr.json"),
        ("zarr array", "name of the array in a pair's group", "zarr.json/fused"),
    ):
        add_name(slug, what, name)
    for slug, what, name in (
        ("two dots", "pair_id of two dots", ".."),
        ("two dots below", "pair_id of two dots below a folder", "deep/.."),
        ("hidden", "pair_id with a leading dot", ".hidden"),
        ("index up", "pair_id ../../escape", "../../escape"),
        ("index root", "pair_id of an absolute path", "/tmp/escape"),
        ("index empty", "pair_id with empty segments", "a//b/"),
        ("index null", "pair_id with a null byte", "a\0b"),
    ):
        add_name(slug, what, name, index_row=True)


add_cut_cases()
add_no_image_cases()
add_kind_cases()
add_depth_cases()
add_size_cases()
add_link_cases()
add_name_cases()


# The run


def run_all(folder):
    """Write every case into one archive, index it, add the rows that only an index has, fuse it."""
    archive, index_url, output = folder / "archive", folder / "pairs.parquet", folder / "out"
    for case in CASES.values():
        case.write(archive, case.pair_id)
    sides = ["--ir", str(archive / "ir"), "--vis", str(archive / "vis")]
    index = run_job("index_archive", *sides, "--output", str(index_url))
    assert index.returncode == 0, index.stdout + index.stderr
    table = pd.read_parquet(index_url)
    renamed = {f"by-index/{slug}": case.pair_id for slug, case in CASES.items() if case.index_row}
    table["pair_id"] = table["pair_id"].replace(renamed)
    table.to_parquet(index_url)
    fuse = run_job("fuse_archive", "--index", str(index_url), "--output", str(output))
    assert fuse.returncode == 0, fuse.stdout + fuse.stderr
    return Run(folder, index, fuse, read_metrics(str(output)), read_rejected(str(output)))


def markdown(run):
    """Return the table of what became of each case."""
    reasons = dict(zip(run.rejected["pair_id"], run.rejected["reason"], strict=True))
    fused = set(run.metrics["pair_id"])
    lines = ["| case | what it is | outcome | reason |", "|---|---|---|---|"]
    for slug, case in CASES.items():
        outcome = "fused" if case.pair_id in fused else "rejected"
        reason = f"`{reasons[case.pair_id]}`" if case.pair_id in reasons else ""
        name = json.dumps(case.pair_id)
        plain = case.pair_id.startswith(("content/", "links/")) or len(name) > 60
        quoted = "" if plain else f": {_code(name)}"
        lines.append(f"| {slug} | {case.what}{quoted} | {outcome} | {reason} |")
    return "\n".join(lines)


def _code(text):
    quoted = f"`` {text} ``" if "`" in text else f"`{text}`"
    return quoted.replace("|", "\\|")


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as rays,
        tempfile.TemporaryDirectory() as temporary,
        SharedRay(Path(rays), {}),
    ):
        print(markdown(run_all(Path(temporary))))
    sys.exit(0)

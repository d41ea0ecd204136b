"""The picture of a few pairs reads the sources as the run did."""

import numpy as np
import pandas as pd
from PIL import Image

from cluster.fusing.preview import make_preview
from cluster.storage import fused_store


def test_a_pair_that_was_fused_from_temperatures_is_shown(shared_data, tmp_path, capsys):
    folder = shared_data / "flir_16bit"
    kelvin_size = Image.open(folder / "ir/flir_example.png").size
    Image.open(folder / "vis/flir_example.jpg").resize(kelvin_size).save(tmp_path / "vis.png")
    store = str(tmp_path / "fused.zarr")
    fused_store.write_fused(store, "a", np.zeros(kelvin_size[::-1], np.uint8), {})
    ir = str(folder / "src_radiometric_jpeg/flir_example.jpg")
    row = {"pair_id": "a", "zarr_path": "a", "ir_url": ir, "vis_url": str(tmp_path / "vis.png")}
    row |= {"ir_low": 290, "ir_high": 310, "vis_low": 0, "vis_high": 255}
    options = {"max_pixels": 10**6}
    assert make_preview(pd.DataFrame([row]), store, **options, temperatures=True) is not None
    # the palette picture is twice as large as the sensor's image
    assert make_preview(pd.DataFrame([row]), store, **options) is None
    assert "480 px and visible is 320" in capsys.readouterr().err

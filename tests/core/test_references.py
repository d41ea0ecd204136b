"""The reference methods, and reading fused images to be scored."""

import numpy as np
import pytest
import torch

from dmnet_core.inference import fused_luminance
from dmnet_core.references import METHODS, fuse_laplacian


def images(height, width):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randint(0, 256, (2, 2, 1, height, width), generator=generator).float())


def test_average_and_maximum_are_what_they_say():
    ir, vis = images(9, 11)
    torch.testing.assert_close(METHODS["average"](ir, vis), (ir + vis) / 2)
    assert (METHODS["max"](ir, vis) == torch.where(ir > vis, ir, vis)).all()


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (8, 8), (3, 5)])
def test_the_laplacian_pyramid_of_two_equal_images_is_the_image(size):
    ir, _ = images(*size)
    # float32 rounding of four scales
    torch.testing.assert_close(fuse_laplacian(ir, ir), ir, atol=1e-3, rtol=0)


def test_the_laplacian_pyramid_takes_the_edges_of_both():
    ir, vis = torch.full((1, 1, 64, 64), 100.0), torch.full((1, 1, 64, 64), 100.0)
    ir[..., 20:24], vis[..., 40:44] = 180.0, 20.0
    fused = fuse_laplacian(ir, vis)
    assert fused[0, 0, 32, 22] > 160 and fused[0, 0, 32, 42] < 40


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_fused_image_of_any_type_is_read_alike(dtype):
    top = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    image = (np.array([[0, 51], [102, 255]]) / 255 * top).astype(dtype)
    np.testing.assert_allclose(fused_luminance(image) * 255, [[0, 51], [102, 255]], atol=1e-3)


def test_stretching_fills_the_range_and_leaves_a_constant_image_finite():
    image = np.array([[50, 60], [70, 90]], dtype=np.uint8)
    np.testing.assert_allclose(fused_luminance(image, "minmax"), [[0, 0.25], [0.5, 1]], atol=1e-6)
    assert (fused_luminance(np.full((4, 4), 9, np.uint8), "minmax") == 0).all()


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_floats_beyond_their_range_are_refused(value):
    with pytest.raises(ValueError, match=r"expected \[0, 1\]"):
        fused_luminance(np.full((4, 4), value, np.float32))

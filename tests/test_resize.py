"""Positions of a network's map on the image: constant slopes come back as they were sampled."""

import pytest
import torch

from crfnet.resize import resize_logits, scaled_size, stride_between


@pytest.mark.parametrize(
    ("size", "count", "stride"),
    [
        (321, 41, 8),
        (513, 65, 8),
        (96, 13, 8),
        (96, 12, 8),
        (500, 63, 8),
        (360, 45, 8),
        (33, 3, 16),
        (40, 40, 1),
    ],
)
def test_stride_of_strided_networks(size, count, stride):
    assert stride_between(size, count) == stride


@pytest.mark.parametrize(("size", "count"), [(300, 41), (3, 6)])
def test_no_stride_fits(size, count):
    assert stride_between(size, count) is None


@pytest.mark.parametrize(("rows", "columns"), [(97, 65), (96, 60), (100, 70)])
def test_position_i_lies_on_pixel_8_i(rows, columns):
    """A ramp sampled at every 8th pixel is the ramp again; beyond the last position it is level."""
    cells = -(-rows // 8) + (rows % 8 == 0), -(-columns // 8)
    ramp = 8.0 * torch.arange(cells[0])[:, None] + 800.0 * torch.arange(cells[1])
    found = resize_logits(ramp.expand(2, 3, -1, -1), (rows, columns), align_corners=True)
    down = torch.arange(rows).clamp_max(8 * (cells[0] - 1))
    across = torch.arange(columns).clamp_max(8 * (cells[1] - 1))
    torch.testing.assert_close(found[-1, -1], down[:, None] + 100.0 * across, rtol=1e-5, atol=1e-3)


def test_stretched_corners_lie_on_the_corners():
    """Position i of 13 lies on pixel 96 i / 12 at 97 pixels and on 99 i / 12 at 100."""
    ramp = torch.arange(13.0).expand(1, 1, 2, 13)
    for pixels in (97, 100):
        found = resize_logits(ramp, (4, pixels), align_corners="stretch")
        torch.testing.assert_close(found[0, 0, 3], 12 / (pixels - 1) * torch.arange(pixels))
    aligned = resize_logits(ramp, (4, 97), align_corners=True)
    torch.testing.assert_close(resize_logits(ramp, (4, 97), align_corners="stretch"), aligned)
    assert scaled_size((97, 65), 0.75, align_corners="stretch") == (73, 49)


def test_half_pixel_geometry_and_precision():
    scores = torch.randn(1, 2, 5, 6)
    found = resize_logits(scores.bfloat16(), (40, 48), align_corners=False)
    expected = torch.nn.functional.interpolate(scores.bfloat16().float(), (40, 48), mode="bilinear")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    assert resize_logits(scores.double(), (9, 9), align_corners=True).dtype == torch.float64

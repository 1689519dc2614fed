"""Scales, mirror and tiles against what they mean, written out."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.domain_transform import DomainTransform, EdgeNet
from crfnet.errors import InputError
from crfnet.evaluation.inference import PredictConfig, TiledInference, predict_labels, tiled
from crfnet.segmenter import Segmenter
from tests.allocations import Held
from tests.tolerances import assert_close

CLOSE = ("exact", torch.float32)


def photo(height: int = 45, width: int = 70) -> Tensor:
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)


def strided(align_corners: bool = True) -> Segmenter:
    """Position i sees pixels 8 i - 4 to 8 i + 4."""
    return Segmenter(nn.Conv2d(3, 4, 9, 8, padding=4), align_corners=align_corners).eval()


class SpyCRF(nn.Module):
    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        self.logits, self.image = logits, image
        return -logits


@torch.no_grad()
def test_the_default_is_the_segmenter_itself():
    model = Segmenter(nn.Conv2d(3, 4, 9, 8), SpyCRF()).eval()
    image = photo()
    assert torch.equal(TiledInference(model, PredictConfig())(image), model(image))


def edged() -> Segmenter:
    """A domain transform whose edges are learned from what `strided` gives."""
    network = nn.Sequential(nn.Conv2d(3, 4, 9, 8, padding=4))
    model = Segmenter(network, DomainTransform(edge_net=EdgeNet.behind(network, ["0"]))).eval()
    nn.init.normal_(model.edge_net.predict.weight)
    return model


@pytest.mark.parametrize(
    "config",
    [
        PredictConfig(),
        PredictConfig(scales=(0.5, 1.0), mirror=True),
        PredictConfig(tile=96, overlap=64),
        PredictConfig(tile=96, overlap=64, blend=True),
        PredictConfig(size=(97, 129)),
        PredictConfig(size=(96, 128), mirror=True),
    ],
    ids=["one pass", "scales", "tiles", "blended", "size", "size mirrored"],
)
@torch.no_grad()
def test_learned_edges_are_those_of_the_image_at_scale_1(config):
    model, image = edged(), photo(160, 112)
    given = image
    if config.size:
        given = F.interpolate(image.float(), config.size, mode="bilinear", antialias=True)
    with model.edge_features() as features:
        model.strided_logits(given)
    edges = model.learned_edges(features, given.shape[2:])
    edges = F.interpolate(edges, image.shape[2:], mode="bilinear")
    inference = TiledInference(model, config)
    expected = model.crf(inference.unary(image), image, edges=edges)
    assert_close(inference(image), expected, *CLOSE)
    assert not torch.allclose(expected, DomainTransform()(inference.unary(image), image), atol=0.1)


@torch.no_grad()
def test_learned_edges_in_one_pass_are_the_segmenters():
    model, image = edged(), photo()
    assert torch.equal(TiledInference(model, PredictConfig())(image), model(image))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("fusion", ["mean", "max"])
@torch.no_grad()
def test_scales_and_mirror_written_out(align_corners, fusion):
    model, image = strided(align_corners), photo(41, 65)
    config = PredictConfig(scales=(0.5, 1.0, 1.25), mirror=True, fusion=fusion)
    sizes = {True: [(21, 33), (41, 65), (51, 81)], False: [(20, 32), (41, 65), (51, 81)]}[align_corners]
    passes = []
    for size in sizes:
        small = F.interpolate(image.float(), size, mode="bilinear", align_corners=align_corners)
        for mirrored in (False, True):
            logits = model(small.flip(3) if mirrored else small)
            logits = logits.flip(3) if mirrored else logits
            passes.append(F.interpolate(logits, (41, 65), mode="bilinear", align_corners=align_corners))
    if fusion == "max":
        expected = torch.stack(passes).amax(0)
    else:
        expected = torch.stack([logits.softmax(1) for logits in passes]).mean(0).log()
    assert_close(TiledInference(model, config)(image), expected, *CLOSE)


@torch.no_grad()
def test_mirroring_makes_the_labels_symmetric():
    model, image = strided(), photo(33, 49)
    protocol = TiledInference(model, PredictConfig(mirror=True))
    assert_close(protocol(image.flip(3)).flip(3), protocol(image), *CLOSE)
    assert not torch.allclose(model(image.flip(3)).flip(3), model(image), atol=1e-3)


@torch.no_grad()
def test_the_crf_runs_once_on_fused_logits_and_the_raw_image():
    crf = SpyCRF()
    model, image = Segmenter(nn.Conv2d(3, 4, 9, 8, padding=4), crf).eval(), photo()
    protocol = TiledInference(model, PredictConfig(scales=(0.75, 1.0)))
    logits = protocol(image)
    assert crf.image is image
    torch.testing.assert_close(crf.logits.exp().sum(1), torch.ones(2, 45, 70))
    assert torch.equal(logits, -crf.logits)
    assert torch.equal(protocol.unary(image), crf.logits)


@pytest.mark.parametrize("size", [(45, 70), (64, 64), (65, 161), (200, 33), (20, 96), (128, 96)])
@pytest.mark.parametrize("align_corners", [True, False])
@torch.no_grad()
def test_tiles_change_nothing_where_the_overlap_holds_the_field_of_view(size, align_corners):
    """4 pixels around a position and 8 to the next position are less than 32 / 2."""
    model = strided(align_corners)
    if not align_corners:
        size = tuple(-(-side // 8) * 8 for side in size)  # else the positions of tiles lie elsewhere
    image = photo(*size)
    assert_close(TiledInference(model, PredictConfig(tile=64, overlap=32))(image), model(image), *CLOSE)


@torch.no_grad()
def test_tiles_without_overlap_show_their_seams():
    model, image = strided(), photo(64, 161)
    difference = (TiledInference(model, PredictConfig(tile=64))(image) - model(image)).abs().amax((0, 1, 2))
    assert difference[:40].max() < 1e-5
    assert difference[56:64].max() > 1e-2


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [((200, 97), 96, 64), ((129, 66), 128, 96), ((40, 65), 64, 32)]
)
def test_blended_tiles_share_each_pixel(size, tile, overlap):
    """Shares sum to 1 wherever three tiles meet; from one tile to the next without a step."""
    image, made = torch.rand(1, 1, *size) + 1, []

    def network(part: Tensor) -> Tensor:
        made.append(part)
        return torch.cat([part, torch.full_like(part, len(made))], 1)

    logits = tiled(network, image, tile, overlap, blend=True)
    assert_close(logits[:, :1], image, *CLOSE)
    steps = [logits[0, 1].diff(dim=axis).abs().max() for axis in (0, 1)]
    rows = len({part.shape[2] for part in made}) if size[0] > tile else 1
    assert max(steps) < rows * len(made) / (overlap // 2)


@torch.no_grad()
def test_blended_tiles_change_nothing_where_a_quarter_of_the_overlap_is_enough():
    """4 pixels around a position and 8 to the next position are less than 64 / 4."""
    model, image = strided(), photo(200, 161)
    config = PredictConfig(tile=96, overlap=64, blend=True)
    assert_close(TiledInference(model, config)(image), model(image), *CLOSE)
    seams = PredictConfig(tile=48, overlap=16, blend=True)  # 4 pixels are not
    assert (TiledInference(model, seams)(image) - model(image)).abs().max() > 1e-3


def maps_of(config: PredictConfig, height: int, width: int) -> float:
    """The most memory that a prediction held at once, in maps of logits at image size."""
    model = Segmenter(nn.Conv2d(3, 40, 9, 8, padding=4), align_corners=True).eval()
    image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
    with Held(image) as held:
        TiledInference(model, config).unary(image)
    return held.most / (4 * 40 * height * width)


def test_memory_is_that_of_the_map_however_many_tiles():
    """40 labels: the image in float32, or normalized, is 3 / 40 of a map; a tile of 64 0.1 of one."""
    few, many = (maps_of(PredictConfig(tile=64, overlap=32), *size) for size in ((200, 200), (296, 328)))
    assert many < few < 1.6
    assert many < 1.4
    assert maps_of(PredictConfig(), 200, 200) > 1.9  # whole: cut to the image's size, a copy for a moment


def test_memory_of_many_passes_is_that_of_two():
    config = PredictConfig(scales=(0.75, 1.0), mirror=True, tile=64, overlap=32)
    assert maps_of(config, 256, 256) < 2.9


def test_every_pixel_comes_from_the_tile_where_it_is_farther_from_the_cut():
    image = torch.arange(100.0).expand(1, 1, 40, 100)
    sizes = []

    def network(part: Tensor) -> Tensor:
        sizes.append(tuple(part.shape[2:]))
        return torch.cat([part, part - part[..., :1]], 1)  # where it is, and where in its tile

    logits = tiled(network, image, 40, 8)
    assert sizes == [(40, 40), (40, 40), (40, 36)]
    assert torch.equal(logits[:, :1], image)
    in_tile = logits[0, 1, 0]
    assert in_tile.tolist() == [*range(36), *range(4, 36), *range(4, 36)]


@torch.no_grad()
def test_tiles_at_every_scale():
    model, image = strided(), photo(65, 97)
    config = PredictConfig(scales=(0.5, 1.0), mirror=True)
    whole = TiledInference(model, config)(image)
    parts = TiledInference(model, PredictConfig(scales=(0.5, 1.0), mirror=True, tile=64, overlap=32))(image)
    assert_close(parts, whole, *CLOSE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scales": ()}, r"scales is \[\], must be a list of numbers above 0"),
        ({"scales": (1.0, 0.0)}, "scales is "),
        ({"fusion": "sum"}, "fusion is 'sum', must be mean or max"),
        ({"tile": -1}, "tile is -1, must be at least 0"),
        ({"tile": 100, "overlap": 30}, "must be a multiple of 32 above 0"),
        ({"tile": 64, "overlap": 64}, "must be a multiple of 32 above 0"),
        ({"overlap": 32}, "must be a multiple of 32 above 0"),
        ({"blend": True}, "overlap is 0, must be at least 4 with blend"),
    ],
)
def test_bad_values_are_refused(changes, words):
    config = PredictConfig()
    for name, value in changes.items():  # past the type checker of the tests, which would refuse it first
        object.__setattr__(config, name, value)
    with pytest.raises(InputError, match=words):
        config.__post_init__()


def test_predict_labels():
    image = torch.randint(256, (3, 4, 5), dtype=torch.uint8)
    labels = predict_labels(lambda x: x.float().requires_grad_(), image)
    assert torch.equal(labels, image.float().argmax(0))
    assert not labels.is_inference()
    with pytest.raises(ValueError, match="model gave logits"):
        predict_labels(lambda x: x[..., ::2].float(), image)


@torch.no_grad()
@pytest.mark.parametrize("align_corners", [True, False, "stretch"])
@pytest.mark.parametrize("size", [(33, 65), (40, 30)])
def test_a_size_is_stretched_to_and_back(align_corners, size):
    model, image = strided(align_corners), photo()
    small = F.interpolate(image.float(), size, mode="bilinear", antialias=True, align_corners=False)
    there = model(small)
    back = F.interpolate(there, (45, 70), mode="bilinear", align_corners=bool(align_corners))
    protocol = TiledInference(model, PredictConfig(size=size))
    corners_meet = size == (33, 65)
    if align_corners is True and not corners_meet:
        assert_close(protocol(image), back, *CLOSE)
    else:  # once resized instead of twice: between the same cells
        cells = model.strided_logits(small)
        once = F.interpolate(cells, (45, 70), mode="bilinear", align_corners=bool(align_corners))
        assert_close(protocol(image), once, *CLOSE)
        assert torch.equal(protocol.strided(image), cells)
    known = {True: "stretch" if corners_meet else None, False: False, "stretch": "stretch"}
    assert protocol.geometry == known[align_corners]


@torch.no_grad()
def test_a_size_goes_with_scales_and_mirror():
    model, image = strided(), photo()
    protocol = TiledInference(
        model, PredictConfig(size=(33, 65), scales=(0.5, 1.0), mirror=True, fusion="max")
    )
    given = F.interpolate(image.float(), (33, 65), mode="bilinear", antialias=True)
    inner = TiledInference(model, PredictConfig(scales=(0.5, 1.0), mirror=True, fusion="max"))
    assert protocol.geometry is None
    back = F.interpolate(inner(given), (45, 70), mode="bilinear", align_corners=True)
    assert protocol(image).shape == back.shape
    assert (protocol(image) - back).abs().mean() < 0.2 * back.std()


@pytest.mark.parametrize("fields", [{"size": (0, 5)}, {"size": (33, 33), "tile": 64}])
def test_sizes_that_cannot_be(fields):
    with pytest.raises(InputError, match="size"):
        PredictConfig(**fields)

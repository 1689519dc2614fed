"""The whole model: preprocessing, any network, resize, CRF."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from crfnet.crf.filters import PermutohedralFilter
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.errors import InputError
from crfnet.models import ModelConfig
from crfnet.segmenter import CAFFE_MEAN_BGR, Segmenter, build_segmenter

TINY = ModelConfig(backbone="resnet18", width=0.125)


def photo(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape or (2, 3, 33, 41), dtype=torch.uint8)


class Returns(nn.Module):
    """A network that keeps its input and returns what it was given."""

    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output

    def forward(self, image: Tensor) -> object:
        self.image = image
        return self.output


class SpyCRF(nn.Module):
    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        self.logits, self.image = logits, image
        return -logits


def test_network_sees_the_normalised_image() -> None:
    network, image = Returns(torch.zeros(2, 4, 5, 6)), photo()
    Segmenter(network)(image)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(network.image, (image / 255 - mean) / std)


def test_caffe_networks_see_bgr_minus_mean() -> None:
    network, image = Returns(torch.zeros(2, 4, 5, 6)), photo()
    Segmenter(network, mean=CAFFE_MEAN_BGR, std=(1.0, 1.0, 1.0), bgr=True)(image)
    blue, red = network.image[:, 0], network.image[:, 2]
    torch.testing.assert_close(blue, image[:, 2] - 104.008)
    torch.testing.assert_close(red, image[:, 0] - 122.675)


def test_byte_and_float_images_are_the_same() -> None:
    segmenter, image = build_segmenter(TINY, 4).eval(), photo()
    assert torch.equal(segmenter(image), segmenter(image.float()))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.rand(1, 3, 8, 8), r"image: values from .*0\.\.255, not normalized"),
        (torch.randn(1, 3, 8, 8) * 2, r"image: values from -"),
        (torch.full((1, 3, 8, 8), 300.0), r"image: values from 300"),
        (torch.full((1, 3, 8, 8), float("nan")), r"image: contains NaN"),
        (photo(1, 4, 8, 8), r"image: shape \(1, 4, 8, 8\), must be \(b, 3, h, w\)"),
        (photo(0, 3, 8, 8), r"image: shape \(0, 3, 8, 8\)"),
    ],
)
def test_images_that_cannot_be_meant_are_refused(image: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_segmenter(TINY, 4)(image)


def test_black_image_is_allowed() -> None:
    assert build_segmenter(TINY, 4).eval()(torch.zeros(1, 3, 17, 17)).isfinite().all()


@pytest.mark.parametrize("align_corners", [False, True])
def test_scores_are_resized_to_the_image(align_corners: bool) -> None:
    scores = torch.randn(2, 4, 5, 6)
    segmenter = Segmenter(Returns(scores), align_corners=align_corners)
    logits, own = segmenter.both(photo())
    assert own is scores
    assert logits.shape == (2, 4, 33, 41)
    if align_corners:
        torch.testing.assert_close(logits[:, :, ::8, ::8], scores)
    else:
        assert not torch.allclose(logits[:, :, ::8, ::8], scores)
        torch.testing.assert_close(logits[:, :, 0, 0], scores[:, :, 0, 0])


def test_resize_is_in_float32() -> None:
    segmenter = Segmenter(nn.Conv2d(3, 4, 3, 8), align_corners=True)
    with torch.autocast("cpu", torch.bfloat16):
        logits, scores = segmenter.both(photo())
    assert scores.dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, segmenter.upsample(scores.float(), (33, 41)))
    assert segmenter.upsample(scores.double(), (9, 9)).dtype == torch.float64


def test_crf_gets_resized_logits_and_the_raw_image() -> None:
    crf, image, scores = SpyCRF(), photo(), torch.randn(2, 4, 5, 6)
    segmenter = Segmenter(Returns(scores), crf, bgr=True)
    logits, own = segmenter.both(image)
    assert crf.image is image
    assert torch.equal(crf.logits, segmenter.upsample(scores, (33, 41)))
    assert torch.equal(logits, -crf.logits)
    assert torch.equal(segmenter(image), logits)
    assert own is scores


def test_dense_crf_trains_with_the_network() -> None:
    segmenter = build_segmenter(
        TINY, 3, CRFConfig(train_iterations=2, theta_alpha=10.0, filter=PermutohedralFilter(rows=64))
    ).train()
    assert isinstance(segmenter.crf, DenseCRF)
    logits = segmenter(photo(1, 3, 17, 17))
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(1, 17, 17))
    logits[:, 0].sum().backward()
    gradients = {name: parameter.grad for name, parameter in segmenter.named_parameters()}
    assert all(grad is not None and grad.isfinite().all() for grad in gradients.values())
    assert segmenter.network.backbone.conv1.weight.grad.any()
    assert all(grad.any() for name, grad in gradients.items() if name.startswith("crf."))


@pytest.mark.parametrize(
    "make",
    [
        torchvision.models.segmentation.deeplabv3_mobilenet_v3_large,
        torchvision.models.segmentation.lraspp_mobilenet_v3_large,
    ],
)
@torch.no_grad()
def test_torchvision_networks_can_be_wrapped(make: Callable[..., nn.Module]) -> None:
    network = make(weights=None, weights_backbone=None, num_classes=5).eval()
    segmenter, image = Segmenter(network), photo(1, 3, 33, 41)
    normalized = (image - segmenter.mean) / segmenter.std
    assert torch.equal(segmenter(image), network(normalized)["out"])


@torch.no_grad()
def test_fully_convolutional_resnet_of_torchvision_can_be_wrapped() -> None:
    """Built without memory: what counts is that its dictionary is understood."""
    with torch.device("meta"):
        network = torchvision.models.segmentation.fcn_resnet50(
            weights=None, weights_backbone=None, num_classes=5
        )
        segmenter = Segmenter(network.eval())
        assert segmenter(photo(1, 3, 33, 41).to("meta")).shape == (1, 5, 33, 41)


class WithLogits:
    """As transformers' SemanticSegmenterOutput, whose logits have stride 4."""

    def __init__(self, logits: Tensor) -> None:
        self.loss, self.logits = None, logits


@pytest.mark.parametrize("wrap", [WithLogits, lambda x: {"out": x, "aux": None}, lambda x: {"logits": x}])
def test_scores_are_found_in_what_other_libraries_return(wrap: Callable[[Tensor], object]) -> None:
    scores = torch.randn(2, 4, 9, 11)
    segmenter = Segmenter(Returns(wrap(scores)))
    assert segmenter.strided_logits(photo()) is scores
    assert segmenter(photo()).shape == (2, 4, 33, 41)


@torch.no_grad()
def test_features_of_timm_with_a_head_can_be_wrapped() -> None:
    import timm

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = timm.create_model("test_resnet", features_only=True)
            self.head = nn.Conv2d(self.features.feature_info.channels()[-1], 5, 1)

        def forward(self, image: Tensor) -> Tensor:
            return self.head(self.features(image)[-1])

    assert Segmenter(Network()).eval()(photo(1, 3, 33, 41)).shape == (1, 5, 33, 41)


@torch.no_grad()
def test_networks_of_segmentation_models_pytorch_can_be_wrapped() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = smp.Unet("resnet18", encoder_weights=None, classes=5).eval()
    assert Segmenter(network)(photo(1, 3, 32, 64)).shape == (1, 5, 32, 64)


@torch.no_grad()
def test_networks_of_transformers_can_be_wrapped() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        num_labels=5, depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=16
    )
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    assert Segmenter(network)(photo(1, 3, 32, 64)).shape == (1, 5, 32, 64)


@pytest.mark.parametrize("output", [[torch.zeros(1)], {"pred": torch.zeros(1)}, {"out": [1]}, {}])
def test_other_outputs_are_refused(output: object) -> None:
    with pytest.raises(
        TypeError, match=r"network: returned a (list|dictionary with the keys ('pred'|'out'|none))"
    ):
        Segmenter(Returns(output))(photo())


@pytest.mark.parametrize(
    "changes", [{"mean": (1.0, 2.0)}, {"std": (1.0, 0.0, 1.0)}, {"mean": (1.0, 2.0, float("nan"))}]
)
def test_bad_normalisation_is_refused(changes: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Segmenter(Returns(None), **changes)


def test_preprocessing_follows_the_backbone_and_stays_out_of_checkpoints() -> None:
    with torch.device("meta"):
        xception = build_segmenter(ModelConfig(backbone="timm:xception41"), 2)
    assert not {"mean", "std"} & set(xception.state_dict())
    segmenter = build_segmenter(ModelConfig(backbone="timm:test_resnet"), 2)
    assert segmenter.mean.flatten().tolist() == pytest.approx(segmenter.network.backbone.mean)
    assert segmenter.double().mean.dtype == torch.float64


def test_align_corners_comes_from_the_configuration() -> None:
    config = ModelConfig(backbone="resnet18", width=0.125, align_corners=False)
    assert not build_segmenter(config, 2).align_corners
    assert build_segmenter(TINY, 2).align_corners


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes"):
        build_segmenter(TINY, 1)
    with pytest.raises(InputError, match="num_classes"):
        build_segmenter(TINY, 1, CRFConfig())

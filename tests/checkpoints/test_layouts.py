"""Public checkpoints: every layout at its full size, the same logits as the original, what is refused."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from crfnet.checkpoints.layouts import LAYOUTS, import_state, read_weights
from crfnet.checkpoints.layouts.layout import Imported
from crfnet.errors import InputError
from crfnet.files.weight_files import read_safetensors, write_safetensors
from crfnet.models import DeepLabV3Config
from crfnet.models.deeplab_v2 import DeepLabV2
from crfnet.segmenter import Segmenter, build_segmenter
from tests.models import twins
from tests.tolerances import assert_close


def dumped(path: Path) -> dict[str, Tensor]:
    """A state dict of the names and shapes in a dump, without memory."""
    entries = (re.fullmatch(r"(\S+) \(([\d, ]*)\) (\w+)", line) for line in path.read_text().splitlines())
    return {
        entry[1]: torch.empty(
            [int(size) for size in entry[2].split(",") if size.strip()],
            dtype=getattr(torch, entry[3]),
            device="meta",
        )
        for entry in entries
        if entry
    }


@pytest.mark.parametrize(
    ("dump", "what", "entries", "skipped"),
    [
        ("kazuto", "kazuto1011.*DeepLab v2, resnet101, three scales", 632, 0),
        ("tv50", "torchvision: DeepLabV3, resnet50", 362, 1),
        ("tv101", "torchvision: DeepLabV3, resnet101", 668, 1),
        ("tvmb", "torchvision: DeepLabV3, mobilenet_v3_large", 352, 1),
        ("vainf_deeplabv3_mobilenet", r"VainF.*DeepLab v3, mobilenet_v2_vainf", 350, 0),
        ("vainf_deeplabv3plus_mobilenet", r"VainF.*DeepLab v3\+, mobilenet_v2_vainf", 356, 0),
        ("jf_mobilenet", r"jfzhang95.*DeepLab v3\+, mobilenet_v2_jfzhang95", 362, 1),
        ("jf_xception", r"jfzhang95.*DeepLab v3\+, aligned_xception", 848, 0),
        ("vainf_deeplabv3_resnet50", "VainF.*DeepLab v3, resnet50", 362, 0),
        ("vainf_deeplabv3_resnet101", "VainF.*DeepLab v3, resnet101", 668, 0),
        ("vainf_deeplabv3plus_resnet50", r"VainF.*DeepLab v3\+, resnet50", 368, 0),
        ("vainf_deeplabv3plus_resnet101", r"VainF.*DeepLab v3\+, resnet101", 674, 0),
        ("jf_resnet", r"jfzhang95.*DeepLab v3\+, resnet101", 680, 0),
    ],
)
def test_published_checkpoints_load_completely(
    dump: str, what: str, entries: int, skipped: int, extra_data: Path
) -> None:
    imported = import_state(dumped(extra_data / "state_dicts" / f"{dump}.txt"))
    assert re.match(what, imported.what)
    assert imported.num_classes == 21
    assert len(imported.state) == entries
    assert len(imported.skipped) == skipped


@pytest.mark.parametrize(
    ("dump", "words"),
    [
        ("vainf_deeplabv3plus_xception", "VainF.*Xception"),
    ],
)
def test_networks_that_cannot_be_expressed_are_refused_by_name(
    dump: str, words: str, extra_data: Path
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        import_state(dumped(extra_data / "state_dicts" / f"{dump}.txt"))
    assert "\n" not in str(caught.value)


def converted(state: dict[str, Tensor], output_stride: int | None = None) -> Imported:
    """What the importer makes of a narrow network, whose width it cannot know."""
    layout = next(layout for layout in LAYOUTS if layout.recognizes(list(state)))
    imported = layout.convert(state, output_stride)
    return dataclasses.replace(imported, config=dataclasses.replace(imported.config, width=0.125))


def narrow(state: dict[str, Tensor], output_stride: int | None = None) -> Segmenter:
    imported = converted(state, output_stride)
    model = build_segmenter(imported.config, twins.CLASSES).eval()
    model.network.load_state_dict(imported.state)
    return model


@pytest.mark.parametrize("size", [(65, 97), (64, 84)])
@pytest.mark.parametrize(
    ("make", "original"),
    [
        (twins.kazuto_state, lambda s, x: twins.kazuto(s, x, multi_scale=True)),
        (lambda: twins.kazuto_state(""), lambda s, x: twins.kazuto(s, x, multi_scale=False)),
        (lambda: twins.v3_state("classifier."), lambda s, x: twins.v3(s, "classifier.", x, 8)),
        (
            lambda: twins.v3_state("classifier.classifier."),
            lambda s, x: twins.v3(s, "classifier.classifier.", x, 16),
        ),
        (twins.vainf_plus_state, twins.vainf_plus),
        (twins.vainf_mobile_state, twins.vainf_mobile),
    ],
    ids=["kazuto", "kazuto-one-scale", "torchvision", "vainf-v3", "vainf-v3plus", "vainf-mobile"],
)
@torch.no_grad()
def test_logits_are_those_of_the_original(
    make: Callable[[], dict[str, Tensor]],
    original: Callable[[dict[str, Tensor], Tensor], Tensor],
    size: tuple[int, int],
) -> None:
    """From the RGB image to logits at image size; sizes that are multiples of 4 show how pools round."""
    state, image = make(), torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    assert_close(narrow(state)(image), original(state, image), "layer", torch.float32)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("size", [(65, 97), (75, 100)])
@pytest.mark.parametrize(
    ("make", "original"),
    [
        (twins.jfzhang_state, twins.jfzhang),
        (lambda: twins.jfzhang_state(dropout=False), twins.jfzhang),
        (twins.jfzhang_xception_state, twins.jfzhang_xception),
        (twins.jfzhang_mobile_state, twins.jfzhang_mobile),
        (twins.vainf_plus_state, twins.vainf_plus),
        (twins.vainf_mobile_state, twins.vainf_mobile),
    ],
    ids=[
        "jfzhang-resnet",
        "jfzhang-resnet-before-dropout",
        "jfzhang-xception",
        "jfzhang-mobile",
        "vainf-resnet",
        "vainf-mobile",
    ],
)
@torch.no_grad()
def test_both_output_strides_at_any_size(
    make: Callable[[], dict[str, Tensor]],
    original: Callable[[dict[str, Tensor], Tensor, int], Tensor],
    size: tuple[int, int],
    output_stride: int,
) -> None:
    """At 16 k + 1, where aligned corners are positions, and at the fourth part of a whole photo of VOC."""
    state, image = make(), torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    ours = narrow(state, output_stride)(image)
    assert_close(ours, original(state, image, output_stride), "layer", torch.float32)


@pytest.mark.parametrize("scaled_by", ["size", "factor"])
@torch.no_grad()
def test_kazuto_at_odd_sizes_resizes_as_one_pytorch_or_the_other(scaled_by: str) -> None:
    state, image = twins.kazuto_state(), torch.randint(0, 256, (1, 3, 65, 99), dtype=torch.uint8)
    model = narrow(state)
    assert isinstance(model.network, DeepLabV2)
    assert model.network.scaled_by == "size"
    model.network.scaled_by = scaled_by  # type: ignore[assignment]
    before_1_6, since = (
        twins.kazuto(state, image, multi_scale=True, recompute=recompute) for recompute in (True, False)
    )
    expected, other = (before_1_6, since) if scaled_by == "size" else (since, before_1_6)
    assert_close(model(image), expected, "layer", torch.float32)
    assert (model(image) - other).abs().max() > 0.01 * expected.std()


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large"])
@torch.no_grad()
def test_torchvision_itself_gives_the_same_logits(name: str) -> None:
    network = getattr(torchvision.models.segmentation, name)(
        weights=None, weights_backbone=None, num_classes=3, aux_loss=True
    ).eval()
    imported = import_state(network.state_dict())
    assert imported.num_classes == 3
    model = build_segmenter(imported.config, 3).eval()
    model.network.load_state_dict(imported.state)
    image = torch.randint(0, 256, (1, 3, 40, 65), dtype=torch.uint8)
    assert_close(model(image), Segmenter(network)(image), "layer", torch.float32)


@pytest.mark.parametrize(
    ("dump", "rates"),
    [
        ("kazuto", [6, 12, 18, 24]),
        ("tv50", [12, 24, 36]),
        ("tvmb", [12, 24, 36]),
        ("vainf_deeplabv3plus_resnet50", [6, 12, 18]),
        ("jf_resnet", [6, 12, 18]),
    ],
)
def test_rates_of_the_head(dump: str, rates: list[int], extra_data: Path) -> None:
    """Too large for the small maps of the comparison with the originals to tell."""
    imported = import_state(dumped(extra_data / "state_dicts" / f"{dump}.txt"))
    with torch.device("meta"):
        network = build_segmenter(imported.config, 21).network
    heads = [
        layer for name, layer in network.named_modules() if re.search(r"branches\.\d\.(conv|fc8)$", name)
    ]
    assert [layer.dilation[0] for layer in heads if layer.kernel_size[0] == 3] == rates


def test_an_output_stride_that_the_file_does_not_name_can_be_given() -> None:
    state = twins.vainf_plus_state()
    (layout,) = (layout for layout in LAYOUTS if layout.name.startswith("VainF"))
    assert layout.convert(state, None).config.variant.output_stride == 16
    assert "output stride 16" in layout.convert(state, None).notes[0]
    eight = layout.convert(state, 8)
    assert (eight.config.variant.output_stride, eight.notes) == (8, ())
    with pytest.raises(InputError, match="output stride: 16, must be 8 for DeepLab v2"):
        import_state(twins.kazuto_state(), output_stride=16)
    with pytest.raises(InputError, match="output stride: 32"):
        import_state(state, output_stride=32)


@torch.no_grad()
def test_rates_that_no_file_names_can_be_given(extra_data: Path) -> None:
    """kazuto1011's DeepLabV2S has the tensors of its DeepLabV2, and other rates."""
    state, image = twins.kazuto_state(), torch.randint(0, 256, (1, 3, 64, 88), dtype=torch.uint8)
    imported = converted(state)
    assert "3 6 9 12" in imported.notes[0]
    imported = imported.with_rates((3, 6, 9, 12))
    assert imported.notes == ()
    model = build_segmenter(imported.config, twins.CLASSES).eval()
    model.network.load_state_dict(imported.state)
    original = twins.kazuto(state, image, multi_scale=True, rates=(3, 6, 9, 12))
    assert_close(model(image), original, "layer", torch.float32)
    torchvision_state = dumped(extra_data / "state_dicts/tv50.txt")
    variant = import_state(torchvision_state, rates=[6, 12, 18]).config.variant
    assert isinstance(variant, DeepLabV3Config)
    assert variant.rates == (3, 6, 9)  # at output stride 16; the network has 8
    for rates, words in (
        ([6, 12], r"rates is \[6, 12\], must be 3 numbers"),
        ([3, 6, 9], "must be even at output stride 8"),
        ([0, 6, 12], "must be numbers of at least 1"),
    ):
        with pytest.raises(InputError, match=words):
            import_state(torchvision_state, rates=rates)


def test_counters_of_batches_may_be_missing(extra_data: Path) -> None:
    """As in files from before PyTorch 0.4.1."""
    state = dumped(extra_data / "state_dicts/kazuto.txt")
    few = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    imported = import_state(few)
    assert imported.state.keys() == import_state(state).state.keys()
    counter = imported.state["backbone.bn1.num_batches_tracked"]
    assert counter.dtype == torch.int64
    assert counter == 0


def test_another_number_of_classes_starts_new_classifiers_and_says_so(extra_data: Path) -> None:
    state = dumped(extra_data / "state_dicts/kazuto.txt")
    imported = import_state(state, num_classes=7)
    assert imported.num_classes == 7
    assert len(imported.state) == 632 - 8
    assert "classifier of 21 classes" in imported.skipped[-1]
    assert import_state(state, num_classes=21).state.keys() == import_state(state).state.keys()
    with pytest.raises(InputError, match="classes: 1"):
        import_state(state, num_classes=1)


def test_what_is_missing_or_misshapen_is_named(extra_data: Path) -> None:
    state = dumped(extra_data / "state_dicts/tv50.txt")
    del state["backbone.layer3.2.bn2.running_mean"]
    with pytest.raises(InputError, match=r"it lacks what becomes backbone.layer3.2.bn2.running_mean"):
        import_state(state)
    state = dumped(extra_data / "state_dicts/tv50.txt")
    state["classifier.4.weight"] = torch.empty(21, 128, 1, 1, device="meta")
    with pytest.raises(
        InputError, match=r"classifier.weight is \[21, 128, 1, 1\], must be \[21, 256, 1, 1\]"
    ):
        import_state(state)
    state = {name: value for name, value in state.items() if "layer4" not in name}
    with pytest.raises(InputError, match=r"3 stages of \[3, 4, 6\] units"):
        import_state(state)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["fc.weight", "fc.bias"], r"no DeepLab layout that is known .*: it has 2 weights, fc.weight first"),
        (["base.layer1.conv1.conv.weight"], "not its DeepLab v2"),
        (["classifier.aspp.convs.1.0.body.0.weight"], "separable"),
        (["backbone.stage4.0.weight", "classifier.aspp.x"], "HRNetV2"),
        (["aspp.aspp1.atrous_conv.weight", "backbone.layer0.0.weight"], "DRN"),
    ],
)
def test_foreign_weights_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        import_state({name: torch.zeros(1) for name in names})


WEIGHTS = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(2)}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model_state": WEIGHTS, "best_score": np.float64(0.7), "cur_itrs": 3},  # VainF
        {"state_dict": {f"module.{k}": v for k, v in WEIGHTS.items()}, "epoch": 1, "best_pred": 0.5},
        {"model": WEIGHTS, "optimizer": {"state": {}}},
    ],
)
def test_state_dicts_are_found_in_checkpoints(content: dict[str, object], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pth")
    found = read_weights(tmp_path / "file.pth")
    assert found.keys() == WEIGHTS.keys()
    assert torch.equal(found["conv.weight"], WEIGHTS["conv.weight"])


def test_safetensors_are_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    shared = torch.arange(6.0).view(2, 3)
    write_safetensors(path, {"a": shared, "b": shared.T}, {"what": "x", "model": {"width": 1.0}})
    tensors, about = read_safetensors(path)
    assert torch.equal(tensors["b"], shared.T)
    assert about == {"what": "x", "model": '{"width": 1.0}'}
    assert read_weights(path).keys() == {"a", "b"}


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_damaged_and_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "good.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "good.pth").read_bytes()[:400])
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"numbers": [1, 2]}, tmp_path / "empty.pth")
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    torch.save({"a": Evil(tmp_path / "evil")}, tmp_path / "code.pth")
    for name in (
        "cut.pth",
        "text.pth",
        "text.safetensors",
        "empty.pth",
        "tensor.pth",
        "code.pth",
        "none.pth",
    ):
        with pytest.raises(InputError, match=name) as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "evil").exists()

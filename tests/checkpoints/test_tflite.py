"""TF-Lite DeepLabs: networks of every shape come back as they were; what is none is refused in one line."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crfnet.backbones.mobilenet_v2 import MobileNetV2Options
from crfnet.checkpoints.convert import convert_file, public_segmenter
from crfnet.checkpoints.tflite_file import read_tflite
from crfnet.cli.main import main
from crfnet.errors import InputError
from crfnet.models import DeepLabV3Config, ModelConfig, build_network
from crfnet.models.deeplab_v3 import DeepLabV3
from tests.tolerances import assert_close

pytest.importorskip("tflite")
from tests.checkpoints.tflite_writer import (
    Writer,
    randomized,
    scores_at_image_size,
    write_deeplab,
)

CLASSES, SIZE = 5, 65
WEIGHTS = "weights/deeplabv3_mobilenetv2_voc.tflite"


def network_of(multiplier: float = 0.35, divisible_by: int = 8, **variant: Any) -> DeepLabV3:
    config = ModelConfig(
        variant=DeepLabV3Config(**({"rates": ()} | variant)),
        backbone="mobilenet_v2",
        mobilenet_v2=MobileNetV2Options(multiplier, divisible_by),  # type: ignore[arg-type]
    )
    network = build_network(config, CLASSES)
    assert isinstance(network, DeepLabV3)
    return randomized(network)


@pytest.mark.parametrize(
    ("network", "writer"),
    [
        ({}, {}),
        ({"multiplier": 0.5, "divisible_by": 1}, {}),
        ({"multiplier": 1.4, "output_stride": 32}, {}),
        ({"output_stride": 8}, {}),
        ({"output_stride": 8, "rates": (6, 12, 18)}, {"interleave": True}),
        ({"rates": (6, 12), "separable": True}, {}),
        ({"rates": (6, 12), "separable": True, "image_pooling": False}, {"interleave": True}),
        ({"multiplier": 0.77}, {"storage": "float16"}),
        ({}, {"storage": "int8"}),
    ],
)
def test_a_network_comes_back_as_it_was(
    network: dict[str, Any], writer: dict[str, Any], tmp_path: Path
) -> None:
    original = network_of(**network)
    path = write_deeplab(original, tmp_path / "network.tflite", SIZE, Writer(**writer))
    imported = public_segmenter(path)
    assert imported.network.common.mobilenet_v2 == original.common.mobilenet_v2  # type: ignore[union-attr]
    assert imported.network.config.output_stride == original.config.output_stride  # type: ignore[union-attr]
    image = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    expected = scores_at_image_size(original, image / 127.5 - 1)
    if "storage" not in writer:
        assert_close(imported(image), expected, "layer", torch.float32)
    else:  # half precision: 11 bits of a weight; int8: 7
        error = (imported(image) - expected).norm() / expected.norm()
        assert error < {"float16": 2e-3, "int8": 5e-2}[writer["storage"]]
        assert error > 1e-5


def test_runtime_computes_the_same(tmp_path: Path) -> None:
    """TF-Lite's own interpreter on the file, where it is installed."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    original = network_of(rates=(6, 12))
    path = write_deeplab(original, tmp_path / "network.tflite", SIZE)
    runtime = interpreter.Interpreter(str(path))
    runtime.allocate_tensors()
    image = torch.randint(0, 256, (1, 3, SIZE, SIZE), dtype=torch.uint8)
    normalized = (image / 127.5 - 1).permute(0, 2, 3, 1).contiguous().numpy()
    runtime.set_tensor(runtime.get_input_details()[0]["index"], normalized)
    runtime.invoke()
    found = torch.from_numpy(runtime.get_tensor(runtime.get_output_details()[0]["index"]))
    assert_close(public_segmenter(path)(image), found.permute(0, 3, 1, 2), "layer", torch.float32)


def test_command_writes_a_checkpoint_that_the_config_beside_it_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_deeplab(network_of(), tmp_path / "network.tflite", SIZE)
    main(["import", str(path), "--out", str(tmp_path / "ours.pt")])
    said = capsys.readouterr().out
    assert "DeepLab v3, MobileNetV2 with multiplier 0.35, output stride 16, 5 classes" in said
    assert "must stay frozen" in said
    assert "made for images of 65x65 pixels" in said
    assert "preprocessing: tensorflow" in (tmp_path / "ours.yaml").read_text()
    assert (tmp_path / "ours.pt").is_file()


def test_other_classes_get_new_classifiers(tmp_path: Path) -> None:
    path = write_deeplab(network_of(), tmp_path / "network.tflite", SIZE)
    converted = convert_file(path, num_classes=3)
    assert converted.model["network.classifier.weight"].shape[0] == 3
    assert any("classifier of 5 classes" in note for note in converted.notes)
    with pytest.raises(InputError, match=r"network.tflite: output stride is 8, must be 16, as in the file"):
        convert_file(path, output_stride=8)


class Wrong(Writer):
    """Writes operations of one kind, and with one activation, otherwise.

    Args:
        kind: of the operation.
        activation: number of the activation; None for any.
        becomes: another kind, or "" for nothing.
        inputs: how many are kept.
        changes: of the options.
    """

    def __init__(
        self,
        kind: str,
        activation: int | None = None,
        *,
        becomes: str | None = None,
        inputs: int = 9,
        **changes: int,
    ) -> None:
        super().__init__()
        self.kind, self.activation, self.becomes = kind, activation, becomes
        self.kept, self.changes = inputs, changes

    def operation(self, kind: str, inputs: list[int], shape: tuple[int, ...], options: Any = ("", {})) -> int:
        name, fields = options
        if kind == self.kind and self.activation in (None, fields.get("FusedActivationFunction")):
            if self.becomes == "":
                return inputs[0]
            kind, inputs, fields = self.becomes or kind, inputs[: self.kept], fields | self.changes
        return super().operation(kind, inputs, shape, (name if kind == self.kind or fields else "", fields))


RELU, RELU6 = 1, 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Wrong("ADD", becomes=""), "does not add its input"),
        (Wrong("CONV_2D", inputs=2), "CONV_2D without constant weights and bias"),
        (Wrong("DEPTHWISE_CONV_2D", StrideH=2, StrideW=2), "output stride of the file is 262144, must be 8"),
        (Wrong("DEPTHWISE_CONV_2D", StrideH=3), r"stride of a convolution is \(3, 1\), must be the same"),
        (
            Wrong("DEPTHWISE_CONV_2D", DilationHFactor=2, DilationWFactor=2),
            r"stride and dilation of \S+conv_dw",
        ),
        (Wrong("DEPTHWISE_CONV_2D", Padding=1), r"padding of \S+conv_dw is 'VALID', must be 'SAME'"),
        (Wrong("CONV_2D", RELU6, FusedActivationFunction=RELU), "convolution 1 is not its conv_stem"),
        (
            Wrong("CONV_2D", RELU, FusedActivationFunction=0),
            "activation of aspp.image_pooling.conv is 'none'",
        ),
        (Wrong("RESIZE_BILINEAR", becomes="HARD_SWISH"), "HARD_SWISH: an operation that no DeepLab v3"),
        (Wrong("CONCATENATION", becomes=""), r"0 concatenations, must be 1 as in DeepLab v3"),
    ],
)
def test_what_is_no_such_network_is_refused(wrong: Writer, said: str, tmp_path: Path) -> None:
    path = write_deeplab(network_of(), tmp_path / "network.tflite", SIZE, wrong)
    with pytest.raises(InputError, match=f"network.tflite: .*{said}") as caught:
        convert_file(path)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = write_deeplab(network_of(), tmp_path / "network.tflite", SIZE)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="damaged") as caught:
            convert_file(path)
        assert "\n" not in str(caught.value)
    for _ in range(30):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(8, 2000, 20)
        damaged[np.concatenate([places, len(whole) - places])] = rng.integers(0, 256, 40)
        path.write_bytes(damaged.tobytes())
        with suppress(InputError):  # and nothing else
            convert_file(path)
    with pytest.raises(InputError, match=r"missing.tflite: cannot be read \(No such file"):
        convert_file(tmp_path / "missing.tflite")


def test_constants_that_are_all_the_same_bytes_are_refused(tmp_path: Path) -> None:
    """Four megabytes that stood for gigabytes."""
    writer = Writer()
    shape = (1_000_000,)
    writer.tensor(shape, np.zeros(shape, np.float32))
    shared = len(writer.buffers) - 1
    for _ in range(200):
        fields = {"Shape": writer.numbers(shape), "Type": 0, "Buffer": shared}
        writer.tensors.append(writer.table("Tensor", **fields))
        writer.shapes.append(shape)
    path = writer.finish(tmp_path / "a.tflite", 0, 1)
    with pytest.raises(InputError, match="many times the bytes of the file"):
        read_tflite(path)


def test_constants_are_dequantized(extra_data: Path) -> None:
    """Against the float32 weights that were taken out of the same file by other code."""
    graph = read_tflite(extra_data / WEIGHTS)
    with np.load((extra_data / WEIGHTS).with_suffix(".npz")) as arrays:
        stem = arrays["00_Conv.weight"].transpose(0, 2, 3, 1)
        bias = arrays["00_Conv.bias"]
    weight, shift = (graph.constants[number] for number in graph.operations[0].inputs[1:])
    assert graph.quantized
    assert_close(weight, torch.from_numpy(np.ascontiguousarray(stem)), "layer", torch.float32)
    assert_close(shift, torch.from_numpy(bias), "layer", torch.float32)


def stretched(extra_data: Path, name: str) -> torch.Tensor:
    """As the published file takes images: 513x513."""
    with Image.open(extra_data / "voc" / "JPEGImages" / f"{name}.jpg") as image:
        small = np.array(image.resize((513, 513), Image.Resampling.BILINEAR))
    return torch.from_numpy(small).permute(2, 0, 1)[None]


@torch.no_grad()
def test_published_network_gives_the_stored_scores(extra_data: Path) -> None:
    """Up to its int8 arithmetic, one step of which is 0.20 nats: root mean square below 0.4 nats."""
    model = public_segmenter(extra_data / WEIGHTS)
    with np.load(extra_data / "voc_scores" / "deeplabv3_mobilenetv2.npz") as stored:
        for number in (0, 1, 2):
            q = torch.from_numpy(stored["q"][number]).float() - int(stored["zero_point"])
            expected = q.permute(2, 0, 1)[None] * float(stored["scale"])
            scores = model.strided_logits(stretched(extra_data, str(stored["ids"][number])))
            assert (scores - expected).square().mean().sqrt() < 0.4
            assert (scores.argmax(1) == expected.argmax(1)).float().mean() > 0.98


@pytest.mark.slow
@torch.no_grad()
def test_published_network_reaches_its_miou(extra_data: Path) -> None:
    """72.9 on the first 54 images of val.txt, of 19 classes; 72.6 with the file's int8 arithmetic."""
    model = public_segmenter(extra_data / WEIGHTS)
    names = (extra_data / "voc" / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    counts = np.zeros((21, 21))
    for name in names[:54]:
        with Image.open(extra_data / "voc" / "SegmentationClass" / f"{name}.png") as mask:
            labels = np.array(mask).astype(int)
        scores = model.strided_logits(stretched(extra_data, name))
        resized = torch.nn.functional.interpolate(scores, labels.shape, mode="bilinear", align_corners=True)
        found, valid = resized.argmax(1)[0].numpy(), labels != 255
        np.add.at(counts, (labels[valid], found[valid]), 1)
    hits, labeled = np.diag(counts), counts.sum(1) > 0
    iou = (hits / (counts.sum(0) + counts.sum(1) - hits))[labeled]
    assert len(iou) == 19
    assert iou.mean() == pytest.approx(0.729, abs=0.002)

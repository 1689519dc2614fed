"""Models for other runtimes: what a CRF says of it, and the network as ONNX, run by onnxruntime."""

import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from crfnet.checkpoints.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from crfnet.cli.main import main
from crfnet.config.nested import flat
from crfnet.config.variants import to_plain
from crfnet.crf.config_file import load_crf_config
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.domain_transform import DomainTransformConfig
from crfnet.domain_transform.config_file import load_refinement
from crfnet.errors import InputError, how_to_install
from crfnet.models import ModelConfig
from crfnet.pipeline.export import export_onnx
from crfnet.segmenter import RefinementConfig, Segmenter, build_segmenter
from tests.test_cli import CONFIG

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
EXAMPLE = Path(__file__).parents[1] / "experiments/onnx/run.py"
TINY = ModelConfig(backbone="resnet18", width=0.125)


def photo(*size: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, *size), generator=torch.Generator().manual_seed(0)).float()


EXPORTERS: dict[str, Callable[[nn.Module, torch.Tensor], object]] = {
    "torch.export": lambda model, x: torch.export.export(model, (x,)),
    "torch.jit.trace": lambda model, x: torch.jit.trace(model, (x,)),
    "torch.jit.script": lambda model, x: torch.jit.script(model),
    "torch.onnx": lambda model, x: torch.onnx.export(model, (x,), verbose=False),
}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_crf_says_what_to_do_instead(exporter: str) -> None:
    if exporter == "torch.onnx":
        pytest.importorskip("onnxscript")
    crf = DenseCRF(4, CRFConfig(iterations=1)).eval()
    with pytest.raises(Exception, match=r"a dense CRF cannot be exported .*`crfnet export`"):
        EXPORTERS[exporter](Segmenter(nn.Conv2d(3, 4, 1), crf).eval(), photo(9, 11))


def test_in_one_line() -> None:
    with pytest.raises(InputError) as caught:
        torch.export.export(Behind(), (torch.zeros(1, 2, 5, 6), photo(5, 6)))
    assert "\n" not in str(caught.value)


class Behind(nn.Module):
    """A layer in a network of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.crf = DenseCRF(2)

    def forward(self, logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return self.crf(logits, image)


#: Of a process in which no shapes are checked: the checks are in the way of exporters.
ALONE = """
import torch
from torch import nn
from crfnet import DenseCRF, Segmenter
model, image = Segmenter(nn.Conv2d(3, 4, 3, 2, 1)).eval(), 255 * torch.rand(1, 3, 9, 11)
with torch.no_grad():
    expected = model(image)
    for strict in (False, True):
        exported = torch.export.export(model, (image,), strict=strict).module()
        torch.testing.assert_close(exported(image), expected)
    torch.testing.assert_close(torch.jit.trace(model, (image,))(image), expected)
model.crf = DenseCRF(4)
try:
    torch.export.export(model, (image,), strict=True)
except Exception as error:
    print(error)
"""


def test_a_segmenter_without_a_crf_can_be_exported() -> None:
    """Float images too, whose values cannot be looked at meanwhile; with a CRF strict export says why not."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a dense CRF cannot be exported" in done.stdout


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a network, and one with a CRF, two steps each; its folder."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "run.yaml").write_text(yaml.safe_dump({**CONFIG, "output": str(folder / "out")}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(["train", str(folder / "run.yaml")])
        unary = folder / "out/unary/train/checkpoint.pt"
        main(["train", str(folder / "run.yaml"), "--stage", "joint", "--checkpoint", str(unary)])
    return folder


def test_a_network_with_its_crf_behind_it(checkpoints: Path, tmp_path: Path) -> None:
    """The example's label map is that of predict."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    checkpoint = checkpoints / "out/joint/train/checkpoint.pt"
    out = tmp_path / "toy.onnx"
    command = [sys.executable, "-m", "crfnet", "export", str(checkpoint), "--to", "onnx", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert f"{out}: images (b, 3, h, w) of any size to logits, the network's within" in said
    assert f"{tmp_path / 'toy_crf.yaml'}: the CRF of the checkpoint" in said
    assert load_crf_config(tmp_path / "toy_crf.yaml").iterations == 2
    assert not list(tmp_path.glob("*.data"))
    Image.fromarray(photo(45, 62)[0].permute(1, 2, 0).byte().numpy()).save(tmp_path / "photo.png")
    labels = runpy.run_path(str(EXAMPLE))["main"](
        [
            str(out),
            str(tmp_path / "photo.png"),
            "--crf",
            str(tmp_path / "toy_crf.yaml"),
            "--out",
            str(tmp_path / "l.png"),
        ]
    )
    arguments = [
        "--checkpoint",
        str(checkpoint),
        str(tmp_path / "photo.png"),
        "--output",
        str(tmp_path / "p"),
    ]
    main(["predict", str(checkpoints / "run.yaml"), *arguments])
    predicted = np.array(Image.open(tmp_path / "p/predictions/photo.png"))
    assert labels.shape == predicted.shape == (45, 62)
    assert (labels == predicted).mean() > 0.999
    assert (np.array(Image.open(tmp_path / "l.png")) == labels).all()


def test_refused_before_work(checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = checkpoints / "out/unary/train/checkpoint.pt"
    alone = tmp_path / "alone/checkpoint.pt"
    alone.parent.mkdir()
    alone.write_bytes(checkpoint.read_bytes())
    (tmp_path / "there.onnx").write_text("mine")
    for arguments, words in (
        ([str(alone), "--to", "onnx"], "does not say its network; give the run's config (--config)"),
        ([str(tmp_path / "none.pt"), "--to", "onnx"], "none.pt: no such file"),
        (
            [str(checkpoint), "--to", "onnx", "--out", str(tmp_path / "a.pt")],
            "must be a file that ends in .onnx",
        ),
        (
            [str(checkpoint), "--to", "onnx", "--out", str(tmp_path / "there.onnx")],
            "exists already; give --overwrite",
        ),
        (
            [str(checkpoint), "--to", "onnx", "--size", "0", "9"],
            "export: --size is [0, 9], must be two numbers >= 1",
        ),
        ([str(checkpoint), "--to", "tflite"], "invalid choice: 'tflite'"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["export", *arguments])
        assert caught.value.code == 2
        assert words in capsys.readouterr().err
    assert (tmp_path / "there.onnx").read_text() == "mine"


def test_the_config_may_be_given(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crfnet.pipeline.export import model_of_checkpoint

    alone = tmp_path / "checkpoint.pt"
    alone.write_bytes((checkpoints / "out/joint/train/checkpoint.pt").read_bytes())
    model, crf = model_of_checkpoint(alone, checkpoints / "run.yaml")
    assert model.crf is None
    assert crf is not None
    weights = read_checkpoint(alone)["model"]
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("behind", [DomainTransformConfig(sigma_s=9.0), CRFConfig(w1=7.0, iterations=1)])
def test_a_gray_network_with_what_stands_behind_it(tmp_path: Path, behind: RefinementConfig) -> None:
    """Weights that the config began with are not read again: the file is gone."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = build_segmenter(TINY, 3, behind, channels=1).eval()
    key = "crf" if isinstance(behind, CRFConfig) else "domain_transform"
    settings = {"num_classes": 3, **flat(to_plain(behind), f"{key}.")}
    checkpoint = Checkpoint(
        step=0, seconds=0.0, settings=settings, model=model.state_dict(), optimizer={}, random={}
    )
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    data = {"name": "folders", "root": "gone", "classes": ["a", "b", "c"], "channels": 1}
    network = {"backbone": "resnet18", "width": 0.125, "backbone_weights": str(tmp_path / "gone.pth")}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"data": data, "model": network}))
    command = [sys.executable, "-m", "crfnet", "export", str(tmp_path / "a.pt"), "--to", "onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "images (b, 1, h, w)" in done.stdout
    found = load_refinement(tmp_path / "a_crf.yaml")
    assert type(found) is type(behind)
    name = "w1" if isinstance(behind, CRFConfig) else "sigma_s"
    assert getattr(found, name) == pytest.approx(getattr(behind, name))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        export_onnx(build_segmenter(TINY, 3), tmp_path / "a.onnx")
    assert how_to_install(caught.value) == "needs onnx: pip install 'crfnet[export]'"


#: Model sections, and the multiple that sizes must be; 0 where one size alone can be had.
VARIANTS = {
    "deeplab_v1": ("variant='deeplab_v1', backbone='vgg16'", "any size"),
    "deeplab_v3": ("variant='deeplab_v3', backbone='resnet18'", "any size"),
    "deeplab_v3plus": ("variant='deeplab_v3plus', backbone='resnet18'", "multiples of 32"),
    "three scales": ("variant=DeepLabV2Config(multi_scale=True), backbone='resnet18'", "(65, 81) alone"),
}
EXPORT = """
from pathlib import Path
from crfnet.errors import InputError
from crfnet.models import DeepLabV2Config, ModelConfig
from crfnet.pipeline.export import export_onnx
from crfnet.segmenter import build_segmenter
model, path = build_segmenter(ModelConfig({0}, width=0.125), 3).eval(), Path({1!r})
try:
    made = export_onnx(model, path)
except InputError as error:
    assert "cannot be exported for every size; give one size (--size" in str(error), error
    made = export_onnx(model, path, size=(65, 81))
assert made.difference < 1e-4, made
print({{0: "(65, 81) alone", 1: "any size"}}.get(made.multiple, f"multiples of {{made.multiple}}"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    config, sizes = VARIANTS[name]
    code = EXPORT.format(config, str(tmp_path / "a.onnx"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith(sizes), done.stderr

"""``pip install crfnet`` without an extra: what it does, and what it says of the rest."""

import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import crfnet
from crfnet.errors import EXTRAS, how_to_install
from tests.test_readme import BLOCKS

ROOT = Path(__file__).parents[1]

#: First lines of a program in which only what a small installation brings can be imported.
SMALL = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the built wheel is installed, alone."""
    folder = tmp_path_factory.mktemp("small")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run = lambda *words: subprocess.run([*pip, *words], check=True, cwd=folder)  # noqa: E731
    run("wheel", "--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", "wheels", str(ROOT))
    (wheel,) = (folder / "wheels").iterdir()
    run("install", "--no-index", "--no-deps", "--target", "site", str(wheel))
    return folder / "site"


def python(installed: Path, program: str) -> subprocess.CompletedProcess[str]:
    """The program in a small installation."""
    return subprocess.run(
        [sys.executable, "-c", SMALL + program],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=installed.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_readme_and_the_public_names_work(installed):
    blocks = [block for block in BLOCKS if "torchvision" not in block]
    assert sum("pydensecrf" in block for block in blocks) == 1
    assert any("DenseCRF.preset" in block for block in blocks)
    own = """
        from pathlib import Path

        import crfnet
        import torch
        from crfnet import CRFConfig, DenseCRF, DenseCRFLoss, Segmenter, example_photo

        assert Path(crfnet.__file__).is_relative_to(Path("site").resolve()), crfnet.__file__
        assert Path(crfnet.__file__).with_name("py.typed").is_file()
        assert example_photo().image.shape == (1, 3, 512, 512)
        image = torch.randint(0, 256, (1, 3, 9, 11), dtype=torch.uint8)
        network = torch.nn.Conv2d(3, 4, 3, padding=1)
        logits = Segmenter(network, DenseCRF(4, CRFConfig()))(image)
        assert logits.shape == (1, 4, 9, 11)
        DenseCRFLoss()(logits.softmax(1), image).backward()
        assert network.weight.grad is not None
    """
    ended = python(
        installed, "".join(f"exec({block!r}, {{}})\n" for block in [*blocks, textwrap.dedent(own)])
    )
    assert ended.returncode == 0, ended.stderr


def test_what_needs_an_extra_says_so_in_one_line(installed):
    names = """
        def line(work):
            try:
                work()
            except ModuleNotFoundError as error:
                return str(error)

        def load():
            from crfnet import load_crf_config

        def build(**choices):
            from crfnet.models import ModelConfig
            from crfnet.segmenter import build_segmenter
            build_segmenter(ModelConfig(**choices), 3)

        print(line(load))
        print(line(lambda: build(backbone="timm:resnet26")))
        print(line(lambda: build(backbone="resnet18", weights="imagenet")))
        print(line(lambda: build(backbone="resnet18")))
    """
    ended = python(installed, textwrap.dedent(names))
    loaded, timm, weights, none = ended.stdout.splitlines()
    assert re.fullmatch(
        r"crfnet\.load_crf_config needs (pyyaml|jsonargparse): pip install 'crfnet\[cli\]'", loaded
    )
    assert timm == "backbone timm:resnet26 needs timm: pip install 'crfnet[cli]'"
    assert weights == "weights: imagenet, of resnet18, needs torchvision: pip install 'crfnet[cli]'"
    assert none == "None"


def test_commands_say_what_to_install(installed):
    start = "from crfnet.cli.main import main\nmain({})\n"
    ended = python(installed, start.format(["demo"]))
    assert ended.returncode == 2
    assert re.fullmatch(r"crfnet: needs [\w-]+: pip install 'crfnet\[cli\]'\n", ended.stderr)
    ended = python(installed, start.format(["evaluate", "--help"]))
    assert ended.returncode == 0, ended.stderr
    assert "--predictions DIR" in ended.stdout


def test_the_wheel_requires_what_is_said(installed):
    """The extras that errors name are those that bring the modules; nothing of them is required without."""
    (wheel,) = (installed.parent / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        text = archive.read(metadata).decode()
        licenses = [name for name in archive.namelist() if Path(name).name.startswith("LICENSE")]
        assert len(licenses) == 3, "the project's, the photo's beside it and beside the photo"
    assert f"\nVersion: {crfnet.__version__}\n" in text
    requirements = re.findall(r"^Requires-Dist: ([\w-]+)(.*)$", text, re.MULTILINE)
    extras = {
        (name, found.group(1))
        for name, rest in requirements
        if (found := re.search(r"extra == '([^']+)'", rest))
    }
    optional = {pair for pair in extras if pair[1] != "dev"}
    assert optional == set(EXTRAS.values())
    required = {name for name, rest in requirements if "extra" not in rest}
    assert {"torch", "numpy"} <= required
    assert not required & {name for name, _ in optional}


def test_other_errors_are_no_missing_extra():
    assert how_to_install(ModuleNotFoundError("No module named 'nowhere'", name="nowhere")) is None
    assert how_to_install(ValueError("PIL")) is None

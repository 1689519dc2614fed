"""What a late stage of a comparison would refuse is refused when it starts; errors of ours are one line."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from crfnet.errors import InputError, is_refusal, require
from crfnet.models import build_network
from tests.models.configs import model_config
from tests.multiprocess import ended, said, start
from tests.test_cli import CONFIG, config, refused, voc_folder

__all__ = ["config", "refused"]

POOLED = ["--model.variant", "deeplab_v3"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--joint.loss", "stride", "--joint.unary_loss", "0"], "joint.loss is 'stride', must be image"),
        (POOLED, "joint.batch_size is 1, which leaves 1 image for each process and part"),
        (["--joint.class_weights", "[1, 2]"], "joint.class_weights is [1.0, 2.0], must be balanced or 6"),
        (["--joint.validate_every", "1", "--joint.early_stop", "1"], "joint.early_stop is 1, must be 0"),
        (["--search.storage", "sqlite:////nowhere/of/that/name.db"], "/nowhere/of/that/name.db"),
        (["--search.storage", "nonsense"], "not a database URL"),
        (["--crf.filter", "exact", "--crf.exact.eps", "2"], "crf.exact"),
    ],
)
def test_compare_refuses_late_stages_at_once(arguments, part, config, tmp_path, refused):
    assert part in refused("compare", config, *arguments)
    assert not (tmp_path / "out").exists()


def test_compare_refuses_images_that_no_trimap_is_in(config, tmp_path, refused):
    """The masks have no void: the search's criterion would be undefined, after the first training."""
    root = voc_folder(tmp_path / "voc")
    data = ["--data.name", "voc", "--data.root", root, "--search.images", "1"]
    line = refused("compare", config, *data, "--search.criterion", "trimap")
    assert "search.criterion is 'trimap', but no pixel of the images is inside it" in line
    assert not (tmp_path / "out").exists()


def test_compare_refuses_late_stages_in_two_processes(config, tmp_path):
    command = ["compare", config, *POOLED, "--train.batch_size", "4", "--joint.batch_size", "2"]
    assert ended(start(2, tmp_path / "said", command)) == [2, 2]
    (line,) = said(tmp_path / "said")
    assert line.startswith("crfnet: joint.batch_size is 2, which leaves 1 image for each process")
    assert not (tmp_path / "out").exists()


def test_a_value_error_of_ours_is_one_line(config, refused):
    one = {"name": "folders", "root": str(config.parent), "classes": ["alone"]}
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(content | {"data": one}))
    (config.parent / "images/train").mkdir(parents=True)
    (config.parent / "masks/train").mkdir(parents=True)
    (config.parent / "images/train/a.png").write_bytes(b"")
    assert "num_classes" in refused("train", config)


def test_which_errors_are_ours():
    def caught(work) -> bool:
        with pytest.raises(Exception) as found:  # noqa: PT011 - any, that is what is told apart
            work()
        return is_refusal(found.value)

    assert caught(lambda: require("a", 1, False, "2"))
    assert caught(lambda: build_network(model_config(), 1))
    assert not caught(lambda: int("x"))
    assert not caught(lambda: Path("\0").exists() or open("\0"))  # noqa: SIM115, PTH123
    assert not caught(lambda: {}["x"])
    assert is_refusal(InputError("x"))


def test_names_that_only_a_mapping_can_hide(tmp_path):
    """YAML reads ``no`` as a boolean in a key, too; without the tests' type checks, as users run it."""
    path = tmp_path / "run.yaml"
    path.write_text("data: {name: folders, colors: {no: [0, 0, 0], yes: [1, 1, 1]}}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "crfnet", "data", "check", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "put names in quotes" in ended.stderr
    assert ended.stderr.count("\n") == 1


assert CONFIG["joint"]["batch_size"] == 1  # what the second case above needs

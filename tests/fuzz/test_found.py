"""The simplest examples of what was found, one each: all of them ended in a traceback or a wrong result."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from crfnet.checkpoints.checkpoint import checkpoint_crf, read_checkpoint, restore
from crfnet.cli.main import main
from crfnet.crf.config import CRFConfig
from crfnet.errors import InputError
from crfnet.evaluation.evaluator import EvaluationConfig
from crfnet.files import read_arrays, read_yaml
from crfnet.files.weight_files import read_unwrapped
from crfnet.labels import read_label_png
from crfnet.pipeline.run_config import load_run
from crfnet.pipeline.run_folder import run_stage, stage_seconds
from crfnet.report.energy_curves import read_energy_traces
from crfnet.report.training_curves import read_training_log
from crfnet.score_cache import ScoreFolder
from crfnet.score_cache.recognition import label_axes
from tests.fuzz import test_pictures
from tests.fuzz.damage import Damage
from tests.fuzz.factories import bomb, npy, pictures
from tests.fuzz.fixture_tree import CLASSES, SIZE, remove
from tests.fuzz.harness import refused


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("prediction", "two bits"),  # 1 was read as 85, 3 as void
        ("photo", "I;16"),  # was cut at 255
        ("gray", "huge"),
        ("class", "one pixel of label"),
        ("indexed", "text bomb"),
        ("png", "no pixel"),
        ("photo", "rotated"),
    ],
)
def test_pictures_of_another_kind(fixtures, name, made):
    test_pictures.example(fixtures, name, Damage(made))


def test_two_bits_are_not_stretched(tmp_path):
    (tmp_path / "a.png").write_bytes(pictures()["two bits"])
    with pytest.raises(InputError, match=r"a\.png is a mask of mode L;2"):
        read_label_png(tmp_path / "a.png")


def test_scores_that_are_no_scores(fixtures):
    folder = fixtures.root / "scores"
    with fixtures.damaged(folder / "a.npz") as path:
        remove(path)
        path.mkdir()
        with pytest.raises(InputError, match=r"a\.npz: cannot be read \(Is a directory\)"):
            ScoreFolder(folder).stored_logits("a")
        path.rmdir()
        path.write_bytes(bomb("scores"))
        with pytest.raises(InputError, match="would unpack"):
            ScoreFolder(folder).stored_logits("a")
    with fixtures.damaged(folder / "c.npy") as path:
        path.write_bytes(npy(np.full((CLASSES, *SIZE), 1e300)))  # finite, until it is float32
        with pytest.raises(InputError, match="NaN or infinity"):
            ScoreFolder(folder).stored_logits("c")


def test_a_header_that_claims_more_than_the_file_holds(tmp_path):
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 100000)}"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + bytes([len(text), 0]) + text + bytes(400))
    with pytest.raises(ValueError, match="40000000000 bytes, and holds 400"):
        read_arrays(tmp_path / "a.npy")


def test_conversions_that_left_folders_which_cannot_be_read(fixtures):
    png, npy_ = fixtures.root / "foreign/png/a_1.png", fixtures.root / "foreign/npy/a.npy"
    with fixtures.damaged(png):
        png.unlink()
        assert "1 class, must be 2" in refused(fixtures, ["convert-scores", png.parent, "--to", fixtures.out])
    with fixtures.damaged(npy_):
        np.save(npy_, np.zeros((CLASSES, 0, 20), np.float32))
        assert "a.npy" in refused(fixtures, ["convert-scores", npy_.parent, "--to", fixtures.out])


def test_a_progress_bar_does_not_stand_before_the_line(fixtures):
    """What the line of an error would have been part of; `harness.run` finds no line then."""
    with fixtures.damaged(fixtures.root / "foreign/npy/c.npy") as path:
        path.write_bytes(b"words")
        command = ["convert-scores", path.parent, "--to", fixtures.out]
        from tests.fuzz.harness import run

        assert run(fixtures, command, ["c.npy"], partial=True).status == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {variant: deeplab_v3, deeplab_v3: {separable: null}}\n", "deeplab_v3.separable is null"),
        ("train:\n  lr: 1\ntrain:\n  lr: 2\n", "key train twice"),
        ("a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
         "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n",
         "more than 10000 values"),
        ("title: " + "[" * 3000, "nested too deeply"),
        ("title: &a [*a]\n", "nested too deeply"),
        ("title: !!bool x\n", "cannot be read as YAML"),
        ("title: 2001-13-45\n", "month must be in 1..12"),
        ("- a\n", "must be sections"),
        ("seed: -1\n", "seed is -1, must be in 0..4294967295"),
        ("output: \"a\\0b\"\n", "must be the name of a folder"),
    ],
)  # fmt: skip
def test_configs(fixtures, text, said):
    with fixtures.damaged(fixtures.config) as path:
        path.write_text(text)
        with pytest.raises(InputError, match=said.replace(".", r"\.")):
            load_run(path)


def test_merge_keys_and_aliases_are_yaml(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}}


@pytest.mark.parametrize("change", [{"draws": 10**9}, {"max_width": 10**9}, {"seed": -1}])
def test_scoring(change):
    with pytest.raises(InputError, match=next(iter(change))):
        EvaluationConfig(**change)


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1}', '{"seconds": "x"}', '{"seconds": 1'])
def test_records_of_stages(tmp_path, text):
    (tmp_path / "stage.json").write_text(text)
    with pytest.raises(InputError, match=r"stage\.json: damaged"):
        run_stage(tmp_path, dict)
    with pytest.raises(InputError, match=r"stage\.json: damaged"):
        stage_seconds(tmp_path)


def test_logs_and_energies(tmp_path):
    log = tmp_path / "log.jsonl"
    good = json.dumps({"step": 1, "crf": {"w1": 2.0}})
    for bad in (
        "[1]",
        '{"step": 2, "crf": [1]}',
        '{"crf": {"w1": 1}}',
        '{"step": 2, "crf": {"w1": "x"}}',
        "\xff",
    ):
        log.write_text(f"{good}\n{bad}\n{good}\n", encoding="latin-1")
        assert read_training_log(log) == {"w1": ([1], [2.0])}
    (tmp_path / "energy.csv").write_text("image,iteration,free_energy,change\n")
    with pytest.raises(InputError, match="no energies"):
        read_energy_traces(tmp_path / "energy.csv")


@pytest.mark.parametrize("settings", [None, ["crf.w1"], {"crf.nothing": 1}, {"crf.w1": "x"}, {1: 2}])
def test_settings_of_checkpoints(fixtures, tmp_path, settings):
    content = read_checkpoint(fixtures.root / "checkpoint.pt")
    torch.save({**content, "settings": settings}, tmp_path / "c.pt")
    with pytest.raises(InputError, match=r"c\.pt: (damaged|its CRF)"):
        checkpoint_crf(tmp_path / "c.pt")


@pytest.mark.parametrize(
    "value", [None, 3, torch.zeros(2, dtype=torch.complex64), torch.full((2,), torch.nan)]
)
def test_weights_of_checkpoints(fixtures, value):
    content = read_checkpoint(fixtures.root / "checkpoint.pt")
    with fixtures.damaged(fixtures.root / "checkpoint.pt") as path:
        torch.save({**content, "model": {**content["model"], next(iter(content["model"])): value}}, path)
        command = ["predict", fixtures.config, "--checkpoint", path, "--split", "val"]
        assert "no array of real" in (said := refused(fixtures, command, path.name)) or "NaN" in said


def test_a_large_label_map_is_no_bomb(tmp_path):
    Image.new("L", (4000, 4000)).save(tmp_path / "a.png")
    assert read_label_png(tmp_path / "a.png").shape == (4000, 4000)


def test_a_zip_of_which_only_the_end_is_right(tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    content = path.read_bytes()
    path.write_bytes(content[:-22] + b"\x01" + content[-22:])  # its directory is not where it says
    with pytest.raises(InputError, match=r"net\.pt: damaged, or no file of weights"):
        read_unwrapped(path)


def test_links_in_a_loop(tmp_path, capsys):
    loop = tmp_path / "net.safetensors"
    loop.symlink_to(loop)
    with pytest.raises(SystemExit) as ended:
        main(["import", str(loop), "--out", str(tmp_path / "net.pt")])
    assert ended.value.code == 2
    assert "net.safetensors" in capsys.readouterr().err


def test_labels_that_vary_are_not_taken_for_rows():
    broken = [np.zeros((labels, 16, 20), np.float32) for labels in (3, 3, 2)]
    assert label_axes(broken) is None
    assert label_axes([np.zeros((rows, 20, 3), np.float32) for rows in (16, 17)]) == "hwl"


def test_weights_that_leave_no_number_in_float32():
    with pytest.raises(InputError, match=r"crf.w1 is 1000000000.0, must be >= 0 .* at most 1e\+06"):
        CRFConfig(w1=1e9)


@pytest.mark.parametrize("rate", [10**19, 1e300])
def test_learning_rates_that_torch_cannot_take(tmp_path, rate):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = rate
    with pytest.raises(InputError, match="lr is 1"):
        restore(tmp_path / "c.pt", {"model": model.state_dict(), "optimizer": state}, model, optimizer)

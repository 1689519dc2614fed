"""The experiments' scripts, end to end on a few tiny images."""

import csv
import runpy
from pathlib import Path

import pytest
import yaml

from crfnet.cli.main import main as crfnet
from tests.test_cli import CONFIG

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def script(name: str):
    """The function that the script of an experiment runs."""
    return runpy.run_path(str(EXPERIMENTS / name / "run.py"))["main"]


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "run.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.fixture(scope="module")
def scores(config) -> Path:
    """Cached scores of a network that was trained for two steps."""
    output = str(config.parent / "network")
    crfnet(["train", str(config), "--output", output])
    checkpoint = f"{output}/unary/train/checkpoint.pt"
    crfnet(["scores", str(config), "--checkpoint", checkpoint, "--output", output])
    return Path(output) / "scores"


def test_posthoc_vs_joint_compares_all_arms(config, tmp_path):
    fast = ["--evaluation.max_width", "2", "--evaluation.draws", "5"]
    script("posthoc_vs_joint")(["--config", str(config), "--output", str(tmp_path), "--seeds", "3", *fast])
    assert [path.name for path in tmp_path.iterdir()] == ["seed3"]  # one seed, one report
    made = yaml.safe_load((tmp_path / "seed3/config.yaml").read_text())
    assert (made["seed"], made["evaluation"]["draws"]) == (3, 5)
    assert "`joint` − `posthoc+`" in (tmp_path / "seed3/report.md").read_text()


def test_posthoc_vs_joint_reports_on_all_seeds(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("crfnet.cli.main.main", calls.append)
    script("posthoc_vs_joint")(["--output", str(tmp_path), "--seeds", "0", "3", "--train.iterations", "9"])
    runs = [str(tmp_path / f"seed{seed}") for seed in (0, 3)]
    for call, seed, run in zip(calls, "03", runs, strict=False):
        assert Path(call[1]).name == "demo.yaml"
        assert [call[0], *call[2:]] == [
            *("compare", "--seed", seed, "--output", run, "--resume", "--train.iterations", "9")
        ]
    assert calls[2:] == [["report", *runs, "--output", str(tmp_path / "report"), "--overwrite"]]


def test_grid_search_reports_on_the_images_it_did_not_search(config, scores, tmp_path):
    arguments = ["--config", str(config), "--scores", str(scores), "--output", str(tmp_path)]
    arguments += ["--search.images", "3", "--evaluation.max_width", "2", "--evaluation.draws", "5"]
    script("grid_search")(arguments)
    searched = set((tmp_path / "search/images.txt").read_text().split())
    with (tmp_path / "evaluation/posthoc/per_image.csv").open() as stream:
        reported = {row["id"] for row in csv.DictReader(stream)}
    assert (len(searched), len(reported)) == (3, 2)
    assert not searched & reported
    page = (tmp_path / "evaluation/report.html").read_text()
    assert "Heat map of the search for posthoc" in page
    script("grid_search")(arguments)  # finished: nothing is refused


def test_trimap_scores_the_parts_of_a_crf(config, scores, tmp_path):
    crf, exclude = tmp_path / "best.yaml", tmp_path / "images.txt"
    crf.write_text("crf: {w1: 3.0, theta_alpha: 8.0, theta_beta: 8.0, w2: 2.0, iterations: 2}\n")
    exclude.write_text("val_00001\n")
    arguments = ["--config", str(config), "--scores", str(scores), "--crf", str(crf)]
    output = tmp_path / "out"
    arguments += ["--exclude", str(exclude), "--output", str(output), "--evaluation.draws", "5"]
    script("trimap")(arguments)
    rows = list(csv.DictReader((output / "scores.csv").read_text().splitlines()))
    found = {(row["arm"], row["metric"]): float(row["value"]) for row in rows}
    for arm in ("unary", "crf", "no_bilateral", "no_spatial", "local"):
        assert 0 <= found[arm, "trimap_void/miou@10"] <= 1
    report = (output / "report.md").read_text()
    assert "4 images" in report
    assert "| `no_bilateral` | 0 |" in report
    assert (output / "trimap.png").stat().st_size > 10_000


def test_domain_transform_beside_the_crf_on_images_that_no_search_saw(config, scores, tmp_path):
    arguments = ["--config", str(config), "--scores", str(scores), "--output", str(tmp_path)]
    arguments += ["--search.images", "3", "--evaluation.max_width", "2", "--evaluation.draws", "5"]
    arguments += ["--domain_transform_search.sigma_s", "[4.0]", "--domain_transform_search.sigma_r", "[60.0]"]
    script("domain_transform")(arguments)
    rows = list(csv.DictReader((tmp_path / "evaluation/scores.csv").read_text().splitlines()))
    arms = {"unary", "crf_default", "posthoc", "dt_default", "dt"}
    assert arms | {"dt - posthoc", "dt_default - unary"} <= {row["arm"] for row in rows}
    for search in ("search", "search_domain_transform"):
        searched = set((tmp_path / search / "images.txt").read_text().split())
        for arm in arms:
            with (tmp_path / "evaluation" / arm / "per_image.csv").open() as stream:
                reported = {row["id"] for row in csv.DictReader(stream)}
            assert (len(searched), len(reported), searched & reported) == (3, 2, set())
    script("domain_transform")(arguments)  # finished: nothing is refused


@pytest.mark.parametrize(
    "name", ["posthoc_vs_joint", "grid_search", "domain_transform", "trimap", "joint_training"]
)
def test_bad_input_is_one_line(name, capsys, monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS / name)
    needed = {each: ["--scores", "none"] for each in ("grid_search", "domain_transform")}
    needed |= {"trimap": ["--scores", "none", "--crf", "none"]}
    with pytest.raises(SystemExit) as stop:
        script(name)([*needed.get(name, []), "--search.imagse", "3"])
    assert stop.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "unknown key search.imagse; did you mean search.images?" in said[0]


def test_joint_training_study_tells_collapse_from_training(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS / "joint_training")
    rows = {
        "small": {
            "control": {"crf": False},
            "joint": {},
            "wild": {"changes": {"joint.lr": 1e30}},
            "fixed": {"start": "config", "changes": {"joint.crf_lr": 0.0, "crf.weights": "full"}},
        }
    }
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(rows, sort_keys=False))
    small = {
        "data": {"toy": {"train": 3, "val": 5, "size": [32, 40]}},
        "model": {"width": 0.125},
        "train": {"iterations": 2, "batch_size": 2, "augment.crop": [32, 40]},
        "joint": {"iterations": 3, "batch_size": 1, "augment.crop": [32, 40]},
        "crf": {"iterations": 2, "train_iterations": 2},
        "search": {"images": 2, "w1": [3], "theta_alpha": [8], "theta_beta": [8], "iterations": 2},
        "evaluation": {"draws": 20},
    }
    changes = [
        word
        for section, keys in small.items()
        for key, value in keys.items()
        for word in (f"--{section}.{key}", str(value))
    ]
    output = tmp_path / "out"
    script("joint_training")(["--settings", str(settings), "--output", str(output), *changes])
    found = {row["setting"]: row for row in csv.DictReader((output / "results.csv").read_text().splitlines())}
    assert [*found] == ["control", "joint", "wild", "fixed"]
    assert found["wild"]["outcome"].startswith("diverged in step")
    assert not found["joint"]["outcome"].startswith("diverged")
    assert float(found["fixed"]["w1"]) == pytest.approx(4.0)  # the config's, and crf_lr 0 keeps it
    assert float(found["joint"]["w1"]) != 3.0
    steps = list(csv.DictReader((output / "curves.csv").read_text().splitlines()))
    joint = [row for row in steps if (row["setting"], row["seed"]) == ("joint", "0")]
    assert [row["step"] for row in joint] == ["0", "1", "2", "3"]
    assert all(0 <= float(joint[step]["miou"]) <= 1 for step in (0, 2, 3))
    assert {path.name for path in output.glob("*.png")} == {"curves_small.png"}

"""The experiments' scripts, end to end on a few tiny images."""

import csv
import runpy
from pathlib import Path

import pytest
import torch
import yaml

from crfnet.checkpoints.checkpoint import read_checkpoint
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


def test_posthoc_vs_joint_begins_with_a_checkpoint(config, scores, tmp_path):
    checkpoint = str(scores.parent / "unary/train/checkpoint.pt")
    what = ["--checkpoint", checkpoint, "--arms", "unary,unary+", "--seeds", "0", "1", "0"]
    fast = ["--evaluation.max_width", "2", "--evaluation.draws", "5"]
    script("posthoc_vs_joint")(["--config", str(config), "--output", str(tmp_path), *what, *fast])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "seed0", "seed1"]
    assert not (tmp_path / "seed0/unary/train").exists()  # it was trained before
    assert (tmp_path / "seed1/unary_plus/train/checkpoint.pt").is_file()
    report = (tmp_path / "report/report.md").read_text()
    assert "mean of 2 seeds" in report
    assert "`unary+` − `unary`" in report
    assert "`posthoc`" not in report


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
    "name", ["posthoc_vs_joint", "grid_search", "domain_transform", "trimap", "joint_training", "ablations"]
)
def test_bad_input_is_one_line(name, capsys, monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS / name)
    needed = {each: ["--scores", "none"] for each in ("grid_search", "domain_transform")}
    needed |= {"trimap": ["--scores", "none", "--crf", "none"]}
    needed["ablations"] = ["--checkpoint", "none"]
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
    before = torch.get_num_threads()
    try:
        script("joint_training")(
            ["--settings", str(settings), "--output", str(output), *changes, "--threads", "2"]
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
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


ABLATIONS = {
    "shared": {"joint.iterations": 3, "joint.unary_loss": 0.0, "joint.crf_lr": 1.0},
    "rows": {
        "network alone": {"crf": False},
        "searched": {"train": False, "against": "network alone", "paper": "+1.2"},
        "trained": {"against": "searched"},
        "per class": {"changes": {"crf.weights": "per_class"}, "against": "trained"},
        "exact in test": {
            "of": "trained",
            "changes": {"crf.filter": "exact", "crf.iterations": 1},
            "against": "trained",
            "images": 2,
        },
        "symmetric": {"changes": {"crf.normalization": "symmetric"}, "against": "trained"},
        "joint": {"network": "trained", "start": "config", "against": "searched"},
    },
}


@pytest.fixture
def ablations(config, scores, tmp_path, monkeypatch):
    """The study with some rows; `rows` changes them."""
    monkeypatch.syspath_prepend(EXPERIMENTS / "ablations")
    checkpoint = scores.parent / "unary/train/checkpoint.pt"

    def run(*arguments: str, rows=ABLATIONS) -> dict[str, dict[str, str]]:
        settings = tmp_path / "settings.yaml"
        settings.write_text(yaml.safe_dump(rows, sort_keys=False))
        given = ["--config", str(config), "--settings", str(settings), "--checkpoint", str(checkpoint)]
        script("ablations")([*given, "--output", str(tmp_path / "out"), *arguments])
        return {
            row["row"]: row for row in csv.DictReader((tmp_path / "out/table.csv").read_text().splitlines())
        }

    return run


def test_ablations_train_the_crf_alone_and_go_on(ablations, scores, tmp_path):
    found = ablations()
    assert [*found] == [*ABLATIONS["rows"]]
    assert float(found["trained"]["w1"]) != float(found["searched"]["w1"])
    assert found["exact in test"]["w1"] == found["trained"]["w1"]  # its CRF, tested otherwise
    assert [found[name]["images"] for name in ("trained", "exact in test")] == ["3", "2"]
    searched = set((tmp_path / "out/search_symmetric/images.txt").read_text().split())
    with (tmp_path / "out/rows/trained/seed0/test/per_image.csv").open() as stream:
        assert not searched & {row["id"] for row in csv.DictReader(stream)}
    start = read_checkpoint(tmp_path / "out/rows/trained/seed0/train/checkpoint.pt")["model"]
    network = read_checkpoint(scores.parent / "unary/train/checkpoint.pt")["model"]
    for name, value in network.items():
        assert torch.equal(start[name], value), name
    joint = read_checkpoint(tmp_path / "out/rows/joint/seed0/train/checkpoint.pt")["model"]
    assert any(not torch.equal(joint[name], value) for name, value in network.items())
    table = (tmp_path / "out/table.md").read_text()
    assert "| symmetric | crf.normalization symmetric | 3 |" in table
    assert "| exact in test | the CRF of trained, tested otherwise; crf.filter exact" in table
    log = (tmp_path / "out/rows/trained/seed0/train/log.jsonl").stat().st_mtime_ns
    added = {**ABLATIONS, "rows": {**ABLATIONS["rows"], "fixed": {"changes": {"crf.learn_theta": False}}}}
    again = ablations("--only", "fixed", rows=added)
    assert [*again] == ["fixed"]
    assert again["fixed"]["theta_alpha"] == found["searched"]["theta_alpha"]
    assert (tmp_path / "out/rows/trained/seed0/train/log.jsonl").stat().st_mtime_ns == log


def test_plateau_of_two_searches(config, scores, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS / "grid_search")
    plateau = runpy.run_path(str(EXPERIMENTS / "grid_search/plateau.py"))["main"]
    searches = []
    for normalization in ("after", "symmetric"):
        output = tmp_path / normalization
        given = ["--scores", str(scores), "--output", str(output), "--search.normalization", normalization]
        wide = ["--search.theta_alpha", "[5, 20]", "--search.images", "4", "--search.rounds", "2"]
        crfnet(["search", str(config), *given, *wide])
        searches.append(output / "search")
    names = ["--searches", *map(str, searches), "--output", str(tmp_path / "out")]
    arguments = [*names, "--scores", str(scores), "--config", str(config)]
    plateau(arguments)
    rows = list(csv.DictReader((tmp_path / "out/plateau.csv").read_text().splitlines()))
    for search in searches:  # the same numbers as those of the search
        table = list(csv.DictReader((search / "table.csv").read_text().splitlines()))
        mine = [r for r in rows if r["normalization"] == search.parent.name and r["what"] == "grid"]
        keys = ("w1", "theta_alpha", "theta_beta")
        found = {tuple(float(row[key]) for key in keys): float(row["miou"]) for row in mine}
        assert found == {tuple(float(row[key]) for key in keys): float(row["miou"]) for row in table}
        best = max(mine, key=lambda row: float(row["miou"]))
        assert {float(best[key]) for key in ("minus_best", "low", "high")} == {0.0}
    published = {(row["normalization"], row["what"]): row for row in rows if row["what"] != "grid"}
    assert len(published) == 2 * 5
    after = published["after", "pydensecrf"]
    assert [after[key] for key in ("w1", "theta_alpha", "theta_beta", "iterations")] == [
        "10.0",
        "80.0",
        "13.0",
        "2",
    ]
    text = (tmp_path / "out/plateau.md").read_text()
    assert "**symmetric**, 4 images" in text
    assert "DeepLab v1 (4, 49, 5)" in text
    assert (tmp_path / "out/plateau.png").stat().st_size > 20_000
    written = (tmp_path / "out/published_after.npz").stat().st_mtime_ns
    plateau(arguments)
    assert (tmp_path / "out/published_after.npz").stat().st_mtime_ns == written
    plateau(names)  # without scores: the searches alone
    assert "DeepLab v1" not in (tmp_path / "out/plateau.md").read_text()


def test_plateau_refuses_what_is_no_search(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXPERIMENTS / "grid_search")
    plateau = runpy.run_path(str(EXPERIMENTS / "grid_search/plateau.py"))["main"]
    with pytest.raises(SystemExit) as stop:
        plateau(["--searches", str(tmp_path)])
    assert stop.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}: no finished search" in said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"row": {"of": "row"}}, "row: of is 'row', must be a row above that trains its CRF, or nothing"),
        ({"a": {"crf": False}, "b": {"of": "a"}}, "b: of is 'a', must be a row above that trains its CRF"),
        ({"a": {"against": "c"}}, "a: against is 'c', must be the name of another row, or nothing"),
        ({"a": {"trian": False}}, "cannot be read as rows (Row.__init__() got an unexpected keyword"),
        ({"a": {"network": "thawed"}}, "a: network is 'thawed', must be"),
        ({"a": {"changes": {"crf.wieghts": "full"}}}, "unknown key crf.wieghts"),
        ({"a": {"changes": {"joint.crf_lr": -1}}}, "crf_lr is -1"),
    ],
)
def test_ablations_refuse_rows_that_cannot_be(rows, said, ablations, capsys):
    with pytest.raises(SystemExit) as stop:
        ablations(rows={"rows": rows})
    assert stop.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]

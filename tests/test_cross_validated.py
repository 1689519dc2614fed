"""Cross-validated figures of a search with folds, through the command line."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

from crfnet.cli.main import main
from crfnet.crf import DenseCRF
from crfnet.data import load_dataset
from crfnet.errors import InputError
from crfnet.evaluation.evaluator import Evaluation
from crfnet.labels import read_label_png
from crfnet.pipeline.run_config import load_run
from crfnet.score_cache import ScoreFolder
from crfnet.search.result_files import read_folds
from tests.test_cli import CONFIG

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")

#: All five images in two folds, that choose among strong and weak CRFs; every pixel takes all iterations.
FOLDS = {
    "images": 5,
    "folds": 2,
    "w1": [0.2, 20],
    "theta_alpha": [4, 20],
    "theta_beta": [60],
    "tolerance": 0.0,
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Path:
    """The folder of a run with a trained network, its scores and a search with folds."""
    root = tmp_path_factory.mktemp("folds")
    config = {**CONFIG, "output": str(root / "out"), "search": {**CONFIG["search"], **FOLDS}}
    config["train"] = {**CONFIG["train"], "iterations": 30}
    (root / "run.yaml").write_text(yaml.safe_dump(config))
    main(["train", str(root / "run.yaml")])
    main(["scores", str(root / "run.yaml"), "--checkpoint", str(root / "out/unary/train/checkpoint.pt")])
    main(["search", str(root / "run.yaml"), "--scores", str(root / "out/scores")])
    return root


def folds_of(root: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((root / "out/search/folds.csv").read_text().splitlines()))


def test_every_image_gets_what_the_other_folds_chose(searched, tmp_path):
    *folds, overall = folds_of(searched)
    assert len({(row["w1"], row["theta_alpha"]) for row in folds}) == 2, "folds that chose alike show nothing"
    out = ["--output", str(tmp_path), "--folds", str(searched / "out/search/folds.csv")]
    main(["evaluate", str(searched / "run.yaml"), "--scores", str(searched / "out/scores"), *out])
    found = Evaluation.load(tmp_path / "evaluation/posthoc/evaluation.npz")
    assert sorted(found.ids) == sorted(name for row in folds for name in json.loads(row["ids"]))
    assert float(found.metrics().miou) == pytest.approx(float(overall["held_out_metric"]), abs=2e-6)

    # Image by image, of a layer that is built of the numbers in the table.
    dataset = load_dataset(load_run(searched / "run.yaml").data, "val")
    scores = ScoreFolder(searched / "out/scores")
    for row in folds:
        names = ("w1", "theta_alpha", "theta_beta", "w2", "theta_gamma")
        crf = DenseCRF.preset("deeplab", 6, iterations=2, **{name: float(row[name]) for name in names}).eval()
        for sample in (dataset[dataset.ids.index(name)] for name in json.loads(row["ids"])):
            with torch.inference_mode():
                labels = crf.map(scores.logits(sample.id, (32, 40)), sample.image[None])[0]
            assert torch.equal(
                labels, read_label_png(tmp_path / f"evaluation/posthoc/{sample.id}.png").long()
            )

    report = (tmp_path / "evaluation/report.md").read_text()
    assert "over the same 5 images. CRF parameters are cross-validated in 2 folds" in report
    assert "trimap_void" in report
    assert f"| `posthoc` | {', '.join(row['w1'] for row in folds)} |" in report
    rows = csv.DictReader((tmp_path / "evaluation/scores.csv").read_text().splitlines())
    gains = {row["metric"] for row in rows if row["arm"] == "posthoc - unary" and row["value"]}
    assert {"miou", "trimap_void/miou@3", "boundary_f"} <= gains
    main(["report", str(tmp_path / "evaluation"), "--output", str(tmp_path / "again")])
    assert "cross-validated in 2 folds" in (tmp_path / "again/report.md").read_text()


def test_a_network_gives_what_its_scores_give(searched, tmp_path):
    folds = ["--folds", str(searched / "out/search/folds.csv")]
    checkpoint = searched / "out/unary/train/checkpoint.pt"
    given = {
        "network": ["--checkpoint", str(checkpoint)],
        "scores": ["--scores", str(searched / "out/scores")],
    }
    tables = []
    for name, source in given.items():
        main(["evaluate", str(searched / "run.yaml"), *source, *folds, "--output", str(tmp_path / name)])
        tables.append(Evaluation.load(tmp_path / name / "evaluation/posthoc/evaluation.npz").confusion)
    assert (tables[0] - tables[1]).abs().sum() <= 0.002 * tables[0].sum()  # scores are rounded to 16 bits


@pytest.mark.parametrize("other", ["predictions", "crf", "exclude"])
def test_folds_name_the_images_and_their_crfs(other, searched, capsys):
    source = [] if other == "predictions" else ["--scores", str(searched / "out/scores")]
    folds = ["--folds", str(searched / "out/search/folds.csv"), f"--{other}", "some"]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(searched / "run.yaml"), *source, *folds, "--overwrite"])
    assert stop.value.code == 2
    assert f"so it excludes --{other}" in capsys.readouterr().err


def test_changed_folds_are_not_gone_on_with(searched, tmp_path, capsys):
    for name in ("folds.csv", "best.yaml"):
        (tmp_path / name).write_bytes((searched / "out/search" / name).read_bytes())
    given = ["--scores", str(searched / "out/scores"), "--folds", str(tmp_path / "folds.csv")]
    command = ["evaluate", str(searched / "run.yaml"), *given, "--output", str(tmp_path / "out")]
    main(command)
    first = (tmp_path / "folds.csv").read_text().splitlines()
    (tmp_path / "folds.csv").write_text("\n".join([first[0], first[1].replace(",60,", ",61,"), *first[2:]]))
    with pytest.raises(SystemExit):
        main([*command, "--resume"])
    assert "was begun with other parameters of the folds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "text", "reason"),
    [
        (0, "fold,w1", "its columns are fold, w1"),
        (1, "1,3,a,20,60,3,3,2,0.1,0.1,val_00001", "could not convert string to float: 'a'"),
        (1, "1,3", "not enough values"),
        (3, "", "a line is missing"),
    ],
)
def test_damaged_folds_are_told(line, text, reason, searched, tmp_path):
    lines = (searched / "out/search/folds.csv").read_text().splitlines()
    lines[line : line + 1] = [text] if text else []
    (tmp_path / "folds.csv").write_text("\n".join(lines))
    (tmp_path / "best.yaml").write_bytes((searched / "out/search/best.yaml").read_bytes())
    with pytest.raises(InputError, match=rf"folds\.csv: not the folds\.csv of a search .*{reason}"):
        read_folds(tmp_path / "folds.csv")


def test_ids_with_spaces_and_files_of_the_first_version(searched, tmp_path):
    (tmp_path / "best.yaml").write_bytes((searched / "out/search/best.yaml").read_bytes())
    text = (searched / "out/search/folds.csv").read_text()
    expected = read_folds(searched / "out/search/folds.csv")
    (tmp_path / "folds.csv").write_text(text.replace("val_00001", "IMG 1, a").replace("val_00002", "=x"))
    renamed = {"val_00001": "IMG 1, a", "val_00002": "=x"}
    assert read_folds(tmp_path / "folds.csv") == {renamed.get(k, k): crf for k, crf in expected.items()}
    first = text.replace('"[""', "").replace('""]"', "").replace('"", ""', " ")
    assert "[" not in first
    (tmp_path / "folds.csv").write_text(first)
    assert read_folds(tmp_path / "folds.csv") == expected

"""What the commands leave for the report, and the command that writes it again."""

import pickle

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from crfnet.cli.main import main
from crfnet.crf.layer import DenseCRF
from crfnet.data import load_dataset
from crfnet.labels import write_label_png
from crfnet.pipeline.predictors import unary_from_scores
from crfnet.pipeline.run_config import load_run
from crfnet.pipeline.trace_energy import TRACED_IMAGES, trace_energy
from crfnet.report import ENERGY_FILE, read_report_json
from crfnet.report.energy_curves import read_energy_traces
from crfnet.score_cache import ScoreFolder, write_scores

CONFIG = {
    "data": {"name": "toy", "toy": {"train": 1, "val": 5, "size": [32, 40]}},
    "evaluation": {"draws": 20, "max_width": 2},
    "pictures": 2,
}


@pytest.fixture
def toy(tmp_path):
    """(path of the config, its validation set); predictions/ holds label maps of every image."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "output": str(tmp_path / "out")}))
    dataset = load_dataset(load_run(path).data, "val")
    for sample in dataset:
        write_label_png(tmp_path / "predictions" / f"{sample.id}.png", sample.labels % 7)
    return path, dataset


def test_report_again_with_its_pictures(toy, tmp_path, capsys):
    config, _ = toy
    main(["evaluate", str(config), "--predictions", str(tmp_path / "predictions")])
    folder = tmp_path / "out/evaluation"
    names = ("report.md", "report.html", "strip.png")
    before = [(folder / name).read_bytes() for name in names]
    for name in names:
        (folder / name).unlink()
    main(["report", str(folder)])
    assert [(folder / name).read_bytes() for name in names] == before
    assert f"report: {folder / 'report.md'}" in capsys.readouterr().out
    for arguments in (["report", str(tmp_path)], ["report", str(folder), "--data.name", "voc"]):
        with pytest.raises(SystemExit):
            main(arguments)


def evaluated_folders(root, split, only):
    """Images of the same names in two splits, evaluated on one, and the report of it written again."""
    for part in ("train", "val"):
        for index in range(5) if part in only else ():
            for kind, value in (("images", 40 if part == "train" else 200), ("masks", index % 2)):
                (root / kind / part).mkdir(parents=True, exist_ok=True)
                shape = (32, 40, 3) if kind == "images" else (32, 40)
                Image.fromarray(np.full(shape, value, np.uint8)).save(root / kind / part / f"{index}.png")
                write_label_png(root / "predictions" / f"{index}.png", torch.zeros(32, 40, dtype=torch.long))
    data = {"name": "folders", "root": str(root), "classes": ["a", "b"]}
    (root / "run.yaml").write_text(yaml.safe_dump({**CONFIG, "data": data, "output": str(root / "out")}))
    command = ["evaluate", str(root / "run.yaml"), "--predictions", str(root / "predictions")]
    main([*command, "--split", split])
    strip = root / "out/evaluation/strip.png"
    before = strip.read_bytes()
    strip.unlink()
    main(["report", str(root / "out/evaluation")])
    return before, strip.read_bytes()


@pytest.mark.parametrize(
    ("split", "only"), [("train", ("train", "val")), ("val", ("train", "val")), ("val", ("val",))]
)
def test_pictures_are_those_of_the_split_that_was_scored(tmp_path, split, only):
    before, after = evaluated_folders(tmp_path, split, only)
    assert before == after


def test_energies_are_those_of_the_layer(toy, tmp_path):
    """Per pixel, of the first few images; a finished stage is not done again."""
    _, dataset = toy
    crf = DenseCRF.preset("deeplab", 7, iterations=3, theta_alpha=8.0)
    torch.manual_seed(1)
    scores = {id: torch.randn(7, 8, 10) for id in dataset.ids}
    write_scores(tmp_path / "scores", iter(scores.items()), 7, align_corners=False, source="test")
    unary = unary_from_scores(ScoreFolder(tmp_path / "scores"), torch.device("cpu"))
    trace_energy(tmp_path / "arm", crf, unary, dataset, dataset.ids)
    descents = read_energy_traces(tmp_path / "arm" / ENERGY_FILE)
    assert [each.id for each in descents] == list(dataset.ids[:TRACED_IMAGES])
    last = dataset[TRACED_IMAGES - 1]
    trace = crf.eval().trace(unary(last), last.image[None])
    np.testing.assert_allclose(descents[-1].free_energy, trace.free_energy[:, 0] / (32 * 40), rtol=1e-6)
    np.testing.assert_allclose(descents[-1].change, trace.change[:, 0], rtol=1e-5)
    trace_energy(tmp_path / "arm", crf, lambda _: 1 / 0, dataset, dataset.ids)


def test_what_another_process_measures_holds_no_layer(toy, tmp_path, monkeypatch):
    """One on a GPU would start CUDA in the process that forks it."""
    config, dataset = toy
    scores = {id: torch.randn(6, 8, 10) for id in dataset.ids}
    write_scores(tmp_path / "scores", iter(scores.items()), 6, align_corners=False, source="test")
    (tmp_path / "best.yaml").write_text("crf: {w1: 4, theta_alpha: 10, iterations: 2}")
    sent = {}

    def measured(folder, arms, builds, dataset):
        sent.update({name: pickle.dumps(build) for name, build in builds.items()})
        return arms

    monkeypatch.setattr("crfnet.pipeline.evaluate_split.measure_costs", measured)
    scored = ["--scores", str(tmp_path / "scores"), "--crf", str(tmp_path / "best.yaml")]
    main(["evaluate", str(config), *scored, "--overwrite"])
    assert sent.keys() == {"unary", "posthoc"}
    assert not any(b"_rebuild" in each for each in sent.values())


def test_evaluate_finds_the_images_of_the_search_beside_its_crf(toy, tmp_path, capsys):
    """Scored all the same, left out, of nothing known; and five images decide nothing."""
    config, dataset = toy
    scores = {id: torch.randn(6, 8, 10) for id in dataset.ids}
    write_scores(tmp_path / "scores", iter(scores.items()), 6, align_corners=False, source="test")
    (tmp_path / "search").mkdir()
    crf, listed = tmp_path / "search/best.yaml", tmp_path / "search/images.txt"
    crf.write_text("crf: {w1: 4, theta_alpha: 10, iterations: 2}")
    evaluate = [
        "evaluate",
        str(config),
        "--scores",
        str(tmp_path / "scores"),
        "--crf",
        str(crf),
        "--overwrite",
    ]
    folder = tmp_path / "out/evaluation"

    def reported(*more):
        main([*evaluate, *more])
        return (folder / "report.md").read_text(), read_report_json(folder).arms[1]

    listed.write_text("".join(f"{id}\n" for id in dataset.ids[:2]))
    text, arm = reported()
    assert (arm.search_ids, arm.seen_ids) == ([], list(dataset.ids[:2]))
    assert "The parameters of `posthoc` were chosen on 2 of the 5 images scored here" in text
    assert f"`--exclude {listed}`" in text
    said = capsys.readouterr().out
    assert "(one seed, 5 images: they decide nothing)" in said
    assert "no forecast for photos" in text
    main(["report", str(folder)])
    assert (folder / "report.md").read_text() == text
    text, arm = reported("--exclude", str(listed))
    assert (arm.search_ids, arm.seen_ids) == (list(dataset.ids[:2]), [])
    assert "were chosen" not in text
    assert "3 images: they decide nothing" in text
    other = tmp_path / "other.txt"
    other.write_text(f"{dataset.ids[1]}\n")
    text, _ = reported("--exclude", str(other))
    assert "were chosen on 1 of the 4 images scored here" in text
    assert "1 of them are among those that CRF parameters were searched on" in text
    assert "held out: none" not in text
    listed.write_text("elsewhere\n")
    text, arm = reported()
    assert (arm.search_ids, arm.seen_ids) == (["elsewhere"], [])
    listed.unlink()
    text, arm = reported()
    assert (arm.search_ids, arm.seen_ids, arm.seen) == ([], [], None)
    assert "Nothing tells on which images the parameters of `posthoc` were chosen" in text

"""The commands, end to end on a few tiny images, and what they say of bad input."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from crfnet.cli import COMMANDS
from crfnet.cli.main import main
from crfnet.crf import message_passing
from crfnet.pipeline import evaluate_split

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")

CONFIG = {
    "data": {"name": "toy", "toy": {"train": 3, "val": 5, "size": [32, 40]}},
    "model": {"backbone": "resnet18", "deeplab_v2": {"head": "large_fov"}, "width": 0.125},
    "train": {
        "iterations": 2,
        "batch_size": 2,
        "augment": {"crop": [32, 40]},
        "lr": 0.01,
        "head_lr": 1,
        "picture_every": 0,
    },
    "joint": {
        "iterations": 2,
        "batch_size": 1,
        "augment": {"crop": [32, 40]},
        "lr": 0.001,
        "head_lr": 1,
        "loss": "image",
        "unary_loss": 0.5,
        "picture_every": 1,
    },
    "crf": {"iterations": 2, "train_iterations": 2, "permutohedral": {"rows": 16}},
    "search": {
        "images": 2,
        "w1": [3, 5],
        "theta_alpha": [20],
        "theta_beta": [5, 10],
        "rounds": 1,
        "iterations": 2,
    },
    "evaluation": {"draws": 50, "max_width": 10},
    "pictures": 1,
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "output": str(tmp_path / "out")}))
    return path


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused; returns its one line."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        assert stop.value.code == 2
        said = capsys.readouterr().err.splitlines()
        lines = [line for line in said if line.startswith("crfnet: ")]
        assert len(lines) == 1, said
        assert said[-1] == lines[0]
        return lines[0]

    return run


def voc_folder(root: Path, *, size=(24, 32), mask_size=None, label=1) -> Path:
    """A data set in VOC layout with two images and the labels 0 and `label`."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    pixels = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(pixels.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            root / f"JPEGImages/{name}.jpg"
        )
        mask = np.zeros(mask_size or size, dtype=np.uint8)
        mask[:, ::2] = label
        Image.fromarray(mask).save(root / f"SegmentationClass/{name}.png")
    for split in ("train", "val"):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("a\nb\n")
    return root


def test_step_by_step_equals_what_each_command_promises(config, tmp_path, capsys, refused):
    out = tmp_path / "out"
    main(["train", str(config)])
    unary = out / "unary/train/checkpoint.pt"
    main(["scores", str(config), "--checkpoint", str(unary)])
    main(["search", str(config), "--scores", str(out / "scores")])
    best = yaml.safe_load((out / "search/best.yaml").read_text())["crf"]
    assert best["w1"] in (3, 5)
    assert best["theta_beta"] in (5, 10)
    searched = (out / "search/images.txt").read_text().split()
    assert len(searched) == 2

    main(
        [
            "train",
            str(config),
            "--stage",
            "joint",
            "--checkpoint",
            str(unary),
            "--crf",
            str(out / "search/best.yaml"),
        ]
    )
    lines = [json.loads(line) for line in (out / "joint/train/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert {"w1", "theta_alpha", "theta_beta", "w2", "theta_gamma"} <= set(lines[0]["crf"])

    capsys.readouterr()
    exclude = ["--exclude", str(out / "search/images.txt")]
    main(
        [
            "evaluate",
            str(config),
            "--scores",
            str(out / "scores"),
            "--crf",
            str(out / "search/best.yaml"),
            *exclude,
        ]
    )
    printed = capsys.readouterr().out
    assert "unary" in printed
    assert "posthoc" in printed
    with np.load(out / "evaluation/posthoc/evaluation.npz") as found:
        assert not set(found["ids"]) & set(searched)
        assert len(found["ids"]) == 3
    assert len((out / "evaluation/posthoc/per_image.csv").read_text().splitlines()) == 1 + 3
    assert (out / "evaluation/posthoc/per_class.csv").read_text().startswith("class,name,images")

    # The same predictions, written as PNG by one command and scored by another, give the same confusions.
    joint = out / "joint/train/checkpoint.pt"
    main(["predict", str(config), "--checkpoint", str(joint), "--split", "val"])
    again = ("predict", config, "--checkpoint", joint, "--split", "val")
    assert "exists already; give --overwrite or another --output" in refused(*again)
    main([*map(str, again), "--overwrite"])
    main(["evaluate", str(config), "--predictions", str(out / "predictions"), "--overwrite"])
    with np.load(out / "evaluation/predictions/evaluation.npz") as a:
        written = a["confusion"]
    main(["evaluate", str(config), "--checkpoint", str(joint), "--overwrite"])
    with np.load(out / "evaluation/joint/evaluation.npz") as b:
        assert (written == b["confusion"]).all()


def test_compare_writes_the_report_and_goes_on_where_it_was(config, tmp_path, capsys, refused):
    main(["compare", str(config)])
    out = tmp_path / "out"
    printed = capsys.readouterr().out
    assert f"report: {out / 'report.md'}" in printed
    for arm in ("unary", "posthoc", "joint", "unary+", "posthoc+"):
        assert arm in printed
        assert f"`{arm}`" in (out / "report.md").read_text()
    for name in (
        "scores.csv",
        "trimap_void.png",
        "errors.png",
        "strip.png",
        "config.yaml",
        "run.json",
    ):
        assert (out / name).stat().st_size > 0
    with np.load(out / "joint/predictions/evaluation.npz") as found:
        assert not set(found["ids"]) & set((out / "posthoc/search/images.txt").read_text().split())

    # Killed after the first search: everything else is done again and comes out the same.
    scores = (out / "scores.csv").read_text()
    for stage in ("joint/train", "joint/predictions"):
        (out / stage / "stage.json").unlink()
    (out / "joint/train/checkpoint.pt").unlink()
    main(["compare", str(config), "--resume", "--title", "Again", "--threads", str(torch.get_num_threads())])
    assert (out / "report.md").read_text().startswith("# Again")
    keep = lambda text: [line for line in text.splitlines() if "second" not in line and "memory" not in line]  # noqa: E731
    assert keep((out / "scores.csv").read_text()) == keep(scores)

    assert "already holds files" in refused("compare", config)
    assert "joint.lr was 0.001, now it is 0.5" in refused("compare", config, "--resume", "--joint.lr", "0.5")
    assert "seed was 0, now it is 1" in refused("compare", config, "--resume", "--seed", "1")
    for damaged, said in (("{}", "seed was None, now it is 0"), ("1: 2", "1 was 2, now it is None")):
        (out / "config.yaml").write_text(damaged)
        assert said in refused("compare", config, "--resume")


def test_how_labels_are_predicted_reaches_every_command(config, tmp_path, capsys, refused):
    main(["train", str(config)])
    unary = ["--checkpoint", str(tmp_path / "out/unary/train/checkpoint.pt")]
    protocol = ["--predict.scales", "[0.75,1.0]", "--predict.mirror", "true"]
    main(["scores", str(config), *unary, *protocol])
    with np.load(next((tmp_path / "out/scores").glob("*.npz"))) as found:
        assert {array.shape for array in found.values()} >= {(6, 32, 40)}  # fused at image size
    main(["evaluate", str(config), *unary, *protocol])
    main(["evaluate", str(config), "--scores", str(tmp_path / "out/scores"), "--overwrite"])
    main(["predict", str(config), *unary, "--split", "val", "--predict.tile", "32"])
    said = refused("evaluate", config, *unary, "--predict.tile", "20")
    assert "tile - overlap is 20, must be a multiple of 32" in said


@pytest.mark.usefixtures("operators")
def test_the_memory_of_the_crf_reaches_every_command(config, tmp_path, monkeypatch):
    """Two labels at a time, for a CRF that was trained and for one of a file, give the same label maps."""
    given = set()
    monkeypatch.setattr(
        message_passing, "labels_at_once", lambda q, memory: given.add(memory) or memory or 99
    )
    monkeypatch.setattr(evaluate_split, "write_report", lambda folder, *_, **__: folder / "report.md")
    main(["train", str(config)])
    unary = ["--checkpoint", str(tmp_path / "out/unary/train/checkpoint.pt")]
    main(["train", str(config), "--stage", "joint", *unary])
    main(["scores", str(config), *unary])
    for name, more in (("best", ""), ("own", ", memory: 3")):
        (tmp_path / f"{name}.yaml").write_text(f"crf: {{w1: 5, theta_alpha: 20, iterations: 2{more}}}")
    commands = {
        "trained": [
            "predict",
            "--checkpoint",
            str(tmp_path / "out/joint/train/checkpoint.pt"),
            "--split",
            "val",
        ],
        "behind": [
            "evaluate",
            "--scores",
            str(tmp_path / "out/scores"),
            "--crf",
            str(tmp_path / "best.yaml"),
        ],
    }
    for name, (command, *more) in commands.items():
        maps = []
        for key, expected in (([], None), (["--crf.memory", "2"], 2)):
            given.clear()
            main([command, str(config), *more, *key, "--output", str(tmp_path / name / str(expected))])
            assert given == {expected}
            maps.append(
                [path.read_bytes() for path in sorted((tmp_path / name / str(expected)).rglob("val*.png"))]
            )
        assert maps[0] == maps[1]
        assert len(maps[0]) == 10
    given.clear()
    behind = [*unary, "--crf", str(tmp_path / "own.yaml"), "--split", "val", "--crf.memory", "2"]
    main(["predict", str(config), *behind])
    assert given == {3}


def test_import_says_what_a_file_is_and_converts_it(config, tmp_path, capsys, refused):
    main(["train", str(config)])
    unary = tmp_path / "out/unary/train/checkpoint.pt"
    capsys.readouterr()
    main(["import", str(unary)])
    assert "crfnet, " in capsys.readouterr().out
    main(["import", str(unary), "--out", str(tmp_path / "w.safetensors")])
    main(["import", str(tmp_path / "w.safetensors"), "--out", str(tmp_path / "w.pt")])
    main(["evaluate", str(config), "--checkpoint", str(tmp_path / "w.pt")])
    capsys.readouterr()

    # Into another model: ASPP-S has three branches more.
    start = [
        "--config",
        str(config),
        "--model.deeplab_v2.head",
        "aspp_s",
        "--out",
        str(tmp_path / "start.pt"),
    ]
    main(["import", str(unary), *start])
    printed = capsys.readouterr().out
    assert "head: aspp_s" in printed
    assert "new, started at random: network.head.branches.1" in printed
    assert (tmp_path / "start.yaml").is_file()
    toy = ["--data.name", "toy", "--data.toy.val", "1", "--split", "val"]
    start_of = ["--checkpoint", str(tmp_path / "start.pt"), "--output", str(tmp_path / "there")]
    main(["predict", str(tmp_path / "start.yaml"), *toy, *start_of])
    assert "exists already" in refused("import", unary, *start)
    before = (tmp_path / "start.pt").read_bytes()
    (tmp_path / "start.pt").write_bytes(b"")
    main(["import", str(unary), *start, "--overwrite"])
    assert (tmp_path / "start.pt").read_bytes() == before
    (tmp_path / "start.yaml").write_text("model: {}\ntrain: {}\n")
    assert "not written by crfnet import" in refused("import", unary, *start, "--overwrite")

    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "foreign.pth")
    assert "no DeepLab layout that is known" in refused("import", tmp_path / "foreign.pth")
    (tmp_path / "cut.pt").write_bytes(unary.read_bytes()[:1000])
    assert "cut.pt: damaged" in refused("import", tmp_path / "cut.pt")
    assert "none.pt: no such file" in refused("import", tmp_path / "none.pt")
    assert "must end in" in refused("import", unary, "--out", tmp_path / "w.bin")
    for option, value in (("--classes", 11), ("--rates", 6), ("--output-stride", 8)):
        assert f"import {option}" in refused("import", unary, option, value)
    assert "--classes is 11, must be 6" in refused("import", unary, "--config", config, "--classes", 11)
    assert "no --config" in refused("import", unary, "--model.deeplab_v2.head", "aspp_l")


def test_import_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["import", "--help"])
    assert stop.value.code == 0
    assert "kazuto1011" in capsys.readouterr().out


def test_unknown_keys_and_wrong_values_name_the_place(config, tmp_path, refused):
    config.write_text("modle:\n  width: 1\n")
    assert "modle" in (line := refused("compare", config))
    assert "did you mean model?" in line
    assert "model.width" not in line
    config.write_text("model:\n  widht: 1\n")
    assert "did you mean model.width?" in refused("compare", config)
    config.write_text("train:\n  lr: fast\n")
    assert "train.lr" in refused("train", config)
    config.write_text("crf:\n  memory: 0\n")
    assert "crf.memory is 0, must be >= 1 MiB, or null" in refused("compare", config)
    config.write_text("train:\n  lr: -1\n")
    assert "lr" in refused("train", config)
    config.write_text("train: [1\n")
    assert str(config) in refused("train", config)
    assert "no such config file" in refused("train", tmp_path / "none.yaml")
    assert "--sede" in refused("train", config, "--sede", "3")
    assert not (tmp_path / "out").exists()


def test_missing_data_folder(config, tmp_path, refused):
    line = refused("compare", config, "--data.name", "voc", "--data.root", tmp_path / "nowhere")
    assert "nowhere" in line
    assert not (tmp_path / "out").exists()


def test_image_and_labels_of_different_size(config, tmp_path, refused):
    root = voc_folder(tmp_path / "voc", mask_size=(24, 30))
    line = refused("compare", config, "--data.name", "voc", "--data.root", root, "--search.images", 1)
    assert "a.png" in line
    assert "30" in line
    assert "32" in line
    assert not (tmp_path / "out").exists()


def test_label_outside_the_classes(config, tmp_path, refused):
    root = voc_folder(tmp_path / "voc", label=77)
    line = refused("compare", config, "--data.name", "voc", "--data.root", root, "--search.images", 1)
    assert "77" in line
    assert "0..20" in line
    assert not (tmp_path / "out").exists()


def test_checkpoint_of_another_model_truncated_or_missing(config, tmp_path, refused):
    main(["train", str(config)])
    good = tmp_path / "out/unary/train/checkpoint.pt"
    line = refused("scores", config, "--checkpoint", good, "--model.width", "0.25")
    assert "another model" in line
    cut = tmp_path / "cut.pt"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    assert "cut.pt" in refused("scores", config, "--checkpoint", cut)
    assert "none.pt" in refused("predict", config, "--checkpoint", tmp_path / "none.pt", "--split", "val")
    assert not (tmp_path / "out/scores").exists()
    assert not (tmp_path / "out/predictions").exists()


def test_photos_are_predicted_without_the_data_set(config, tmp_path, capsys):
    main(["train", str(config)])
    weights = ["--checkpoint", str(tmp_path / "out/unary/train/checkpoint.pt")]
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (40, 32), (90, 120, 30)).save(photo)
    names = "[ground, disc, bar, triangle, ring, star]"
    gone = ["--data.name", "folders", "--data.root", str(tmp_path / "gone"), "--data.classes", names]
    main(["predict", str(config), *weights, *gone, str(photo)])
    assert "overlays of 1 image:" in capsys.readouterr().out
    with Image.open(tmp_path / "out/predictions/photo.png") as written:
        assert written.size == (40, 32)


def test_keys_that_another_option_would_silence_are_refused(config, tmp_path, refused):
    (tmp_path / "best.yaml").write_text("crf: {w1: 4}\n")
    beside = ["--crf", tmp_path / "best.yaml", "--crf.w1", "5"]
    for command in (
        ["predict", config, "--checkpoint", tmp_path / "net.pt", tmp_path / "photo.jpg"],
        ["predict", "--scores", tmp_path / "scores", tmp_path / "photo.jpg"],
        ["evaluate", config, "--scores", tmp_path / "scores"],
    ):
        line = refused(*command, *beside)
        assert f"{command[0]} --crf.w1: the CRF is that of --crf {tmp_path / 'best.yaml'}" in line
    memory = refused("evaluate", config, "--scores", tmp_path / "scores", *beside[:2], "--crf.memory", "64")
    assert "--crf.memory" not in memory, "holds for every CRF"


def test_an_image_in_the_place_of_the_config_is_named(tmp_path, refused):
    line = refused("predict", "--checkpoint", tmp_path / "net.pt", tmp_path / "photo.jpg", tmp_path / "b.jpg")
    assert line.endswith("photo.jpg: CONFIG stands before the images, a YAML file that --checkpoint needs")


def test_an_output_folder_in_use_is_left_alone(config, tmp_path, refused):
    (tmp_path / "out/unary/train").mkdir(parents=True)
    precious = tmp_path / "out/unary/train/thesis.txt"
    precious.write_text("years of work")
    assert "already holds files" in refused("train", config)
    assert "not made by crfnet" in refused("train", config, "--overwrite")
    assert precious.read_text() == "years of work"


def test_bad_scores_and_predictions(config, tmp_path, refused):
    assert "nowhere" in refused("search", config, "--scores", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("evaluate", config, "--predictions", tmp_path / "empty")
    assert not (tmp_path / "out").exists()


def label_folders(root: Path) -> list[object]:
    """Options for two folders of three label maps."""
    for name in ("predictions", "labels"):
        (root / name).mkdir()
        for i in range(3):
            mask = np.zeros((20, 30), dtype=np.uint8)
            mask[5:15, 8 + (name == "labels") : 20 + i] = 1
            Image.fromarray(mask).save(root / name / f"im{i}.png")
    return ["--predictions", root / "predictions", "--labels", root / "labels", "--num-classes", 2]


def test_two_folders_need_no_config(tmp_path, capsys, monkeypatch):
    arguments = [str(each) for each in label_folders(tmp_path)]
    monkeypatch.chdir(tmp_path)
    main(["evaluate", *arguments, "--evaluation.draws", "20"])
    printed = capsys.readouterr().out
    assert "Boundary IoU" in printed
    assert "boundary F" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"predictions", "labels"}
    more = ["--class-names", "road,sky", "--output", "out", "--evaluation.draws", "20"]
    main(["evaluate", *arguments, *more, "--evaluation.element", "disc", "--evaluation.max_width=4"])
    rows = (tmp_path / "out/per_class.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["name", "road", "sky"]
    assert len((tmp_path / "out/per_image.csv").read_text().splitlines()) == 4
    assert len((tmp_path / "out/trimap.csv").read_text().splitlines()) == 1 + 2 * 4
    assert "sky" in (tmp_path / "out/report.md").read_text()
    with np.load(tmp_path / "out/evaluation.npz") as found:
        assert json.loads(str(found["settings"]))["element"] == "disc"
    main(["evaluate", *arguments, *more, "--overwrite"])


def test_two_folders_and_what_is_wrong_with_them(config, tmp_path, refused):
    folders = label_folders(tmp_path)
    assert "give a CONFIG, or --predictions" in refused("evaluate", *folders[:4])
    assert "give a CONFIG, or --predictions" in refused("evaluate", "--checkpoint", "x.pt")
    assert "--labels: the data set of CONFIG" in refused("evaluate", config, *folders)
    assert "--crf: needs a CONFIG" in refused("evaluate", *folders, "--crf", "best.yaml")
    assert "--split: needs a CONFIG" in refused("evaluate", *folders, "--split", "val")
    assert "--data.name" in refused("evaluate", *folders, "--data.name", "voc")
    assert "3 names" in refused("evaluate", *folders, "--class-names", "a,b,c")
    for names in ("a,a", "a, "):
        assert f"is {names!r}, must be names that differ" in refused(
            "evaluate", *folders, "--class-names", names
        )
    assert "--device changes a config" in refused("convert-scores", tmp_path, "--to", "x", "--device", "cpu")
    assert "--num-classes is 1, must be 2..255" in refused("evaluate", *folders[:5], 1)
    assert "element" in refused("evaluate", *folders, "--evaluation.element", "ring")
    assert "f_width" in refused("evaluate", *folders, "--evaluation.boundary.f_width", "0")
    assert "nowhere" in refused("evaluate", "--predictions", tmp_path / "nowhere", *folders[2:])
    (tmp_path / "labels/im1.png").unlink()
    assert "predictions/im1.png: no partner" in refused("evaluate", *folders)
    Image.fromarray(np.zeros((20, 31), dtype=np.uint8)).save(tmp_path / "labels/im1.png")
    output = ["--output", tmp_path / "scored"]
    assert "labels are 20 x 31" in refused("evaluate", *folders, *output)
    Image.fromarray(np.full((20, 30), 2, dtype=np.uint8)).save(tmp_path / "labels/im1.png")
    assert "labels holds 2" in refused("evaluate", *folders, *output)
    assert not (tmp_path / "scored").exists()
    (tmp_path / "scored").mkdir()
    (tmp_path / "scored/thesis.txt").write_text("years of work")
    assert "already holds files" in refused("evaluate", *folders, *output)


def test_too_many_search_images(config, refused):
    assert "search.images" in refused("compare", config, "--search.images", "5")


def test_help_teaches_and_config_is_a_round_trip(config, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "crfnet compare" in capsys.readouterr().out
    main(["config", str(config), "--seed", "7"])
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out)
    assert yaml.safe_load(again.read_text())["seed"] == 7
    main(["config", str(again)])
    assert capsys.readouterr().out == again.read_text()


def test_help_imports_nothing_that_is_slow():
    """But that of ``config``, whose keys are those of the dataclasses."""
    program = """
import contextlib, sys
from crfnet.cli import COMMANDS
from crfnet.cli.main import main
for words in [["--help"], *([name, "--help"] for name in COMMANDS if name != "config")]:
    with contextlib.suppress(SystemExit):
        main(words)
print(*sorted(set(sys.modules) & {"torch", "numpy", "yaml", "jsonargparse", "tqdm"}), file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.count("usage: crfnet") == len(COMMANDS)
    assert ended.stderr.split() == []


def test_config_explains_every_key_and_names_an_unknown_one(config, capsys, refused):
    main(["config", "--help"])
    assert "--crf.theta_alpha" in capsys.readouterr().out
    assert "unknown key seeed; did you mean seed?" in refused("config", config, "--seeed", "3")
    main(["config", str(config), "--output", "elsewhere"])
    assert "output: elsewhere" in capsys.readouterr().out


def test_every_command_is_in_the_table_once(capsys):
    """What --help lists is what is run."""
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^    ([\w-]+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[1].glob("configs/*/*.yaml")), ids=lambda p: p.stem
)
def test_every_config_in_the_repository_is_valid(path, capsys):
    main(["config", str(path)])
    assert yaml.safe_load(capsys.readouterr().out)["title"]


@pytest.mark.parametrize("display", [True, False])
def test_demo_opens_its_report_or_says_where_it_is(display, tmp_path, monkeypatch, capsys, refused):
    report = tmp_path / "report.md"
    opened = []
    monkeypatch.setattr("crfnet.pipeline.compare_arms.compare", lambda *_, **__: (report, "the table"))
    monkeypatch.setattr("webbrowser.open", lambda page: opened.append(page) or True)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0") if display else monkeypatch.delenv("DISPLAY", raising=False)
    page = (tmp_path / "report.html").as_uri()
    main(["demo", "--open"])
    said = capsys.readouterr().out
    assert f"report: {report}, report.html" in said
    assert "no forecast for photos." in " ".join(said.split())
    assert opened == [page] * display
    assert (f"no display to open it on: {page}" in said) == (not display)
    main(["demo"])
    assert opened == [page] * display
    monkeypatch.setattr("webbrowser.open", lambda page: False)  # a display, but no browser
    main(["demo", "--open"])
    assert page in capsys.readouterr().out
    assert "--open" in refused("compare", "x.yaml", "--open")


@pytest.mark.parametrize(
    ("overrides", "threads"), [((), 1), (("--threads", "2"), 2), (("--threads", "0"), 3)]
)
def test_a_command_runs_with_the_threads_of_its_config(overrides, threads, tmp_path, monkeypatch):
    """The demo's is 1: beside other work two threads on layers that small wait for each other."""
    seen = []

    def compare(*_, **__):
        seen.append(torch.get_num_threads())
        return tmp_path / "report.md", "the table"

    monkeypatch.setattr("crfnet.pipeline.compare_arms.compare", compare)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        main(["demo", *overrides])
    finally:
        torch.set_num_threads(before)
    assert seen == [threads]

"""Label maps of any network's scores: `crfnet predict --scores`, and the way there and on from there."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from crfnet.cli.main import main
from crfnet.crf import CRFConfig, DenseCRF
from crfnet.data import DataConfig, load_dataset
from crfnet.domain_transform import DomainTransform, DomainTransformConfig
from crfnet.errors import InputError
from crfnet.labels import DATASET_CLASSES, VOC_PALETTE, read_label_png
from crfnet.pipeline.predict_images import image_list
from crfnet.pipeline.run_config import load_run
from crfnet.resize import resize_logits
from crfnet.score_cache import ScoreFolder, write_scores
from crfnet.search import SearchConfig, draw_images
from tests.test_cli import CONFIG

ROOT = Path(__file__).parents[1]
SIZES = {"a": (24, 32), "b": (32, 20)}
FEW = ["--crf.iterations", "2"]


def pixels(size: tuple[int, int], seed: int) -> torch.Tensor:
    """A picture of two halves with noise."""
    image = np.random.default_rng(seed).integers(0, 60, (*size, 3), dtype=np.uint8)
    image[:, size[1] // 2 :] += 150
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch) -> Path:
    """Two images in the folder ``photos``, their scores of three labels at stride 2 in ``scores``."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    pairs = []
    for seed, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(pixels(size, seed).permute(1, 2, 0).numpy()).save(f"photos/{name}.png")
        generator = torch.Generator().manual_seed(seed)
        pairs.append((name, 2 * torch.randn(3, size[0] // 2, size[1] // 2, generator=generator)))
    write_scores(Path("scores"), iter(pairs), 3, False, "noise")
    Path("photos/notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused; returns its one line."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        assert stop.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("crfnet: ")]
        assert len(lines) == 1
        return lines[0]

    return run


def logits_of(name: str) -> torch.Tensor:
    """The scores at image size."""
    return ScoreFolder(Path("scores")).logits(name, SIZES[name])


def predicted(name: str, output: str = "out") -> torch.Tensor:
    """The label map that was written."""
    return read_label_png(Path(output) / f"predictions/{name}.png")


def through(crf: torch.nn.Module, name: str) -> torch.Tensor:
    """What a layer makes of the scores."""
    image = pixels(SIZES[name], list(SIZES).index(name))
    with torch.inference_mode():
        return crf.eval()(logits_of(name), image[None])[0].argmax(0)


def test_a_folder_of_images_needs_no_config_and_no_masks(photos, capsys):
    main(["predict", "--scores", "scores", "photos", "--output", "out", *FEW])
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "label maps and overlays of 2 images: out/predictions"
    assert "predict: 100%" in captured.err
    written = {path.name for path in Path("out/predictions").glob("*.png")}
    assert written == {"a.png", "a_overlay.png", "b.png", "b_overlay.png"}
    layer = DenseCRF(3, CRFConfig(iterations=2))
    for name, size in SIZES.items():
        assert torch.equal(predicted(name), through(layer, name))
        assert not torch.equal(predicted(name), logits_of(name)[0].argmax(0))
        with Image.open(f"out/predictions/{name}.png") as labels:
            assert labels.mode == "P"
            assert labels.size == size[::-1]
            assert labels.getpalette()[:9] == [part for color in VOC_PALETTE[:3] for part in color]
        with Image.open(f"out/predictions/{name}_overlay.png") as overlay:
            assert (overlay.mode, overlay.size) == ("RGB", size[::-1])


def test_the_default_is_deeplabs_published_crf(photos):
    main(["predict", "--scores", "scores", "photos/a.png", "--output", "out"])
    assert torch.equal(predicted("a"), through(DenseCRF.preset("deeplab", num_classes=3), "a"))
    assert not Path("out/predictions/b.png").exists()


def test_argmax_alone(photos):
    main(
        ["predict", "--crf", "none", "photos/a.png", "--scores", "scores", "photos/b.png", "--output", "out"]
    )
    for name in SIZES:
        assert torch.equal(predicted(name), logits_of(name)[0].argmax(0))


@pytest.mark.parametrize("kind", ["crf", "domain_transform"])
def test_what_a_search_found(photos, kind):
    found = {
        "crf": {"w1": 9.0, "theta_alpha": 7.0, "iterations": 3},
        "domain_transform": {"sigma_s": 12.0, "sigma_r": 40.0, "iterations": 2},
    }[kind]
    Path("best.yaml").write_text(yaml.safe_dump({kind: found}))
    main(["predict", "--scores", "scores", "photos", "--crf", "best.yaml", "--output", "out"])
    layer = (
        DenseCRF(3, CRFConfig(**found))
        if kind == "crf"
        else DomainTransform(DomainTransformConfig(**found, edges="image"))
    )
    for name in SIZES:
        assert torch.equal(predicted(name), through(layer, name))


def test_a_config_gives_colors_and_crf_and_needs_no_data_set(photos):
    colors = {
        "data": {
            "name": "folders",
            "root": "gone",
            "colors": {"x": [1, 2, 3], "y": [4, 5, 6], "z": [7, 8, 9]},
        }
    }
    Path("run.yaml").write_text(
        yaml.safe_dump({**colors, "crf": {"w1": 0.0, "iterations": 1}, "output": "mine"})
    )
    main(["predict", "run.yaml", "--scores", "scores", "photos"])
    assert torch.equal(predicted("a", "mine"), through(DenseCRF(3, CRFConfig(w1=0.0, iterations=1)), "a"))
    with Image.open("mine/predictions/a.png") as labels:
        assert labels.getpalette()[:9] == list(range(1, 10))
    Path("only.yaml").write_text("crf: {w1: 0.0, iterations: 1}\noutput: only\n")  # names no classes
    main(["predict", "--scores", "scores", "only.yaml", "photos"])
    assert torch.equal(predicted("a", "only"), predicted("a", "mine"))


def test_colors_of_a_known_data_set(photos):
    write_scores(Path("eleven"), [("a", torch.randn(11, 24, 32))], 11, False, "noise")
    main(
        [
            "predict",
            "--scores",
            "eleven",
            "photos/a.png",
            "--data.name",
            "camvid",
            "--crf",
            "none",
            "--output",
            "out",
        ]
    )
    with Image.open("out/predictions/a.png") as labels:
        assert labels.getpalette()[:3] == list(DATASET_CLASSES["camvid"].colors[0])


def test_gray_images_of_16_bits(photos):
    Path("deep").mkdir()
    np.save("deep/a.npy", np.linspace(0, 4095, 24 * 32).reshape(24, 32).astype(np.uint16))
    data = ["--data.image_range", "[0, 4095]", "--data.channels", "1"]
    main(["predict", "--scores", "scores", "deep/a.npy", "--output", "out", *data, *FEW])
    assert predicted("a").shape == (24, 32)


def test_nothing_of_others_is_overwritten(photos, refused):
    command = ["predict", "--scores", "scores", "photos", "--output", "out", "--crf", "none"]
    Path("out/predictions").mkdir(parents=True)
    Path("out/predictions/b_overlay.png").write_text("years of work")
    assert "b_overlay.png: exists already" in refused(*command)
    assert "b_overlay.png: not written by crfnet" in refused(*command, "--overwrite")
    assert [path.name for path in Path("out/predictions").iterdir()] == ["b_overlay.png"]
    Path("out/predictions/b_overlay.png").unlink()
    half_written = Path("out/predictions/.a.png.999999999.tmp")
    half_written.write_text("half")
    main(command)
    assert not half_written.exists()
    assert "a.png: exists already" in refused(*command)
    main([*command, "--overwrite"])
    Path("copy/predictions").mkdir(parents=True)
    Path("photos/a.png").rename("copy/predictions/a.png")
    again = ["predict", "--scores", "scores", "copy/predictions/a.png", "--output", "copy", "--overwrite"]
    assert "copy/predictions/a.png: is read, and would be replaced" in refused(*again)


def test_scores_and_images_that_do_not_belong_together(photos, refused):
    command = ["predict", "--scores", "scores", "photos", "--output", "out"]
    Path("scores/b.npz").rename("b.npz")
    line = refused(*command)
    assert "photos/b.png: scores holds no scores named 'b', only 'a'" in line
    Path("b.npz").rename("scores/b.npz")
    np.savez("scores/c.npz", scores=np.zeros((3, 12, 16), np.float32))
    assert "scores/c.npz: no image of that name in photos; " in refused(*command)
    main([*command[:3], "photos/a.png", "photos/b.png", "--output", "named", *FEW])  # a part of the scores
    np.savez("scores/b.npz", scores=np.zeros((4, 16, 10), np.float32))
    Path("scores/c.npz").unlink()
    assert "scores/b.npz: scores have shape (4, 16, 10), must be (3, hs, ws)" in refused(*command)
    for shape in ((10, 16), (20, 32)):
        np.savez("scores/b.npz", scores=np.zeros((3, *shape), np.float32))
        assert "scores/b.npz: scores are " in (line := refused(*command))
        assert "rows and columns look swapped" in line
    np.savez("scores/b.npz", scores=np.zeros((3, 33, 33), np.float32))
    assert "scores/b.npz: scores are 33 x 33" in (line := refused(*command))
    assert "must not be larger than the image, 32 x 20" in line
    np.savez("scores/b.npz", scores=np.full((3, 16, 10), np.nan, np.float32))
    assert "scores/b.npz: scores hold NaN" in refused(*command)
    yaml_file = Path("scores/scores.yaml")
    yaml_file.write_text(yaml_file.read_text().replace("align_corners: false", "align_corners: maybe"))
    assert "scores.yaml: align_corners is 'maybe', must be true, false or stretch" in refused(*command)
    yaml_file.unlink()
    assert "scores.yaml: missing; a score folder must hold it (crfnet convert-scores" in refused(*command)
    assert not Path("out").exists()


@pytest.mark.parametrize("cells", [(24, 32), (12, 16), (3, 4), (4, 5), (2, 2), (7, 7), (24, 24), (1, 1)])
def test_strides_and_square_inputs_are_taken(photos, cells):
    np.savez("scores/a.npz", scores=torch.randn(3, *cells).numpy())
    main(["predict", "--scores", "scores", "photos/a.png", "--output", "out", "--crf", "none"])
    expected = resize_logits(
        ScoreFolder(Path("scores")).stored_logits("a")[None], (24, 32), align_corners=False
    )
    assert torch.equal(predicted("a"), expected[0].argmax(0))


def test_a_broken_image_is_named_before_the_work(photos, refused):
    Path("photos/b.png").write_bytes(Path("photos/b.png").read_bytes()[:200])
    assert "photos/b.png: cannot be read" in refused(
        "predict", "--scores", "scores", "photos", "--output", "out"
    )
    assert not Path("out").exists()


def test_options_that_do_not_go_together(photos, refused, capsys):
    scores = ["--scores", "scores"]
    assert "--checkpoint --scores is required" in refused("predict", "photos")
    assert "not allowed with" in refused("predict", *scores, "--checkpoint", "x.pt", "photos")
    assert "give image files, or --split" in refused("predict", *scores)
    for source in (scores, ["--checkpoint", "x.pt"]):
        assert "give a CONFIG, which" in refused("predict", *source, "--split", "val")
    assert "--window: of GeoTIFFs with --checkpoint" in refused(
        "predict", *scores, "photos", "--window", "64"
    )
    assert "--model.width: without CONFIG only" in refused("predict", *scores, "photos", "--model.width", "1")
    assert "number of labels is 3, must be 21" in refused("predict", *scores, "photos", "--data.name", "voc")
    assert "gone.png: no such image file" in refused("predict", *scores, "gone.png")
    Path("empty").mkdir()
    assert "empty: no image, must be at least one" in refused("predict", *scores, "empty")
    Image.new("RGB", (32, 24)).save("photos/a.jpg")
    assert "named 'a', photos/a.jpg and photos/a.png" in refused("predict", *scores, "photos")
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    assert "crfnet predict --scores scores photos" in capsys.readouterr().out


def test_a_folder_goes_through_a_network_too_and_a_split_through_scores(tmp_path, capsys):
    config, out = tmp_path / "run.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump({**CONFIG, "output": str(out)}))
    main(["train", str(config)])
    weights = ["--checkpoint", str(out / "unary/train/checkpoint.pt")]
    main(["scores", str(config), *weights])
    main(["predict", str(config), "--scores", str(out / "scores"), "--split", "val"])
    assert "label maps and overlays of 5 images: " in capsys.readouterr().out
    toy = load_dataset(load_run(config).data, "val")
    (tmp_path / "photos").mkdir()
    for sample in (toy[0], toy[1]):
        picture = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
        picture.save(tmp_path / f"photos/{sample.id}.png")
    for name, crf, source in (
        ("network", [], weights),
        ("none", ["--crf", "none"], weights),
        ("scores", ["--crf", "none"], ["--scores", str(out / "scores")]),
    ):
        photos = [str(tmp_path / f"photos/{each}.png") for each in toy.ids[:2]]
        images = photos if name == "scores" else [str(tmp_path / "photos")]
        main(["predict", str(config), *source, *crf, *images, "--output", str(tmp_path / name)])
    for id in toy.ids[:2]:
        alone = predicted(id, str(tmp_path / "network"))
        assert torch.equal(alone, predicted(id, str(tmp_path / "none")))  # trained without a CRF
        assert (alone == predicted(id, str(tmp_path / "scores"))).float().mean() > 0.99


def test_scores_beside_their_images_are_no_images(photos):
    names = image_list([Path("photos")], None, _data()).names
    assert names == ("a", "b")
    np.save("photos/c.npy", np.zeros((4, 4), np.uint8))
    assert image_list([Path("photos")], None, _data()).names == ("a", "b", "c")
    assert image_list([Path("photos")], None, _data(), without=Path("photos")).names == ("a", "b")


def _data() -> DataConfig:
    return DataConfig(name="folders", root=Path(), classes=("x", "y"))


def test_more_search_images_than_there_are():
    with pytest.raises(InputError, match=r"search\.images is 100, must be at most 3") as caught:
        draw_images(["a", "b", "c"], SearchConfig(images=100))
    assert "give --search.images 2 " in str(caught.value)
    assert "not searched on are those that evaluate reports on" in str(caught.value)


def test_the_readme_shows_the_way_from_raw_arrays_to_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    section = text[text.index("Or hand over logits of any framework") : text.index("## Your own data")]
    metadata, config = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    for folder in ("photos", "raw", "ROOT/images/val", "ROOT/masks/val"):
        Path(folder).mkdir(parents=True)
    for seed, name in enumerate("abc"):
        picture = Image.fromarray(pixels((24, 32), seed).permute(1, 2, 0).numpy())
        picture.save(f"photos/{name}.jpg")
        picture.save(f"ROOT/images/val/{name}.jpg")
        mask = np.repeat([[0] * 8 + [1] * 8 + [2] * 16], 24, 0).astype(np.uint8)
        Image.fromarray(mask).save(f"ROOT/masks/val/{name}.png")
        logits = np.random.default_rng(seed).normal(size=(3, 24, 32)) + 2 * (
            np.arange(3)[:, None, None] == mask
        )
        np.save(f"raw/{name}.npy", logits.astype(np.float32))
    Path("mine.yaml").write_text(config)
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()
    ]
    commands = [shlex.split(line, comments=True)[1:] for line in lines]
    assert [words[0] for words in commands] == ["convert-scores", "predict", "search", "evaluate"]
    small = [
        "--search.images",
        "2",
        "--search.w1",
        "[3]",
        "--search.theta_alpha",
        "[9]",
        "--search.theta_beta",
        "[5]",
    ]
    small += [
        "--search.rounds",
        "1",
        "--evaluation.draws",
        "5",
        "--evaluation.max_width",
        "3",
        "--pictures",
        "1",
    ]
    for words in commands:
        main([*words, *(small if words[0] in ("search", "evaluate") else [])])
    assert yaml.safe_load(Path("scores/scores.yaml").read_text()).keys() == yaml.safe_load(metadata).keys()
    assert len(list(Path("out/predictions").glob("*.png"))) == 6
    said = capsys.readouterr().out.splitlines()[-1]
    folder = "runs/mine/evaluation"
    assert said == f"label maps: {folder}/posthoc/<id>.png, {folder}/unary/<id>.png"
    assert len(list(Path(folder).glob("posthoc/*.png"))) == 1

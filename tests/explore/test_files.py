"""What `crfnet explore` opens and saves, and what it says of bad input."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from crfnet.cli.main import main
from crfnet.crf.config_file import load_crf_config
from crfnet.crf.filters import LocalFilter
from crfnet.crf.inference import MeanField
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.domain_transform import DomainTransformConfig
from crfnet.domain_transform.config_file import save_domain_transform
from crfnet.errors import InputError
from crfnet.explore import open_session, save_crf
from crfnet.labels import write_label_png
from crfnet.photo import example_photo
from crfnet.resize import resize_logits
from crfnet.score_cache import ScoreFolder, write_scores

IMAGE = torch.zeros(3, 24, 32, dtype=torch.uint8)
SIZE = (24, 32)


@pytest.fixture
def scores():
    return torch.randn(3, 6, 8).half().float()


@pytest.fixture
def folder(tmp_path, scores):
    write_scores(tmp_path / "scores", [("a", scores), ("b", -scores)], 3, True, "a test")
    return tmp_path / "scores"


def test_every_form_of_scores(tmp_path, folder, scores):
    aligned = ScoreFolder(folder).logits("a", SIZE)
    assert torch.equal(open_session(IMAGE, folder, "a").logits, aligned)
    assert torch.equal(open_session(IMAGE, folder / "a.npz", "another").logits, aligned)
    plain = resize_logits(scores[None], SIZE, align_corners=False)
    np.savez(tmp_path / "many.npz", ids=np.array(["b", "a"]), logits=np.stack([-scores, scores]))
    assert torch.equal(open_session(IMAGE, tmp_path / "many.npz", "a").logits, plain)
    np.save(tmp_path / "one.npy", scores.numpy())
    assert torch.equal(open_session(IMAGE, tmp_path / "one.npy", "x").logits, plain)
    np.savez(tmp_path / "one.npz", anything=scores.numpy())
    assert torch.equal(open_session(IMAGE, tmp_path / "one.npz", "x").logits, plain)
    np.save(tmp_path / "softmax.npy", scores.softmax(0).numpy())
    read = open_session(IMAGE, tmp_path / "softmax.npy", "x").logits
    torch.testing.assert_close(read.softmax(1), plain.softmax(1))


@pytest.mark.parametrize(("shape", "words"), [((3, 99, 99), "must not be larger"), ((3, 10, 5), "swapped")])
def test_an_array_of_another_size_is_refused(tmp_path, shape, words):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    image = torch.zeros(3, 40, 80, dtype=torch.uint8)
    with pytest.raises(InputError, match=words):
        open_session(image, tmp_path / "a.npy", "")


def test_labels_and_names(tmp_path, folder):
    write_label_png(tmp_path / "truth.png", torch.ones(SIZE, dtype=torch.long))
    (tmp_path / "names.txt").write_text("sky\n\nroad\ncar\n")
    session = open_session(IMAGE, folder, "a", labels=tmp_path / "truth.png", classes=tmp_path / "names.txt")
    assert session.names == ("sky", "road", "car")
    assert session.metrics(torch.ones(SIZE, dtype=torch.long)).pixel_accuracy == 1


def test_bad_files_are_named(tmp_path, folder):
    def refused(match, scores=folder, id="a", **files):
        with pytest.raises(InputError, match=match) as caught:
            open_session(IMAGE, scores, id, **files)
        assert "\n" not in str(caught.value)

    def saved(name, array):
        np.save(tmp_path / name, array)
        return tmp_path / name

    refused("nowhere: holds no scores", tmp_path / "nowhere")
    refused("no scores for image 'c'", id="c")
    refused("none.npy: cannot be read", tmp_path / "none.npy")
    (tmp_path / "cut.npz").write_bytes((folder / "a.npz").read_bytes()[:100])
    refused("cut.npz: cannot be read", tmp_path / "cut.npz")
    np.savez(tmp_path / "two.npz", a=np.zeros(2), b=np.zeros(2))
    refused("holds arrays a, b", tmp_path / "two.npz")
    refused(r"not \(h, w, l\)", saved("last.npy", np.zeros((24, 32, 3))))
    refused("must be .l, h, w", saved("flat.npy", np.zeros((24, 32))))
    refused("finite", saved("nan.npy", np.full((3, 6, 8), np.nan)))
    refused("finite", saved("int.npy", np.zeros((3, 6, 8), dtype=int)))
    refused("pickle|read", saved("object.npy", np.array([{}], dtype=object)))
    write_label_png(tmp_path / "truth.png", torch.ones(24, 30, dtype=torch.long))
    refused(r"truth.png: labels of \(24, 30\)", labels=tmp_path / "truth.png")
    write_label_png(tmp_path / "truth.png", torch.full(SIZE, 7))
    refused("labels holds 7", labels=tmp_path / "truth.png")
    refused("names.txt: cannot be read", classes=tmp_path / "names.txt")
    (tmp_path / "names.txt").write_text("sky\n")
    refused("names: 1 class names, must be 3", classes=tmp_path / "names.txt")


@pytest.mark.parametrize(
    "config",
    [
        CRFConfig(),
        CRFConfig(w1=5.25, theta_alpha=33.0, w2=0.0, iterations=7, normalization="symmetric", prune=1e-3),
        CRFConfig(filter=LocalFilter(window=7, pool=2), inference=MeanField(damping=0.25), unary_weight=0.8),
    ],
)
def test_what_is_saved_is_what_every_command_reads(tmp_path, config):
    path = tmp_path / "crf.yaml"
    save_crf(path, config, ["by eye\non one image"])
    assert load_crf_config(path) == config
    assert path.read_text().startswith("# by eye on one image\n")
    for key in ("w1", "theta_alpha", "iterations", "filter"):
        assert f"  {key}: " in path.read_text()


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "crf.yaml"
    save_crf(path, CRFConfig(), [])
    before = path.read_bytes()
    other = replace(CRFConfig(), w1=9.0)
    with pytest.raises(InputError, match="exists already"):
        save_crf(path, other, [])
    assert path.read_bytes() == before
    save_crf(path, other, [], replace=True)
    assert load_crf_config(path) == other
    (tmp_path / "run.yaml").write_text("title: mine\n")
    with pytest.raises(InputError, match="must be the one key crf"):
        save_crf(tmp_path / "run.yaml", other, [], replace=True)
    assert (tmp_path / "run.yaml").read_text() == "title: mine\n"
    with pytest.raises(InputError, match=r"must end in \.yaml"):
        save_crf(tmp_path / "crf", other, [])
    with pytest.raises(InputError, match="no such folder"):
        save_crf(tmp_path / "new/crf.yaml", other, [])


@pytest.fixture
def refused(capsys):
    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["explore", *map(str, arguments)])
        assert stop.value.code == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("crfnet: ")]
        assert len(said) == 1
        return said[0]

    return run


def test_without_bokeh_one_line_says_what_to_install(refused, monkeypatch, folder):
    for name in ("crfnet.explore.server", "crfnet.explore.page"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "bokeh"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    assert "pip install 'crfnet[explore]'" in refused("a.png", folder)


def test_the_command_refuses_bad_input_before_a_page_is_served(refused, tmp_path, folder):
    pytest.importorskip("bokeh")
    Image.fromarray(IMAGE.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    Image.fromarray(IMAGE.permute(1, 2, 0).numpy()).save(tmp_path / "c.png")
    assert "none.png" in refused(tmp_path / "none.png", folder)
    assert "no scores for image 'c'" in refused(tmp_path / "c.png", folder)
    assert "best.yaml" in refused(tmp_path / "c.png", folder, "--id", "a", "--crf", tmp_path / "best.yaml")
    learned = tmp_path / "learned.yaml"
    save_domain_transform(learned, DomainTransformConfig(edges="learned", layers=("backbone.layer1",)))
    assert "learned.yaml: domain_transform.edges is learned" in refused("--crf", learned)
    assert "--crf.w1 is no option" in refused(tmp_path / "a.png", folder, "--crf.w1", "5")
    assert "--port is 0" in refused(tmp_path / "a.png", folder, "--port", "0")
    assert "SCORES are missing" in refused(tmp_path / "a.png")
    assert "--palette belongs to an IMAGE" in refused("--palette", "voc")
    assert "--image-range belongs to an IMAGE" in refused("--image-range", "0", "9")
    assert "--channels is 0" in refused(tmp_path / "a.png", folder, "--channels", "0")
    assert "low < high" in refused(tmp_path / "a.png", folder, "--image-range", "9", "9")
    np.save(tmp_path / "deep.npy", np.zeros((*SIZE, 4), np.uint16))
    assert "4 channels" in refused(tmp_path / "deep.npy", folder, "--id", "a")
    assert "image_range" in refused(tmp_path / "deep.npy", folder, "--id", "a", "--channels", "4")


def test_images_of_more_bits_and_bands_are_read_and_shown_as_rgb(tmp_path, folder, monkeypatch):
    server = pytest.importorskip("crfnet.explore.server")
    page = pytest.importorskip("crfnet.explore.page")
    document = pytest.importorskip("bokeh.document").Document
    shown = []
    monkeypatch.setattr(server, "serve", lambda session, *_, **__: shown.append(session))
    pixels = np.random.default_rng(0).integers(100, 300, (*SIZE, 5), dtype=np.uint16)
    np.save(tmp_path / "a.npy", pixels)
    options = ["--channels", "5", "--image-range", "100", "355", "--no-browser"]
    main(["explore", str(tmp_path / "a.npy"), str(folder), *options])
    (session,) = shown
    assert torch.equal(session.image, torch.from_numpy((pixels - 100).astype(np.uint8)).permute(2, 0, 1))
    crf = CRFConfig(iterations=2)
    opened = page.Page(document(), session, crf, "a test", tmp_path)
    with torch.no_grad():
        wanted = DenseCRF(3, crf).eval().map(session.logits, session.image[None])[0]
    assert torch.equal(session.solve(crf).labels, wanted)
    for choice in ("", "1"):
        opened.shown_class.value = choice
        opened.start()
        assert opened.pictures["network"].data["image"][0].shape == SIZE
    assert np.array_equal(opened.pictures["image"].data["image"][0], page.rgba(session.image[:3]))
    opened.redraw.close()


def test_without_arguments_the_photo_is_shown(tmp_path, monkeypatch):
    server = pytest.importorskip("crfnet.explore.server")
    shown = []
    monkeypatch.setattr(server, "serve", lambda *arguments, **options: shown.append((arguments, options)))
    main(["explore", "--output", str(tmp_path), "--no-browser"])
    (((session, crf, source, folder), options),) = shown
    photo = example_photo()
    assert torch.equal(session.image, photo.image[0])
    assert torch.equal(session.logits, photo.logits)
    assert session.names == photo.names
    assert crf == CRFConfig()
    assert "example photo" in source
    assert (folder, options) == (tmp_path, {"port": 5006, "browser": False})

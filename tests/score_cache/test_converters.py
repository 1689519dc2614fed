import os

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from crfnet.cli.main import main
from crfnet.errors import InputError
from crfnet.score_cache import ScoreFolder
from crfnet.score_cache.converters import ConvertOptions, convert_scores
from crfnet.score_cache.formats import FORMATS

LABELS = 3
SIZES = {"2007_000001": (5, 7), "b_2": (6, 4)}  # rows x columns
CROP = (9, 9)


def logits(image_id: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """(l, h, w), exact in float16."""
    rows, columns = size or SIZES[image_id]
    generator = np.random.default_rng(len(image_id))
    return generator.integers(-99, 99, (LABELS, rows, columns)).astype(np.float32) / 8


def padded(image_id: str) -> np.ndarray:
    """The scores of the image in the corner of the crop; something else beside it."""
    whole = np.full((LABELS, *CROP), 7.0, np.float32)
    rows, columns = SIZES[image_id]
    whole[:, :rows, :columns] = logits(image_id)
    return whole


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for (image_id, (rows, columns)), suffix in zip(SIZES.items(), (".jpg", ".png"), strict=True):
        Image.new("RGB", (columns, rows)).save(folder / f"{image_id}{suffix}")
    return folder


def same(folder: ScoreFolder) -> None:
    assert folder.ids == tuple(sorted(SIZES))
    for image_id in SIZES:
        assert torch.equal(folder.stored_logits(image_id), torch.from_numpy(logits(image_id)))


@pytest.fixture
def caffe(tmp_path):
    """As the Caffe release's MatWrite layer leaves them: its (1, l, h, w), column-major: (w, h, l, 1)."""
    folder = tmp_path / "fc8"
    folder.mkdir()
    for image_id in SIZES:
        savemat(folder / f"{image_id}_blob_0.mat", {"data": padded(image_id).transpose(2, 1, 0)[..., None]})
    return folder


def test_caffe_features(tmp_path, caffe, images):
    same(convert_scores(caffe, tmp_path / "out", ConvertOptions(images=images)))


def test_caffe_features_on_the_command_line(tmp_path, caffe, images, capsys):
    main(["convert-scores", str(caffe), "--to", str(tmp_path / "out"), "--images", str(images)])
    assert "scores of 2 images, 3 classes" in capsys.readouterr().out
    same(ScoreFolder(tmp_path / "out"))
    assert f"source: converted from {caffe}" in (tmp_path / "out" / "scores.yaml").read_text()
    with pytest.raises(SystemExit) as caught:
        main(["convert-scores", str(caffe), "--to", str(tmp_path / "other")])
    assert caught.value.code == 2
    assert "give the folder of the images (--images)" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["convert-scores", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in (*FORMATS, "_blob_0", "--axes", "examples:"))


def test_npz_with_a_key_and_axes(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    for image_id in SIZES:
        np.savez(source / f"{image_id}.npz", prob=logits(image_id).transpose(1, 2, 0), other=np.zeros(3))
    options = ConvertOptions(axes="hwl", key="prob", align_corners=True)
    folder = convert_scores(source, tmp_path / "out", options)
    same(folder)
    assert folder.align_corners
    with pytest.raises(InputError, match="holds prob, other; choose an array with --key"):
        convert_scores(source, tmp_path / "no", ConvertOptions(axes="hwl"))
    with pytest.raises(InputError, match="must hold an array 'logits'"):
        convert_scores(source, tmp_path / "no", ConvertOptions(key="logits"))


def test_probabilities_are_not_taken_for_logits(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    for image_id in SIZES:
        np.save(source / f"{image_id}.npy", torch.from_numpy(logits(image_id)).softmax(0).numpy())
    with pytest.raises(InputError, match=r"2007_000001\.npy: .* are not logits; give --kind probabilities"):
        convert_scores(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(convert_scores(source, tmp_path / "out", ConvertOptions(kind="probabilities")).ids) == 2


def probabilities(image_id: str) -> np.ndarray:
    return torch.from_numpy(logits(image_id) / 9).softmax(0).numpy()


def saved(folder, make):
    folder.mkdir()
    for image_id in SIZES:
        np.save(folder / f"{image_id}.npy", make(image_id))
    return folder


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [
        (255, np.uint8),
        (65535, np.uint16),
        (255, np.int64),
        (255, np.float32),
        (100, np.float32),
        (1, np.float16),
    ],
)
def test_probabilities_on_another_scale(tmp_path, scale, dtype):
    def stored(image_id):
        values = probabilities(image_id) * scale
        return (np.round(values) if np.dtype(dtype).kind in "iu" else values).astype(dtype)

    source = saved(tmp_path / "s", stored)
    folder = convert_scores(source, tmp_path / "out", ConvertOptions(kind="probabilities"))
    for image_id in SIZES:
        read = folder.stored_logits(image_id).exp()
        assert torch.allclose(read, torch.from_numpy(probabilities(image_id)), atol=3e-3)
    with pytest.raises(InputError, match=f"sum to {scale} at every pixel are not logits; give --kind prob"):
        convert_scores(source, tmp_path / "no")


@pytest.mark.parametrize("bad", [lambda p: p * 7, lambda p: p - 0.5, lambda p: p * np.nan, lambda p: p * 3e4])
def test_probabilities_on_no_scale_are_refused_at_once(tmp_path, bad):
    source = saved(tmp_path / "s", lambda image_id: bad(probabilities(image_id)))
    words = (
        r"2007_000001\.npy: values from .* must be probabilities: 0..1, bytes, or numbers whose labels sum"
    )
    with pytest.raises(InputError, match=words):
        convert_scores(source, tmp_path / "out", ConvertOptions(kind="probabilities"))
    assert not (tmp_path / "out").exists()


def test_labels_last_are_recognized_by_their_sums(tmp_path, capsys):
    source = saved(tmp_path / "s", lambda image_id: probabilities(image_id).transpose(1, 2, 0))
    folder = convert_scores(source, tmp_path / "out", ConvertOptions(kind="probabilities"))
    expected = convert_scores(source, tmp_path / "o2", ConvertOptions(kind="probabilities", axes="hwl"))
    for image_id in SIZES:
        assert folder.num_classes == LABELS
        assert torch.equal(folder.stored_logits(image_id), expected.stored_logits(image_id))
    with pytest.raises(InputError, match=r"sums to a constant along w, not along l \(lhw\)"):
        convert_scores(source, tmp_path / "no", ConvertOptions(kind="probabilities", axes="lhw"))


def test_labels_last_are_recognized_by_the_length_that_stays(tmp_path, caplog):
    source = saved(tmp_path / "s", lambda image_id: logits(image_id).transpose(1, 2, 0))
    with caplog.at_level("INFO", "crfnet"):
        same(convert_scores(source, tmp_path / "out"))
    assert "the arrays are hwl, not lhw: recognized" in caplog.text


def test_any_order_is_recognized_by_the_images(tmp_path, images):
    for order in ((0, 1, 2), (1, 2, 0), (2, 1, 0), (0, 2, 1), (1, 0, 2)):
        name = "".join(map(str, order))
        source = saved(tmp_path / name, lambda image_id, order=order: logits(image_id).transpose(order))
        same(convert_scores(source, tmp_path / f"out{name}", ConvertOptions(images=images)))


def test_images_are_of_the_size_that_viewers_show(tmp_path):
    """A photo stored on its side, in upper case."""
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 24)).save(tmp_path / "photos/a.JPG", exif=exif)
    (tmp_path / "raw").mkdir()
    stored = np.random.default_rng(0).normal(size=(3, 48, 48)).astype(np.float32)
    np.save(tmp_path / "raw/a.npy", stored)
    options = ConvertOptions(axes="lhw", images=tmp_path / "photos")
    found = convert_scores(tmp_path / "raw", tmp_path / "out", options).stored_logits("a")
    torch.testing.assert_close(found, torch.from_numpy(stored[:, :40, :24]), rtol=1e-2, atol=1e-2)


def test_axes_that_cannot_be_told_are_refused(tmp_path):
    one = np.random.default_rng(0).normal(size=(30, 20, 4))
    source = saved(tmp_path / "s", lambda image_id: one)
    with pytest.raises(
        InputError, match=r"\(30, 20, 4\): the last axis may be labels or columns; give --axes"
    ):
        convert_scores(source, tmp_path / "out")
    assert convert_scores(source, tmp_path / "hwl", ConvertOptions(axes="hwl")).num_classes == 4
    assert convert_scores(source, tmp_path / "lhw", ConvertOptions(axes="lhw")).num_classes == 30


def test_what_is_written_is_read_back(tmp_path, monkeypatch):
    source = saved(tmp_path / "s", logits)
    read, original = [], ScoreFolder.stored_logits

    def stored(self, image_id):
        read.append(image_id)
        if image_id == "b_2":
            raise InputError("scores of b_2 cannot be read")
        return original(self, image_id)

    monkeypatch.setattr(ScoreFolder, "stored_logits", stored)
    with pytest.raises(InputError, match="b_2 cannot be read"):
        convert_scores(source, tmp_path / "out")
    assert read == list(SIZES)
    monkeypatch.undo()
    assert ScoreFolder(tmp_path / "out").ids == ("2007_000001",)


def test_npy_with_a_batch_axis_and_names(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    for image_id in SIZES:
        np.save(source / f"{image_id}_fc8.npy", logits(image_id)[None])
    same(convert_scores(source, tmp_path / "out", ConvertOptions(strip="_fc8")))


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_png_stack(tmp_path, dtype, largest):
    source = tmp_path / "s"
    source.mkdir()
    chances = {image_id: torch.from_numpy(logits(image_id)).softmax(0).numpy() for image_id in SIZES}
    for image_id, values in chances.items():
        for label, one in enumerate(values):
            Image.fromarray(np.round(one * largest).astype(dtype)).save(source / f"{image_id}_{label}.png")
    folder = convert_scores(source, tmp_path / "out")
    for image_id, values in chances.items():
        expected = torch.from_numpy(values).clamp(1e-5, 1)
        assert torch.allclose(folder.stored_logits(image_id).exp(), expected, atol=0.6 / largest + 5e-4)
    (source / "b_2_1.png").unlink()
    with pytest.raises(InputError, match="b_2 has 2 files, but none of class 1"):
        convert_scores(source, tmp_path / "no")
    (source / "plain.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"plain\.png: its name holds no class"):
        convert_scores(source, tmp_path / "no")


def test_cut_short_and_continued(tmp_path, caffe, images):
    options = ConvertOptions(images=images)
    broken = caffe / "b_2_blob_0.mat"
    content = broken.read_bytes()
    broken.write_bytes(content[:200])
    with pytest.raises(InputError, match=r"b_2_blob_0\.mat: cannot be read"):
        convert_scores(caffe, tmp_path / "out", options)
    assert ScoreFolder(tmp_path / "out").ids == ("2007_000001",)
    broken.write_bytes(content)
    same(convert_scores(caffe, tmp_path / "out", options))


def test_what_cannot_be_converted(tmp_path, caffe, images):
    options = ConvertOptions(images=images)
    with pytest.raises(InputError, match="no such folder"):
        convert_scores(tmp_path / "nowhere", tmp_path / "out", options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no files, must be one of mat, npz, npy, png"):
        convert_scores(tmp_path / "empty", tmp_path / "out", options)
    with pytest.raises(InputError, match=r"holds no \.npy file"):
        convert_scores(caffe, tmp_path / "out", ConvertOptions("npy"))
    with pytest.raises(InputError, match="axes is 'lhx'"):
        ConvertOptions(axes="lhx")
    Image.new("RGB", (4, 10)).save(images / "b_2.png")
    with pytest.raises(
        InputError, match=r"scores are 9 x 9 \(rows x columns\), must not be smaller than the image, 10 x 4"
    ):
        convert_scores(caffe, tmp_path / "out", options)
    savemat(caffe / "b_2_blob_0.mat", {"data": np.zeros((4, 4))})
    with pytest.raises(InputError, match="must be numbers with three axes"):
        convert_scores(caffe, tmp_path / "out2", options)
    (images / "b_2.png").unlink()
    with pytest.raises(InputError, match="no image 'b_2'"):
        convert_scores(caffe, tmp_path / "out2", options)


def test_files_that_were_written_since_are_converted_again(tmp_path, caplog):
    source, to = tmp_path / "raw", tmp_path / "scores"
    source.mkdir()
    for name in ("a", "b"):
        np.save(source / f"{name}.npy", np.ones((3, 4, 5), np.float32))
    convert_scores(source, to)
    kept = (to / "b.npz").read_bytes()
    np.save(source / "a.npy", np.full((3, 4, 5), 2, np.float32))
    later = (to / "a.npz").stat().st_mtime_ns + 10**9
    os.utime(source / "a.npy", ns=(later, later))
    with caplog.at_level("INFO", "crfnet"):
        scores = convert_scores(source, to)
    assert scores.stored_logits("a").mean() == 2
    assert (to / "b.npz").read_bytes() == kept
    assert "1 of 2 are kept" in caplog.text


def test_scores_of_another_source_stay_when_they_are_refused(tmp_path):
    to = tmp_path / "scores"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", np.ones((3, 4, 5), np.float32))
    convert_scores(tmp_path / "one", to)
    kept = (to / "a.npz").read_bytes()
    later = (to / "a.npz").stat().st_mtime_ns + 10**9
    os.utime(tmp_path / "two/a.npy", ns=(later, later))
    with pytest.raises(InputError, match="converted from"):
        convert_scores(tmp_path / "two", to)
    assert (to / "a.npz").read_bytes() == kept

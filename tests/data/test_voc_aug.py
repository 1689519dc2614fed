"""trainaug out of a small VOC and a small SBD in their real layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from crfnet.cli.main import main
from crfnet.data import DataConfig, load_dataset
from crfnet.data.voc_aug import TRAINAUG, build_trainaug
from crfnet.errors import InputError

TRAIN, VAL = ("v1", "v2"), ("w1", "w2")
SBD_TRAIN, SBD_VAL = ("v1", "s1", "w1"), ("s2", "v2", "s3")  # of both VOC splits, and its own
SIZE = (5, 7)


def sbd_mask(root: Path, image_id: str, labels: np.ndarray) -> None:
    """``GTcls`` of the real files: a structure with boundaries, segmentation and categories."""
    boundaries = np.zeros((20, 1), object)
    boundaries[:, 0] = [np.zeros(SIZE, np.uint8)] * 20
    content = {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": np.unique(labels)}
    savemat(root / f"cls/{image_id}.mat", {"GTcls": content})


@pytest.fixture
def voc(voc_writer):
    ids = sorted({*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL})
    writer = voc_writer()
    for image_id in ids:
        writer.image(image_id, np.full((*SIZE, 3), 50), ending="jpg")
        if image_id in TRAIN + VAL:
            labels = np.full(SIZE, 3)
            labels[0] = 255
            writer.mask(image_id, labels)
    writer.list("train", "\n".join(TRAIN))
    writer.list("val", "\n".join(VAL))
    return writer


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    root = tmp_path / "benchmark_RELEASE/dataset"
    (root / "cls").mkdir(parents=True)
    (root / "train.txt").write_text("\n".join(SBD_TRAIN))
    (root / "val.txt").write_text("\n".join(SBD_VAL))
    for place, image_id in enumerate((*SBD_TRAIN, *SBD_VAL)):
        sbd_mask(root, image_id, np.full(SIZE, 10 + place, np.uint8))
    return root


def stored(voc, image_id: str) -> np.ndarray:
    with Image.open(voc.root / f"SegmentationClassAug/{image_id}.png") as image:
        assert image.mode == "P"
        return np.array(image)


def build(voc, sbd, **keys):
    return build_trainaug(voc.root, sbd, expected=5, **keys)


def refused(voc, sbd, *parts: str, **keys) -> None:
    with pytest.raises(InputError) as caught:
        build(voc, sbd, **keys)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_the_count_of_the_papers():
    assert TRAINAUG == 10582


def test_trainaug_is_both_without_val_and_vocs_masks_win(voc, sbd):
    made = build(voc, sbd.parent.parent / "benchmark_RELEASE")
    listed = made.path.read_text().split()
    assert listed == ["s1", "s2", "s3", "v1", "v2"]
    assert made[:4] == (5, 4, 3, 7)
    for image_id in TRAIN + VAL:  # w1 and v1 are SBD's too
        assert (voc.root / f"SegmentationClassAug/{image_id}.png").read_bytes() == voc.mask_path(
            image_id
        ).read_bytes()
    assert [stored(voc, image_id).max() for image_id in ("s1", "s2", "s3")] == [11, 13, 15]
    dataset = load_dataset(DataConfig(name="voc", root=voc.root, train="trainaug"), "train")
    dataset.check()
    assert [int(sample.labels[1, 1]) for sample in dataset] == [11, 13, 15, 3, 3]


def test_a_second_run_goes_on_and_changes_nothing(voc, sbd):
    build(voc, sbd)
    files = sorted((voc.root / "SegmentationClassAug").iterdir())
    assert [path.suffix for path in files] == [".png"] * 7
    before = {path: path.stat().st_mtime_ns for path in files}
    files[0].unlink()
    (voc.root / "ImageSets/Segmentation/trainaug.txt").unlink()
    made = build(voc, sbd)
    assert (made.written, made.path.is_file()) == (1, True)
    assert {path: path.stat().st_mtime_ns for path in files[1:]} == {p: before[p] for p in files[1:]}


@pytest.mark.parametrize("wrong", ["w1", "s1"])
def test_other_masks_are_replaced_only_when_asked(voc, sbd, wrong):
    build(voc, sbd)
    path = voc.root / f"SegmentationClassAug/{wrong}.png"
    for content in (np.full(SIZE, 9, np.uint8), np.full((3, 3), 9, np.uint8), None):
        if content is None:
            path.write_bytes(b"broken")
        else:
            Image.fromarray(content).save(path)
        before = path.read_bytes()
        refused(voc, sbd, f"{wrong}.png: not VOC's mask", "and 0 more", "--overwrite")
        assert path.read_bytes() == before
        assert build(voc, sbd, overwrite=True).written == 1
        assert build(voc, sbd).written == 0


def test_another_list_is_kept(voc, sbd):
    path = voc.list("trainaug", "v1\n")
    refused(voc, sbd, "trainaug.txt: another list is there", "--overwrite")
    assert not (voc.root / "SegmentationClassAug").exists()
    assert build(voc, sbd, overwrite=True).path == path
    same = "".join(
        f"/JPEGImages/{image_id}.jpg /SegmentationClassAug/{image_id}.png\n"
        for image_id in path.read_text().split()[::-1]
    )
    path.write_text(same)  # the same ids in another order and form
    build(voc, sbd)
    assert path.read_text() == same
    path.write_text("no id at all\n")
    refused(voc, sbd, "another list")
    build(voc, sbd, overwrite=True)
    assert path.read_text() == "s1\ns2\ns3\nv1\nv2\n"


def test_a_folder_that_cannot_be_written_is_refused_unless_all_is_there(voc, sbd, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    refused(voc, sbd, "SegmentationClassAug: cannot be written", str(voc.root))
    monkeypatch.undo()
    build(voc, sbd)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert build(voc, sbd).written == 0


def test_the_number_of_ids_is_checked_before_anything_is_written(voc, sbd):
    with pytest.raises(
        InputError, match="5 ids from 6 of SBD, 2 of VOC train and 2 of VOC val, must be 10582"
    ):
        build_trainaug(voc.root, sbd)
    assert not (voc.root / "SegmentationClassAug").exists()


def test_void_is_what_tells_vocs_masks_from_sbds(voc, sbd):
    for image_id in VAL:
        voc.mask(image_id, np.full(SIZE, 3))
    refused(voc, sbd, "no mask of the 2 of val holds 255")


def test_files_that_are_missing_or_broken(voc, sbd):
    for path, parts in {
        voc.mask_path("v1"): ("v1.png: no such file, and 0 more",),
        voc.image_path("s2", "jpg"): ("s2.jpg: no such file",),
        sbd / "cls/s3.mat": ("s3.mat: no such file",),
        sbd / "val.txt": ("val.txt: no such list",),
    }.items():
        whole = path.read_bytes()
        path.unlink()
        refused(voc, sbd, *parts)
        path.write_bytes(whole)
    build(voc, sbd)


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        (np.full(SIZE, 21, np.uint8), "up to 21, must be 8 bits, (h, w), 0..20"),
        (np.full(SIZE, 255, np.uint8), "up to 255"),
        (np.full(SIZE, 3.0), "float64"),
        (np.full((7, 5), 3, np.uint8), "must be of equal sizes"),
    ],
)
def test_masks_of_sbd_that_are_none(voc, sbd, labels, part):
    sbd_mask(sbd, "s1", labels)
    refused(voc, sbd, "s1.mat", part)
    assert not (voc.root / "ImageSets/Segmentation/trainaug.txt").exists()
    savemat(sbd / "cls/s1.mat", {"GTcls": np.zeros((2, 2))})
    refused(voc, sbd, "s1.mat: GTcls is no structure")


def test_the_command(voc, sbd, capsys):
    arguments = ["data", "voc-aug", str(voc.root), str(sbd)]
    main([*arguments, "--count", "5"])
    out = capsys.readouterr().out
    assert "trainaug: 5 ids" in out
    assert "4 of VOC (val's among them), 3 of SBD; 7 written now" in out
    for more, part in (
        ([], "must be 10582"),
        (["--count", "5", "--workers", "0"], "--workers is 0"),
        (["--data.root", "x"], "there is none"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*arguments, *more])
        assert stop.value.code == 2
        assert part in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit):
        main(["data", "voc-aug", str(voc.root), str(sbd.parent / "cls")])
    assert "SBD: " in capsys.readouterr().err

"""Images as viewers show them, in any file: orientation, endings, bits, channels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crfnet.cli.main import main
from crfnet.data import DataConfig, load_dataset, read_image
from crfnet.data.check import split_statistics
from crfnet.errors import InputError
from crfnet.files import read_indices
from tests.data.test_layouts import SIZE, image, mask

PIXELS = np.arange(5 * 7 * 3).reshape(5, 7, 3).astype(np.uint8)
#: How the stored pixels are shown for each orientation, from the EXIF standard's rows and columns.
SHOWN = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: np.swapaxes(x, 0, 1),
    6: lambda x: np.swapaxes(x[::-1], 0, 1),
    7: lambda x: np.swapaxes(x[::-1, ::-1], 0, 1),
    8: lambda x: np.swapaxes(x, 0, 1)[::-1],
}


def turned(path: Path, pixels: np.ndarray, orientation: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_orientation_is_that_of_a_viewer(tmp_path, orientation, ending):
    path = tmp_path / f"a.{ending}"
    turned(path, PIXELS, orientation)
    assert np.array_equal(read_image(path).permute(1, 2, 0).numpy(), SHOWN[orientation](PIXELS))


@pytest.mark.parametrize("orientation", [3, 6])
def test_masks_are_turned_like_images(tmp_path, orientation):
    labels = (np.arange(35).reshape(SIZE) % 3).astype(np.uint8)
    turned(tmp_path / "images/train/a.png", PIXELS, orientation)
    shown = np.ascontiguousarray(SHOWN[orientation](labels))
    config = DataConfig(name="folders", root=tmp_path, classes=("a", "b", "c"))
    (tmp_path / "masks/train").mkdir(parents=True)
    # Drawn over what the viewer shows, or stored with the image's own orientation.
    Image.fromarray(shown).save(tmp_path / "masks/train/a.png")
    assert np.array_equal(load_dataset(config, "train")[0].labels.numpy(), shown)
    turned(tmp_path / "masks/train/a.png", labels, orientation)
    assert np.array_equal(load_dataset(config, "train")[0].labels.numpy(), shown)
    Image.fromarray(labels).save(tmp_path / "masks/train/a.png")
    if orientation == 6:
        with pytest.raises(InputError, match="the image is turned by its EXIF data"):
            load_dataset(config, "train")[0]


def test_a_damaged_orientation_says_nothing(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=b"Exif\0\0broken")
    assert np.array_equal(read_image(tmp_path / "a.png").permute(1, 2, 0).numpy(), PIXELS)


def test_endings_in_any_case_and_hidden_files(tmp_path):
    endings = ["TIF", "JPG", "Jpg", "PNG", "jpeg"]
    for place, ending in enumerate(endings):
        image(tmp_path / f"images/train/x{place}.{ending}")
        mask(tmp_path / f"masks/train/x{place}.{['png', 'PNG', 'tif', 'TIF', 'bmp'][place]}", place % 2)
    (tmp_path / "images/train/._x0.jpg").write_bytes(b"resource fork")
    (tmp_path / "images/train/Thumbs.db").write_bytes(b"no image")
    dataset = load_dataset(DataConfig(name="folders", root=tmp_path, classes=("a", "b")), "train")
    assert dataset.ids == ("x0", "x1", "x2", "x3", "x4")
    dataset.check("train")
    assert [int(dataset[i].labels[0, 0]) for i in range(5)] == [0, 1, 0, 1, 0]


def test_voc_finds_endings_in_any_case(voc_writer):
    writer = voc_writer("a")
    writer.image_path("a").rename(writer.image_path("a", "JPG"))
    writer.mask_path("a").rename(writer.mask_path("a").with_suffix(".PNG"))
    load_dataset(DataConfig(name="voc", root=writer.root), "train").check()


def test_hidden_files_are_no_cityscapes(tmp_path):
    image(tmp_path / "leftImg8bit/val/ulm/ulm_1_2_leftImg8bit.png")
    (tmp_path / "leftImg8bit/val/ulm/._ulm_1_2_leftImg8bit.png").write_bytes(b"")
    assert load_dataset(DataConfig(name="cityscapes", root=tmp_path), "val").ids == ("ulm_1_2",)


def test_a_suffix_of_the_masks(tmp_path):
    image(tmp_path / "images/train/a.jpg")
    mask(tmp_path / "masks/train/a_mask.png", 1)
    keys = {"name": "folders", "root": tmp_path, "classes": ("a", "b")}
    with pytest.raises(InputError) as caught:
        load_dataset(DataConfig(**keys), "train").check()
    message = str(caught.value)
    for part in ("masks/train/{id}.png", "images/train/a.jpg", "a_mask.png", "give data.mask_suffix: _mask"):
        assert part in message, message
    found = load_dataset(DataConfig(**keys, mask_suffix="_mask"), "train")
    assert (found.ids, int(found[0].labels[0, 0])) == (("a",), 1)


@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_images_and_masks_in_one_folder(tmp_path, suffix):
    for name in "ab":
        image(tmp_path / f"train/{name}.jpg")
        mask(tmp_path / f"train/{name}{suffix}.png", 1)
    config = DataConfig(
        name="folders", root=tmp_path, images=".", masks=".", mask_suffix=suffix, classes=("a", "b")
    )
    dataset = load_dataset(config, "train")
    assert dataset.ids == ("a", "b")
    assert dataset.without_image == ()
    assert int(dataset[1].labels[0, 0]) == 1


def test_lists_of_file_names(tmp_path):
    image(tmp_path / "images/a.jpg")
    mask(tmp_path / "masks/a.png", 1)
    (tmp_path / "train.txt").write_text("a.jpg\n")
    dataset = load_dataset(DataConfig(name="folders", root=tmp_path, classes=("a", "b")), "train")
    assert dataset.ids == ("a",)
    dataset.check()


def test_home_in_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert DataConfig(name="voc", root=Path("~/voc")).root == tmp_path / "voc"
    assert DataConfig(name="voc", root=Path("~nobody_of_that_name/x")).root == Path("~nobody_of_that_name/x")


def test_more_than_8_bits_by_a_range(tmp_path):
    numbers = (np.arange(35).reshape(SIZE) * 100).astype(np.uint16)
    path = tmp_path / "a.png"
    Image.fromarray(numbers).save(path)
    with pytest.raises(InputError, match=r"data.image_range: \[low, high\].*values from 0 to 3400"):
        read_image(path)
    wanted = np.round(np.clip(numbers.astype(float) - 1000, 0, 2000) * 255 / 2000)
    gray = read_image(path, 1, (1000.0, 3000.0))
    assert np.array_equal(gray[0].numpy(), wanted)
    assert np.array_equal(read_image(path, 3, (1000.0, 3000.0)).numpy(), np.stack([wanted] * 3))


@pytest.mark.parametrize("ending", ["tif", "npy"])
def test_floating_point_by_a_range(tmp_path, ending):
    values = np.linspace(-0.5, 1.5, 35).reshape(SIZE).astype(np.float32)
    values[0, 0] = np.nan
    path = tmp_path / f"a.{ending}"
    if ending == "tif":
        Image.fromarray(values).save(path)
    else:
        np.save(path, values)
    with pytest.raises(InputError, match=r"data\.image_range"):
        read_image(path, 1)
    found = read_image(path, 1, (0.0, 1.0))[0].numpy()
    values[0, 0] = 0
    assert np.array_equal(found, np.round(np.clip(values, 0, 1) * 255))


def test_channels(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "rgb.png")
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "gray.png")
    Image.fromarray(np.concatenate([PIXELS, PIXELS[..., :1]], 2)).save(tmp_path / "rgba.png")
    bands = np.concatenate([PIXELS, PIXELS[..., :2]], 2)
    np.save(tmp_path / "five.npy", bands)
    assert read_image(tmp_path / "rgb.png", 1).shape == (1, *SIZE)
    assert np.array_equal(read_image(tmp_path / "gray.png", 1)[0].numpy(), PIXELS[..., 0])
    assert np.array_equal(read_image(tmp_path / "rgba.png", 4)[3].numpy(), PIXELS[..., 0])
    assert np.array_equal(read_image(tmp_path / "rgba.png").permute(1, 2, 0).numpy(), PIXELS)
    assert np.array_equal(read_image(tmp_path / "five.npy", 5).permute(1, 2, 0).numpy(), bands)
    for name, wanted in (("rgb.png", 4), ("five.npy", 3), ("gray.png", 2)):
        with pytest.raises(InputError, match=rf"must be {wanted} \(data.channels\)"):
            read_image(tmp_path / name, wanted)


def test_16_bits_of_several_channels_are_not_cut_off_silently(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(sixteen_bit_rgb())
    with pytest.raises(InputError, match="of which Pillow reads 8 bits"):
        read_image(path)


def sixteen_bit_rgb() -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0))
    rows = (b"\0" + b"\1\2" * 21) * 5
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_the_check_reports_every_odd_file_once(tmp_path, capsys):
    """A folder as users have them: each odd file is told in plain words, once."""
    folder, truth = tmp_path / "images/train", tmp_path / "masks/train"
    for name in ("good.JPG", "turned.tif", "square.png", "nomask.png"):
        image(folder / name)
    for name in ("good.png", "turned.TIF", "square.png", "color.png", "deep.png", "big.png", "alone.png"):
        mask(truth / name, np.arange(35).reshape(SIZE) % 2)
    (folder / "._good.JPG").write_bytes(b"resource fork")
    Image.fromarray((np.arange(35).reshape(SIZE) * 100).astype(np.uint16)).save(folder / "deep.png")
    image(folder / "color.png")
    Image.fromarray(PIXELS).save(truth / "color.png")
    image(folder / "big.png", (9, 9))
    (folder / "broken.jpg").write_bytes(b"no image")
    mask(truth / "broken.png", 0)
    image(folder / "strange.png")
    mask(truth / "strange.png", 200)
    for name in ("x.png", "y.png"):
        image(tmp_path / "images/val" / name)
        mask(tmp_path / "masks/val" / name, np.arange(35).reshape(SIZE) % 2)
    config = tmp_path / "own.yaml"
    config.write_text(f"data: {{name: folders, root: {tmp_path}, classes: [a, b]}}\n")
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", str(config), "--workers", "0"])
    assert stop.value.code == 2
    out = capsys.readouterr().out
    assert "train: 9 images, 3 usable, 1 without a mask, 5 unreadable" in out
    once = {
        "without a mask: nomask": 1,
        "nomask.png: no such mask": 1,
        "masks without an image: alone.png": 1,
        "deep.png: image of mode I;16": 1,
        "color.png is a mask of mode RGB": 1,
        "data.colors": 1,
        "big.png: the mask is 7x5": 1,
        "broken.jpg: cannot be read as an image": 1,
        "strange.png: label 200": 1,
        "data.label_map": 1,
        "._good": 0,
    }
    assert {part: out.count(part) for part in once} == once, out


@pytest.mark.parametrize("gray", [False, True])
def test_masks_may_be_gif(tmp_path, gray):
    labels = np.random.default_rng(0).integers(0, 3, (20, 24)).astype(np.uint8)
    picture = Image.fromarray(labels)
    grays = [value for value in range(256) for _ in range(3)]  # which Pillow opens as mode L
    picture.putpalette(grays if gray else [0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "a.gif", optimize=False)
    assert (read_indices(tmp_path / "a.gif") == labels).all()
    with pytest.raises(InputError, match="none of JPEG, PNG, BMP, WEBP, TIFF"):
        read_image(tmp_path / "a.gif")


def test_masks_without_images_are_told(tmp_path):
    image(tmp_path / "images/train/a.jpg")
    for name in ("a.png", "b.png", "._c.png"):
        mask(tmp_path / "masks/train" / name, 0)
    dataset = load_dataset(DataConfig(name="folders", root=tmp_path, classes=("a",)), "train")
    found = split_statistics(dataset, "train", workers=0)
    assert found.no_image == ["b.png"]
    assert found.as_dict()["balanced_weights"] == [1.0]

"""GeoTIFFs: read window by window, their place on the earth kept in the label map."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from crfnet.cli.main import main
from crfnet.data import DataConfig, load_dataset, read_image
from crfnet.errors import InputError
from crfnet.labels import VOC_PALETTE
from crfnet.pipeline import predict_raster as module
from crfnet.pipeline.predict_raster import check_windows, is_raster, predict_raster
from crfnet.segmenter import Segmenter
from tests.test_cli import CONFIG

rasterio = pytest.importorskip("rasterio")

PLACE = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 691000, 0, -0.5, 5334000)}


def geotiff(path: Path, bands: np.ndarray, **place: object) -> Path:
    count, height, width = bands.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **(place or PLACE)) as file:
        file.write(bands)
    return path


def bands(count: int, height: int, width: int, *, dtype=np.uint8, most=256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, most, (count, height, width)).astype(dtype)


def predicted(model, path: Path, folder: Path, **keys) -> np.ndarray:
    config = DataConfig(**{"name": "folders", "classes": ("a", "b", "c")} | keys.pop("data", {}))
    folder.mkdir(exist_ok=True)
    sides = {"window": 64, "margin": 32} | keys
    device = torch.device("cpu")
    predict_raster(model, path, folder, config=config, palette=VOC_PALETTE[:3], device=device, **sides)
    with Image.open(folder / f"{path.stem}.tif") as found:
        return np.array(found)


def seen(path: Path, folder: Path, **keys) -> torch.Tensor:
    """What a network is given of a raster of one window."""
    read = []

    def spy(image):
        read.append(image[0])
        return torch.zeros(1, 3, *image.shape[2:])

    predicted(spy, path, folder, **keys)
    return read[0]


def test_a_raster_of_claims_is_not_read_at_once(tmp_path):
    """A file of kilobytes, in which no tile is stored, stands for as many pixels as it likes."""
    shape = {"count": 3, "height": 30_000, "width": 30_000, "dtype": np.uint8}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", tiled=True, SPARSE_OK=True, **shape, **PLACE):
        pass
    with pytest.raises(InputError, match=r"a\.tif: 30000x30000 pixels of 3 bands, must be at most"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("nodata", [None, 7])
def test_a_band_that_the_network_reads_is_no_mask(tmp_path, nodata):
    """GDAL calls the fourth of four 8-bit bands alpha."""
    pixels = bands(4, 40, 50)
    pixels[3, :20] = 0
    pixels[:, 30:, 40:] = 7
    path = geotiff(tmp_path / "a.tif", pixels, **PLACE, **({} if nodata is None else {"nodata": nodata}))
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == rasterio.enums.ColorInterp.alpha
    labels = predicted(network(4), path, tmp_path / "out", data={"channels": 4})
    expected = np.zeros((40, 50), bool)
    expected[30:, 40:] = nodata is not None
    assert ((labels == 255) == expected).all()


def test_a_palette_is_read_in_its_colors(tmp_path):
    """As Pillow reads the same file in training."""
    path = geotiff(tmp_path / "a.tif", bands(1, 40, 50, most=3))
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (9, 8, 7), 1: (200, 10, 60), 2: (3, 250, 90)})
    read = seen(path, tmp_path / "out")
    assert torch.equal(read, read_image(path))
    assert read.unique().numel() > 3


def test_rgb_for_a_network_of_gray(tmp_path):
    path = geotiff(tmp_path / "a.tif", bands(3, 40, 50), **PLACE, photometric="RGB")
    assert torch.equal(seen(path, tmp_path / "out", data={"channels": 1}), read_image(path, 1))


def test_a_turned_tiff_is_read_at_once(tmp_path):
    """No window of it would be as viewers show it."""
    picture = Image.fromarray(np.zeros((40, 50, 3), np.uint8))
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(tmp_path / f"{orientation}.tif", exif=exif)
    assert is_raster(tmp_path / "1.tif", 32)
    assert not is_raster(tmp_path / "6.tif", 32)


def test_bytes_of_more_bands_than_pillow_tells(tmp_path):
    pixels = bands(5, 20, 24)
    path = geotiff(tmp_path / "a.tif", pixels, **PLACE, photometric="RGB")
    assert (read_image(path, 5).numpy() == pixels).all()


def network(channels: int = 3) -> Segmenter:
    """Sees 4 pixels around."""
    torch.manual_seed(0)
    statistics = {"mean": (100.0,) * channels, "std": (50.0,) * channels}
    return Segmenter(nn.Conv2d(channels, 3, 9, padding=4), **statistics).eval()


def test_windows_give_what_the_whole_image_gives_in_less_memory(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    Image.fromarray(np.moveaxis(bands(3, 150, 200), 0, 2)).save(path)  # large, but placed nowhere
    model, sizes = network(), []

    def read(raster, part):
        sizes.append(tuple(each.stop - each.start for each in part))
        return original(raster, part)

    original = module.read_bands
    monkeypatch.setattr(module, "read_bands", read)
    found = predicted(model, path, tmp_path / "out")
    with torch.no_grad():
        whole = model(read_image(path)[None])[0].argmax(0).numpy()
    assert np.array_equal(found, whole)
    assert max(max(size) for size in sizes) == 64 + 2 * 32
    assert len(sizes) == 1 + 3 * 4


def test_the_georeference_is_kept(tmp_path):
    path = geotiff(tmp_path / "a.tif", bands(3, 40, 70))
    predicted(network(), path, tmp_path / "out")
    for name, count in (("a", 1), ("a_overlay", 3)):
        with rasterio.open(tmp_path / f"out/{name}.tif") as found:
            assert (found.crs, found.transform) == (rasterio.CRS.from_epsg(32632), PLACE["transform"])
            assert (found.count, found.height, found.width) == (count, 40, 70)
            if name == "a":
                assert found.colormap(1)[1][:3] == (128, 0, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.tif", "a_overlay.tif"]


def test_pixels_without_data_are_void(tmp_path):
    values = bands(3, 40, 70)
    values[:] = np.maximum(values, 1)
    values[:, :10] = 0
    path = geotiff(tmp_path / "a.tif", values, nodata=0, **PLACE)
    found = predicted(network(), path, tmp_path / "out")
    assert (found[:10] == 255).all()
    assert (found[10:] < 3).all()


def test_bands_of_16_bits(tmp_path):
    path = geotiff(tmp_path / "a.tif", bands(5, 40, 70, dtype=np.uint16, most=3000))
    model = network(5)
    with pytest.raises(InputError, match="must be 3"):
        predicted(model, path, tmp_path / "out")
    with pytest.raises(InputError, match=r"data\.image_range"):
        predicted(model, path, tmp_path / "out", data={"channels": 5})
    assert not list((tmp_path / "out").iterdir())
    keys = {"channels": 5, "image_range": (0.0, 3000.0)}
    found = predicted(model, path, tmp_path / "out", data=keys)
    with torch.no_grad():
        whole = model(read_image(path, 5, (0.0, 3000.0))[None])[0].argmax(0).numpy()
    assert np.array_equal(found, whole)


def test_training_images_are_read_too(tmp_path):
    geotiff(tmp_path / "images/train/a.tif", bands(5, 6, 8, dtype=np.uint16, most=3000))
    geotiff(tmp_path / "masks/train/a.tif", bands(1, 6, 8, most=2))
    keys = {"classes": ("a", "b"), "channels": 5, "image_range": (0.0, 3000.0)}
    dataset = load_dataset(DataConfig(name="folders", root=tmp_path, **keys), "train")
    dataset.check("train")
    assert dataset[0].image.shape == (5, 6, 8)


def test_which_files_are_rasters(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "photo.tif")
    Image.new("RGB", (40, 40)).save(tmp_path / "photo.png")
    assert not is_raster(tmp_path / "photo.tif", 64)
    assert not is_raster(tmp_path / "photo.png", 32)
    assert is_raster(tmp_path / "photo.tif", 32)
    assert is_raster(geotiff(tmp_path / "placed.TIF", bands(3, 8, 8)), 64)
    (tmp_path / "broken.tif").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.tif: cannot be read as a GeoTIFF"):
        is_raster(tmp_path / "broken.tif", 64)
    for window, margin, part in (
        (48, 0, "--window is 48"),
        (64, 8, "--margin is 8"),
        (0, 0, "--window is 0"),
    ):
        with pytest.raises(InputError, match=part):
            check_windows(window, margin)


def test_a_raster_that_ends_too_early(tmp_path):
    path = geotiff(tmp_path / "a.tif", bands(3, 150, 200))
    path.write_bytes(path.read_bytes()[:-30_000])
    with pytest.raises(InputError, match=r"a\.tif: cannot be read as a GeoTIFF"):
        predicted(network(), path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_command_predicts_photos_and_rasters(tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, "output": str(tmp_path / "out")}))
    main(["train", str(config), "--train.iterations", "1"])
    path = geotiff(tmp_path / "map.tif", bands(3, 70, 90))
    photo = tmp_path / "photo.png"
    Image.fromarray(np.moveaxis(bands(3, 33, 40), 0, 2)).save(photo)
    weights = ["--checkpoint", str(tmp_path / "out/unary/train/checkpoint.pt")]
    command = ["predict", str(config), *weights, "--window", "64", "--margin", "32", str(path), str(photo)]
    main(command)
    names = {path.name for path in (tmp_path / "out/predictions").iterdir()}
    assert names == {".crfnet", "map.tif", "map_overlay.tif", "photo.png", "photo_overlay.png"}
    with pytest.raises(SystemExit):
        main(command)
    assert "predictions/map.tif: exists already" in capsys.readouterr().err

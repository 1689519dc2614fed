"""Whole files that are not what they should be: pictures of every mode, arrays with headers that lie."""

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

__all__ = ["arrays", "bomb", "npy", "npz", "pictures"]


def pictures() -> dict[str, bytes]:
    """Pictures of 20 x 16 pixels, as all in a fixture tree, unless their name says otherwise."""
    random = np.random.default_rng(1)
    gray = random.integers(0, 3, (16, 20), dtype=np.uint8)
    image = Image.fromarray(random.integers(0, 256, (16, 20, 3), dtype=np.uint8))
    made = {
        mode: _saved(Image.fromarray(gray * 80).convert(mode), "TIFF" if mode in ("I", "F") else "PNG")
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F")
    }
    rotated = Image.Exif()
    rotated[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "a" * 2_000_000, zip=True)
    scanned = image.convert("1").resize((20, 16))
    return made | {
        "outside": _saved(Image.fromarray(gray + 50)),
        "labels": _saved(Image.fromarray(gray)),
        "void": _saved(Image.fromarray(np.full((16, 20), 255, np.uint8))),
        "two bits": _gray_png(20, 16, 2, np.packbits(np.zeros((16, 40), np.uint8), axis=1)),
        "transparent": _saved(Image.fromarray(gray).convert("P"), transparency=0),
        "one pixel": _saved(Image.new("RGB", (1, 1))),
        "one pixel of label": _saved(Image.new("L", (1, 1))),
        "transposed": _saved(Image.fromarray(gray.T.copy())),
        "no pixel": _gray_png(0, 0, 8, np.zeros((0, 1), np.uint8)),
        "huge": _gray_png(100_000, 100_000, 8, gray),
        "large": _gray_png(13_000, 13_000, 8, gray),
        "wide": _gray_png(2**31 - 1, 1, 8, gray),
        "cmyk": _saved(image.convert("CMYK"), "JPEG"),
        "gray jpeg": _saved(image.convert("L"), "JPEG"),
        "rotated": _saved(image, "JPEG", exif=rotated),
        "gif": _saved(image, "GIF"),
        "bmp": _saved(image, "BMP"),
        "webp": _saved(image, "WEBP"),
        "tiff": _saved(scanned, "TIFF", compression="group4"),
        "two frames": _saved(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
        "text bomb": _saved(image, pnginfo=text),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 16\nsystemdict /x exch def (%stdout) run\n",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='20' height='16'/>",
    }


def _saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _gray_png(width: int, height: int, bits: int, rows: np.ndarray) -> bytes:
    """A PNG file with that header, whatever `rows` (h, bytes) are."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


class _Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.place, "w")


def pickled(place: Path) -> bytes:
    """A pickle that writes to `place` when it is read with trust."""
    return pickle.dumps(_Trap(place))


def npy(array: np.ndarray) -> bytes:
    """As np.save."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**members: bytes) -> bytes:
    """An archive of those .npy files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def bomb(*names: str) -> bytes:
    """An archive whose members say that they unpack to 2 GB, which their arrays say as well."""
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (21, 5000, 5000)}"
    content = bytearray(npz(**dict.fromkeys(names, _header(text) + bytes(100_000))))
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        content[place + 24 : place + 28] = struct.pack("<I", 21 * 25_000_000 * 4 + 10 + len(text))
        place = content.find(b"PK\x01\x02", place + 1)
    return bytes(content)


def arrays(shape: tuple[int, ...], trap: Path) -> dict[str, bytes]:
    """Files .npy: arrays of other types and shapes than scores of `shape`, and headers that lie."""
    good = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    holes = good.copy()
    holes[..., 0] = np.nan
    made = {
        "double": good.astype(np.float64),
        "big-endian": good.astype(">f4"),
        "fortran": np.asfortranarray(good),
        "integers": good.astype(np.int32),
        "bytes": good.astype(np.uint8),
        "bools": good > 0,
        "complex": good.astype(np.complex64),
        "texts": good.astype(str),
        "dates": np.zeros(shape, "M8[s]"),
        "records": np.zeros(shape, [("a", "f4"), ("b", "f4")]),
        "nan": holes,
        "inf": np.where(np.isnan(holes), np.inf, holes),
        "large numbers": good * 1e6,
        "probabilities": np.full(shape, 1 / shape[0], np.float32),
        "scalar": np.float32(1),
        "one axis": good.ravel(),
        "four axes": good[None],
        "last": np.moveaxis(good, 0, -1).copy(),
        "fewer labels": good[:1],
        "more labels": np.concatenate([good, good]),
        "small": np.ascontiguousarray(good[:, :3, :4]),
        "one pixel": np.ascontiguousarray(good[:, :1, :1]),
        "no pixel": good[:, :0],
        "nothing": good[:0],
    }
    lies = {
        "huge": "{'descr': '<f4', 'fortran_order': False, 'shape': (21, 100000, 100000)}",
        "beyond": "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 9)}",
        "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 16, 20)}",
        "two negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-21, -16, 20)}",
        "true": "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 16, 20)}",
        "empty type": "{'descr': '|V0', 'fortran_order': False, 'shape': (1000000, 1000000)}",
        "wide text": "{'descr': '<U999999999', 'fortran_order': False, 'shape': (1,)}",
        "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "deep": "(" * 150 + ")" * 150,
        "deep minus": "-" * 9000 + "1",
        "call": "__import__('os').system('true')",
        "python 2": "{'descr': '<f4', 'fortran_order': False, 'shape': (21L, 16L, 20L)}",
    }
    pickle_ = pickled(trap)
    return {name: npy(array) for name, array in made.items()} | {
        **{
            name: _header(text) + (pickle_ if name == "objects" else good.tobytes())
            for name, text in lies.items()
        },
        "pickle": pickle_,
        "version 3": b"\x93NUMPY\x03\x00" + _header(lies["true"])[8:],
        "long header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100,
    }


def _header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()

"""A toy set drawn on the fly: textured shapes on muted ground, which a small network learns in a minute.

Classes differ in hue, texture and form, each of which overlaps between classes: the color of a pixel alone
tells half of it, a neighborhood the rest. What a network at stride 8 blurs is there on purpose: thin bars and
spikes, rings with holes, occlusions. Color changes at most borders, so a CRF can find them again; some shapes
are pale or out of focus. A void ribbon lies along every border, as in PASCAL VOC.
"""

import colorsys
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageFilter

from crfnet.data.config import DataConfig
from crfnet.data.dataset import Sample, SegmentationDataset, Split
from crfnet.labels import DATASET_CLASSES, VOID

__all__ = ["ToyDataset", "toy"]

Grid: TypeAlias = np.ndarray  #: float32 (h, w): a coordinate in pixels, or a texture in about -1..1
Mask: TypeAlias = np.ndarray  #: bool (h, w)
Drawn: TypeAlias = tuple[Mask, Grid]
Random: TypeAlias = np.random.Generator

SIDE = 96  # sizes below are for images whose shorter side has so many pixels


def toy(config: DataConfig, split: Split) -> SegmentationDataset:
    """The toy set that ``config`` describes; training and validation images are disjoint."""
    toy = config.toy
    return ToyDataset(split, toy.train if split == "train" else toy.val, toy.size, toy.seed)


class ToyDataset(SegmentationDataset):
    """Ground, discs, bars, triangles, rings, stars; image i is a pure function of (seed, split, i, size)."""

    def __init__(self, split: Split, count: int, size: tuple[int, int], seed: int) -> None:
        """Draws nothing yet.

        Args:
            split: Training and validation images never coincide.
            count: Number of images; a longer set begins with the shorter one.
            size: Height and width in pixels, >= 32. Shapes grow with the shorter side; thin parts stay thin.
            seed: Another seed is another set; >= 0.
        """
        self.name = "toy"
        self.classes, self.palette = DATASET_CLASSES["toy"]
        self.ids = tuple(f"{split}_{index:05d}" for index in range(count))
        self._size, self._seed, self._stream = size, seed, ("train", "val").index(split)

    def __getitem__(self, index: int) -> Sample:
        """Draws sample number ``index``: some 5 ms for 96 x 128 pixels."""
        image_id = self.ids[index]
        random = np.random.default_rng((self._seed, self._stream, index % len(self)))
        image, labels = _scene(*self._size, random)
        # Moved by numpy: torch would start its threads, which costs more than the drawing.
        channels_first = np.ascontiguousarray(image.transpose(2, 0, 1))
        return Sample(image_id, torch.from_numpy(channels_first), torch.from_numpy(labels))


def _scene(height: int, width: int, random: Random) -> tuple[np.ndarray, np.ndarray]:
    """One image, uint8 (h, w, 3), with its labels, int64 (h, w)."""
    unit = min(height, width) / SIDE
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image, ground_color = _ground(x, y, unit, random)
    labels = np.zeros((height, width), np.int64)
    order = random.permutation(len(SHAPES))
    centers: list[np.ndarray] = []
    for number in range(int(random.integers(5, 9))):
        label = int(order[number % len(SHAPES)])
        shape = SHAPES[label]
        center = _free_place(centers, height, width, random)
        reach = unit * random.uniform(*shape.reach)
        rows, columns = (
            slice(max(0, int(c - reach - 4)), int(c + reach + 5)) for c in (center[1], center[0])
        )
        dx, dy = x[rows, columns] - center[0], y[rows, columns] - center[1]
        angle = random.uniform(0, 2 * np.pi)
        u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
        inside, texture = shape.draw(u, v, reach, random)
        _cast_shadow(image[rows, columns], inside)
        color = _shape_color(shape.hue, ground_color, random)
        shading = 1 - 0.10 * (dx + dy) / reach + random.uniform(0.05, 0.1) * texture
        opacity = _opacity(inside, random)[..., None]
        image[rows, columns] += opacity * (shading[..., None] * color - image[rows, columns])
        labels[rows, columns][inside] = label + 1
    return _photograph(image, x, y, random), _with_void_ribbon(labels)


def _ground(x: Grid, y: Grid, unit: float, random: Random) -> tuple[np.ndarray, np.ndarray]:
    """Clouds in two muted tones, with a second ground behind a wavy horizon; and the first ground's color."""
    height, width = x.shape
    hue, value = random.uniform(), random.uniform(0.35, 0.8)
    near = _rgb(hue, random.uniform(0.05, 0.3), value)
    far = _rgb(
        hue + random.uniform(-0.15, 0.15), random.uniform(0.05, 0.3), value + random.uniform(-0.2, 0.2)
    )
    slope, wave = random.normal(0, 0.15), random.uniform(2, 7) * unit
    horizon = random.uniform(-0.1, 0.6) * height + slope * (x - width / 2)
    horizon += wave * np.sin(x / (random.uniform(7, 20) * unit) + random.uniform(0, 6))
    image = np.where((y < horizon)[..., None], far, near).astype(np.float32)
    clouds = 0.7 * _clouds(height, width, 24 * unit, random) + 0.3 * _clouds(height, width, 7 * unit, random)
    return image * (1 + 0.16 * clouds[..., None]), near


def _clouds(height: int, width: int, grain: float, random: Random) -> Grid:
    """Smooth noise of about -1..1 whose blobs are ``grain`` pixels wide."""
    coarse = random.uniform(-1, 1, (int(height / grain) + 2, int(width / grain) + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _free_place(centers: list[np.ndarray], height: int, width: int, random: Random) -> np.ndarray:
    """The one of five random places (x, y) that is farthest from all earlier ones; it joins them."""
    places = random.uniform((4, 4), (width - 4, height - 4), (5, 2))
    if centers:
        distances = np.linalg.norm(places[:, None] - np.array(centers), axis=2).min(axis=1)
        places = places[distances.argmax()][None]
    centers.append(places[0])
    return centers[-1]


def _shape_color(hue: float, ground: np.ndarray, random: Random) -> np.ndarray:
    """RGB of a shape: around its class' hue; one time in eight paler than that, nearer to the ground's."""
    color = ground
    while np.abs(color - ground).sum() < 130:
        color = _rgb(hue + random.normal(0, 0.07), random.uniform(0.4, 0.85), random.uniform(0.4, 0.95))
    if random.random() < 1 / 8:
        color = ground + (color - ground) / 2
    return color


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, min(max(value, 0.2), 0.95)), np.float32)


def _opacity(inside: Mask, random: Random) -> Grid:
    """How much of a shape is seen, 0..1: one time in four its border is out of focus, a few pixels wide."""
    opacity: Grid = inside.astype(np.float32)
    if random.random() < 1 / 4:
        soft = Image.fromarray(255 * inside.astype(np.uint8))
        blurred = soft.filter(ImageFilter.GaussianBlur(random.uniform(1, 2)))
        opacity = np.asarray(blurred).astype(np.float32) / np.float32(255)
    return opacity


def _cast_shadow(image: np.ndarray, inside: Mask) -> None:
    """Darkens ``image`` two pixels down and right of the shape, in place."""
    image[2:, 2:][inside[:-2, :-2]] *= 0.78


def _photograph(image: np.ndarray, x: Grid, y: Grid, random: Random) -> np.ndarray:
    """Light from one side, the blur of a lens, noise, 8 bits."""
    height, width = x.shape
    light = (
        1
        + random.uniform(-0.22, 0.22) * (2 * x / width - 1)
        + random.uniform(-0.22, 0.22) * (2 * y / height - 1)
    )
    image = np.pad(image * light[..., None], ((1, 1), (1, 1), (0, 0)), mode="edge")
    image = 0.66 * image[1:-1] + 0.17 * (image[:-2] + image[2:])
    image = 0.66 * image[:, 1:-1] + 0.17 * (image[:, :-2] + image[:, 2:])
    image += 2.5 * random.standard_normal((height, width, 1), np.float32)
    image += 1.5 * random.standard_normal(image.shape, np.float32)
    return image.round().clip(0, 255).astype(np.uint8)


def _with_void_ribbon(labels: np.ndarray) -> np.ndarray:
    """Void on both sides of every border between two labels: two pixels wide."""
    void = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    void[:, 1:] |= across
    void[:, :-1] |= across
    void[1:] |= down
    void[:-1] |= down
    return np.where(void, VOID, labels)


def _disc(u: Grid, v: Grid, reach: float, random: Random) -> Drawn:
    """An ellipse with polka dots."""
    inside = np.hypot(u, v / random.uniform(0.75, 1)) < reach
    period = random.uniform(0.9, 1.15)
    return inside, 2.4 * np.maximum(np.sin(period * u) * np.sin(period * v), 0) - 0.8


def _bar(u: Grid, v: Grid, reach: float, random: Random) -> Drawn:
    """A bent bar 5.5 to 8.5 pixels thick, striped across."""
    bend = random.uniform(0, 0.15) * reach * np.sin(np.pi * u / reach + random.uniform(0, 6))
    inside = (np.abs(u) < reach) & (np.abs(v - bend) < random.uniform(2.75, 4.25))
    return inside, np.sign(np.sin(random.uniform(0.8, 1.1) * u))


def _triangle(u: Grid, v: Grid, reach: float, random: Random) -> Drawn:
    """A triangle with stripes along one side."""
    inside = np.ones(u.shape, bool)
    for angle in 2 * np.pi / 3 * np.arange(3) + random.uniform(-0.25, 0.25, 3):
        inside &= np.cos(angle) * u + np.sin(angle) * v < reach * 0.6
    inside &= np.hypot(u, v) < reach
    return inside, np.sin(random.uniform(1.2, 1.5) * u)


def _ring(u: Grid, v: Grid, reach: float, random: Random) -> Drawn:
    """A ring with beads around it; what lies behind shows through its hole."""
    radius = np.hypot(u, v / random.uniform(0.8, 1))
    inside = (radius < reach) & (radius > reach - random.uniform(6, 9))
    return inside, np.sin(random.integers(9, 13) * np.arctan2(v, u))


def _star(u: Grid, v: Grid, reach: float, random: Random) -> Drawn:
    """A speckled blob with thin tapering spikes, 4 pixels wide at their ends."""
    inside = np.hypot(u, v) < reach * random.uniform(0.45, 0.55)
    spikes = int(random.integers(5, 8))
    for angle in 2 * np.pi / spikes * np.arange(spikes) + random.uniform(-0.15, 0.15, spikes):
        along, aside = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
        inside |= (along > 0) & (along < reach) & (np.abs(aside) < 5 - 3 * along / reach)
    return inside, random.standard_normal(u.shape, np.float32)


class _Shape(NamedTuple):
    """How the shapes of one class are drawn.

    Attributes:
        hue: Mean of its hue, in turns; single shapes come halfway to the next class.
        reach: Range of its radius or half length, in pixels where the shorter side is 96.
        draw: From its own coordinates in pixels, its reach and randomness to its inside and its texture.
    """

    hue: float
    reach: tuple[float, float]
    draw: Callable[[Grid, Grid, float, Random], Drawn]


#: Of class 1, 2, ...; class 0 is the ground.
SHAPES = (
    _Shape(0.0, (9, 17), _disc),
    _Shape(0.2, (26, 48), _bar),
    _Shape(0.4, (15, 23), _triangle),
    _Shape(0.6, (14, 21), _ring),
    _Shape(0.8, (17, 25), _star),
)

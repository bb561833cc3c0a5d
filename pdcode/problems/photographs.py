"""Photographs bundled with scikit-learn and scikit-image, in shades of grey from 0 to 1."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..config import NetworkTable
from ..util.errors import InputError
from ..util.packages import pip_install
from .coding import Samples
from .matrix import Array

TWO = "sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg"
SKIMAGE = "skimage/data/{}"
FIVE = "coffee.png", "chelsea.png", "motorcycle_left.png", "grass.png", "gravel.png"
HELD_OUT = "astronaut.png", "camera.png", "coins.png", "rocket.jpg", "moon.png"
FLAT = 0.04  # standard deviation of a thumbnail's greys, below which it is left out


def cut_two(table: NetworkTable, required: bool) -> Samples:
    """Cut thumbnails from scikit-learn's two photographs, at half of their size."""
    return _cut(table, [halved(photograph(name)) for name in TWO])


def cut_seven(table: NetworkTable, required: bool) -> Samples:
    """Cut thumbnails from these and five photographs of scikit-image."""
    return _cut(table, training())


def training() -> list[Array]:
    """Return the greys of the seven photographs."""
    return [halved(photograph(name)) for name in (*TWO, *map(SKIMAGE.format, FIVE))]


def held_out() -> list[tuple[str, Array]]:
    """Return name and greys of five other photographs of scikit-image, at a quarter of their size."""
    return [(Path(each).stem, halved(halved(photograph(SKIMAGE.format(each))))) for each in HELD_OUT]


def read_image(path: str | Path) -> Array:
    """Read an image file as greys from 0 to 1, float32, shape (height, width)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"), np.float32) / 255
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: no image: {error}") from None


@cache
def photograph(name: str) -> Array:
    """Read a photograph of an installed package, PACKAGE/PATH."""
    package, _, path = name.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        wheel = {"skimage": "scikit-image", "sklearn": "scikit-learn"}.get(package, package)
        raise InputError(f"photographs of the package {package} are missing: {pip_install(wheel)}")
    return read_image(Path(spec.origin).parent / path)


def halved(image: Array) -> Array:
    """Return means of 2 × 2 pixels; an odd last row or column is left out."""
    height, width = (side // 2 for side in image.shape)
    halves: Array = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
    return halves


def _cut(table: NetworkTable, images: Sequence[Array]) -> Samples:
    """Cut squares with contrast at random places, keyed by `split_seed`."""
    side: int = getattr(table, "thumbnail", 8)
    if side > (most := min(min(image.shape) for image in images)):
        raise InputError(f"problem.thumbnail: {side}, but a photograph has {most} rows")
    random = np.random.default_rng(table.split_seed)
    found = np.empty((table.samples, side, side), np.float32)
    for thumbnail in found:
        while True:
            image = images[int(random.integers(len(images)))]
            y, x = (int(random.integers(length - side + 1)) for length in image.shape)
            thumbnail[:] = image[y : y + side, x : x + side]
            if side == 1 or thumbnail.std() >= FLAT:
                break
    return Samples(found, None)

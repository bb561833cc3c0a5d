"""Images through models of sensors, and recordings, and what is reconstructed of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ..problems import photographs
from ..util.errors import InputError
from ..util.output import write_file
from ..util.packages import pip_install
from . import camera, retina
from .readers import read_events
from .reconstruction import THRESHOLDS, Dictionary, Estimates, Sensing, Signal
from .stream import Events

COLUMNS = "counts", "counts, fitted", "linear MMSE", "sparse coding"
TRAINED, EXAMPLES = 96, 3  # side of training images [pixels]; signals on which thresholds are chosen


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Estimates of an image, and their PSNR [dB] and SSIM if it is known."""

    panels: list[np.ndarray]  # greys from 0 to 1: the image if it is known, and its estimates
    scores: list[tuple[float, float]]  # by `COLUMNS`; empty if it is not known
    events: int = 0  # of a frame of a recording

    def picture(self) -> Any:
        """Return the panels side by side, as an image of Pillow."""
        from PIL import Image

        greys = np.hstack([np.pad(np.clip(panel, 0, 1), 2, constant_values=1) for panel in self.panels])
        return Image.fromarray(np.rint(255 * greys).astype(np.uint8))

    def write(self, path: Path) -> None:
        """Write the picture to a PNG file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.picture().save(path)


def write_film(pictures: Sequence[Any], frame_ms: int, path: Path) -> None:
    """Write pictures of one size to a GIF file, each shown for its time to 10 ms, but at least 20 ms."""
    buffer = BytesIO()
    duration_ms = max(20, round(frame_ms, -1))
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=duration_ms, loop=0)
    write_file(path, buffer.getvalue(), "the film")


class Retina:
    """The model retina, of images of greys."""

    margin, grey = 0, retina.GREY

    def __init__(self, window_ms: int, random: np.random.Generator, share: float = 1.0) -> None:
        self.window_ms, self.random, self.share = window_ms, random, share

    def sense(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the signal and its counts."""
        on, off = retina.spikes(image, self.random, self.window_ms)
        return image - self.grey, (on - off).astype(float)

    def field(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the factors by which the counts' unit has cosine coefficients of a signal."""
        return retina.receptive_field(shape)

    def sensing(self, shape: tuple[int, int]) -> Sensing:
        """Return the field with pixels drawn at random, the `share` of all that is sent."""
        mask = None if self.share == 1 else drawn(shape, self.share, self.random)
        return Sensing(self.field(shape), mask)

    def unit(self, driven: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return the polynomial of counts that fits what drives the cells: rates saturate."""
        return np.polyfit(counts, driven, 3)


class Camera(Retina):
    """The model camera, of the change of log intensity as it moves over images."""

    margin, grey = camera.MARGIN, 0.0

    def __init__(
        self, window_ms: int, random: np.random.Generator, noise_hz: float, share: float = 1.0
    ) -> None:
        super().__init__(window_ms, random, share)
        self.noise_hz = noise_hz

    def sense(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        events, change = camera.render(image, self.random, self.window_ms, self.noise_hz)
        return change, events.counts(0, 1000 * self.window_ms, change.shape)

    def field(self, shape: tuple[int, int]) -> np.ndarray:
        return np.ones(shape)

    def unit(self, driven: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return np.array([camera.THRESHOLD, 0.0])


class Calibrated:
    """A sensor's model, with what training images tell of it: unit of counts, noise, signals, threshold."""

    def __init__(self, sensor: Retina, dictionary: Dictionary, size: int) -> None:
        self.sensor, self.dictionary = sensor, dictionary
        most, side = min(size, TRAINED), dictionary.side
        if most < side:
            raise InputError(
                f"--size {size}: features of {side} × {side} pixels, and images of {most} × {most}"
            )
        most += 2 * sensor.margin
        images = [dictionary.cropped(each[:most, :most], sensor.margin) for each in photographs.training()]
        signals, counts = zip(*(sensor.sense(each.astype(float)) for each in images), strict=True)
        driven = [retina.filtered(each, sensor.field(each.shape)) for each in signals]
        x, y = (np.concatenate([each.ravel() for each in arrays]) for arrays in (driven, counts))
        self.unit = sensor.unit(x, y)
        self.signal = Signal.of(signals, float(np.square(x - np.polyval(self.unit, y)).mean()))
        few = [
            (s, np.polyval(self.unit, each), sensor.sensing(each.shape))
            for s, each in zip(signals[:EXAMPLES], counts, strict=False)
        ]
        self.threshold = min(
            THRESHOLDS,
            key=lambda each: sum(np.square(self.estimates(z, h, each).sparse - s).mean() for s, z, h in few),
        )

    def estimates(self, counts: np.ndarray, sensing: Sensing, threshold: float) -> Estimates:
        """Return the estimates from counts in units of the signal."""
        return self.dictionary.estimates(counts, sensing, self.signal, threshold)


def drawn(shape: tuple[int, int], share: float, random: np.random.Generator) -> np.ndarray:
    """Return 1 for a random share of an image's pixels, at least one, and 0 elsewhere."""
    count = shape[0] * shape[1]
    mask = np.zeros(count)
    mask[random.permutation(count)[: max(1, round(share * count))]] = 1
    return mask.reshape(shape)


def simulated(
    images: Sequence[tuple[str, np.ndarray]], dictionary: Dictionary, sensor: Retina, size: int
) -> Iterator[tuple[str, Reconstruction]]:
    """Yield names of images, and what is reconstructed of the events that a sensor's model sends."""
    similarity, least = _similarity(), dictionary.side + 2 * sensor.margin + 8
    for name, image in images:
        if min(image.shape) < least:
            raise InputError(
                f"{name}: {image.shape[1]} × {image.shape[0]} pixels are too few, fewer than {least}"
            )
    model, most = Calibrated(sensor, dictionary, size), size + 2 * sensor.margin
    for name, image in images:
        truth, counts = sensor.sense(dictionary.cropped(image[:most, :most].astype(float), sensor.margin))
        sensing = sensor.sensing(counts.shape)
        found = model.estimates(np.polyval(model.unit, counts), sensing, model.threshold)
        counts = sensing.sent(counts)
        fitted = np.polyval(np.polyfit(counts.ravel(), truth.ravel(), 1), counts)
        low, span = (-sensor.grey, 1.0) if sensor.grey else (truth.min(), np.ptp(truth) or 1.0)
        wanted = (truth - low) / span
        greys = [np.clip((each - low) / span, 0, 1) for each in (found.counts, fitted, *found[1:])]
        decibels = [-10 * np.log10(max(np.square(each - wanted).mean(), 1e-12)) for each in greys]
        likeness = [float(similarity(wanted, each, data_range=1.0)) for each in greys]
        yield name, Reconstruction([wanted, *greys[1:]], [*zip(decibels, likeness, strict=True)])


def recorded(
    files: Sequence[tuple[str, str]],
    dictionary: Dictionary,
    window_ms: int,
    frames: int,
    size: int | None = None,
    stream: int | None = None,
    share: float = 1.0,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[str, Reconstruction]]:
    """Yield names of frames of recordings, and the change of log intensity that is reconstructed of each.

    `files` has the name and the path of each recording, `size` is the largest side of a frame, by default the
    recording's, `stream` is as in `read_events`, and `share` the share of the pixels that are used. `say` is
    called with lines on what is left out.

    The variance of its noise is as for independent events, and the spectrum of signals is as for rendered
    training images, scaled to the variance of the counts.
    """
    recordings = [(name, read_events(file, stream)) for name, file in files]
    for (_, file), (_, events) in zip(files, recordings, strict=True):
        if min(events.shape) < dictionary.side:
            raise InputError(f"{file}: {events.shape[1]} × {events.shape[0]} pixels are too few")
    size = max(max(events.shape) for _, events in recordings) if size is None else size
    usual = Calibrated(Camera(window_ms, np.random.default_rng(0), 0.0), dictionary, size).signal
    for name, events in recordings:
        height, width = (min(side, size) for side in events.shape)
        shape = dictionary.filled((height, width))
        start, step = int(events.times_us.min()), 1000 * window_ms
        all_frames = (int(events.times_us.max()) - start) // step + 1
        if (height, width) != events.shape:
            say(f"{name}: the top left {width} × {height} of {events.shape[1]} × {events.shape[0]} pixels")
        if frames < all_frames:
            say(f"{name}: the first {frames} of {all_frames} frames of {window_ms} ms")
        inside = (events.y < height) & (events.x < width)
        mask = None if share == 1 else drawn(shape, share, np.random.default_rng(0))
        if mask is not None:
            inside[inside] = mask[events.y[inside], events.x[inside]] > 0
        events, sensing = Events(*(each[inside] for each in events)), Sensing(np.ones(shape), mask)
        for frame in range(min(frames, all_frames)):
            begin, end = start + frame * step, start + (frame + 1) * step
            counts = camera.THRESHOLD * events.counts(begin, end, shape)
            number = int(np.count_nonzero((events.times_us >= begin) & (events.times_us < end)))
            sent = counts if mask is None else counts[mask > 0]
            noise = max(camera.THRESHOLD * float(np.abs(sent).mean()), 1e-9)
            gain = max(float(sent.var()) - noise, 0.1 * noise) / float(usual.power(shape).mean())
            signal = replace(usual, spectrum=usual.spectrum + np.log(gain), variance=noise)
            found = dictionary.estimates(counts, sensing, signal, 1.0)
            span = 6 * max(float(sent.std()), 1e-9)
            panels = [0.5 + each[:height, :width] / span for each in found]
            yield f"{name}-{frame:04}", Reconstruction(panels, [], number)


def _similarity() -> Any:
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise InputError(f"SSIM is computed by scikit-image: {pip_install('scikit-image')}") from None
    return structural_similarity

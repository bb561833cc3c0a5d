"""Model of a retina: from an image to the spikes of ON and OFF ganglion cells.

Cones and bipolar cells release quanta at random, at graded rates. The input of bipolar cells is the centre
less the surround of the cones' release; ON and OFF cells get its two signs. Ganglion cells are
leaky integrate-and-fire neurons with a refractory period. The time step is a millisecond. That release is
graded and random, and counts are over 32 ms, is the abstract's; sizes, rates and this circuit are ours.
"""

import numpy as np
from scipy.fft import dctn, idctn

CENTRE, SURROUND = 0.6, 2.5  # standard deviations of the receptive field's Gaussians [pixels]
KEEP = 0.8  # weight of the surround, which leaves a fifth of the mean
GREY = 0.45  # mean of images, at which neither ON nor OFF cells are driven
ADAPTATION_MS = 60  # before spikes are counted
CONE, BIPOLAR = 400.0, 60.0  # quanta per second of white; per millisecond at a contrast of 1
CONE_MS, BIPOLAR_MS, GANGLION_MS = 10.0, 5.0, 20.0  # time constants
DARK, GAIN, REST, THRESHOLD, REFRACTORY_MS = 0.02, 0.9, 0.02, 0.25, 2


def frequencies(shape: tuple[int, int]) -> np.ndarray:
    """Return the squared angular frequencies of an image's cosine transform, of its shape [1/pixel²]."""
    down, across = (np.pi * np.arange(size) / size for size in shape)
    return down[:, None] ** 2 + across**2


def gaussian(shape: tuple[int, int], deviation: float) -> np.ndarray:
    """Return the factors by which a Gaussian filter scales the cosine transform."""
    return np.exp(-0.5 * deviation**2 * frequencies(shape))


def receptive_field(shape: tuple[int, int]) -> np.ndarray:
    """Return the factors by which centre and surround scale the cosine transform."""
    return gaussian(shape, CENTRE) - KEEP * gaussian(shape, SURROUND)


def filtered(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return an image whose cosine transform is scaled; borders are mirrored."""
    return idctn(factors * dctn(image, norm="ortho"), norm="ortho")


def spikes(image: np.ndarray, random: np.random.Generator, window_ms: int = 32) -> np.ndarray:
    """Return the spikes of ON and OFF cells in a window, shape (2, height, width), of greys from 0 to 1."""
    field, quantum = receptive_field(image.shape), CONE / 1000 * CONE_MS
    cones = np.full(image.shape, image.mean())
    bipolar, potential = np.zeros((2, 2, *image.shape))
    dead, counts = np.zeros((2, 2, *image.shape), np.int64)
    for time in range(ADAPTATION_MS + window_ms):
        release = random.poisson(quantum * (DARK + image)) / quantum - DARK
        cones += (release - cones) / CONE_MS
        contrast = filtered(cones, field) - (1 - KEEP) * GREY
        drive = np.maximum([contrast, -contrast], 0)
        bipolar += (random.poisson(BIPOLAR * drive) / BIPOLAR - bipolar) / BIPOLAR_MS
        potential += GAIN * bipolar + REST - potential / GANGLION_MS
        potential[dead > 0] = 0
        dead -= 1
        fired = potential > THRESHOLD
        potential[fired] = 0
        dead[fired] = REFRACTORY_MS
        counts += fired * (time >= ADAPTATION_MS)
    return counts

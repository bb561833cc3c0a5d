"""Model of an event camera (silicon retina) that moves over an image.

A pixel sends an event each time its log intensity has changed by its threshold since its last one
(Lichtsteiner, Posch and Delbruck, "A 128 × 128 120 dB 15 µs latency asynchronous temporal contrast vision
sensor", IEEE JSSC 2008). Thresholds differ from pixel to pixel, and pixels send events at random. The time
step is a millisecond.
"""

import numpy as np
from scipy.ndimage import shift

from .stream import Events

THRESHOLD, MISMATCH = 0.15, 0.1  # of log intensity; its relative standard deviation over pixels
DARK = 0.05  # added to greys before the logarithm
SPEED = 0.12, 0.05  # of the image, to the right and down [pixels/ms]
MARGIN = 8  # pixels beyond each border that come into view
MOST = 6  # events of a pixel in a millisecond


def render(
    image: np.ndarray, random: np.random.Generator, window_ms: int = 32, noise_hz: float = 0.0
) -> tuple[Events, np.ndarray]:
    """Return the events of a window, and the change of log intensity in it.

    Parameters
    ----------
    image : ndarray
        Greys from 0 to 1, with a margin of `MARGIN` pixels around what is seen.
    random : numpy.random.Generator
    window_ms : int
        Length of the window [ms].
    noise_hz : float
        Rate of random events of each pixel [1/s].

    Returns
    -------
    Events, ndarray
    """

    def seen(time_ms: float) -> np.ndarray:
        moved = shift(image, (SPEED[1] * time_ms, SPEED[0] * time_ms), order=1, mode="reflect")
        return np.log(DARK + np.clip(moved, 0, 1))[MARGIN:-MARGIN, MARGIN:-MARGIN]

    first = seen(0)
    on, off = THRESHOLD * np.maximum(0.1, 1 + MISMATCH * random.standard_normal((2, *first.shape)))
    last = first + THRESHOLD * (random.random(first.shape) - 0.5)
    found = []
    for time in range(1, window_ms + 1):
        now = seen(time)
        for _ in range(MOST):
            up, down = now - last > on, now - last < -off
            if not (up.any() or down.any()):
                break
            last += up * on - down * off
            found += [(time, up, True), (time, down, False)]
        noisy = random.random((2, *first.shape)) < 0.5e-3 * noise_hz
        found += [(time, noisy[0], True), (time, noisy[1], False)]
    columns = [
        (np.full(fired.sum(), 1000 * (time - 1)), *fired.nonzero()[::-1], on) for time, fired, on in found
    ]
    times, x, y = (np.concatenate([each[axis] for each in columns]).astype(np.int64) for axis in range(3))
    signs = np.concatenate([np.full(len(each[0]), each[3]) for each in columns])
    return Events(times, x, y, signs), now - first

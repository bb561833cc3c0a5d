"""`Events`: the events of a recording, or of a model."""

from typing import NamedTuple

import numpy as np

from ..util.errors import InputError

MOST = 1 << 14  # pixels of a side


class Events(NamedTuple):
    """Events of pixels, in the order of a file."""

    times_us: np.ndarray  # int64, (N,)
    x: np.ndarray  # columns, int64, (N,)
    y: np.ndarray  # rows from the top, int64, (N,)
    on: np.ndarray  # whether it became lighter, bool, (N,)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width that contain all events [pixels]."""
        return int(self.y.max(initial=0)) + 1, int(self.x.max(initial=0)) + 1

    def counts(self, start_us: int, end_us: int, shape: tuple[int, int]) -> np.ndarray:
        """Return the events per pixel in start ≤ time < end, ON less OFF, float64, of this shape."""
        chosen = (self.times_us >= start_us) & (self.times_us < end_us)
        places = self.y[chosen] * shape[1] + self.x[chosen]
        weights = np.where(self.on[chosen], 1.0, -1.0)
        return np.bincount(places, weights, shape[0] * shape[1]).reshape(shape)


def checked(path: str, events: Events) -> Events:
    """Refuse a recording without events, or with pixels or times that no camera has."""
    if not len(events.times_us):
        raise InputError(f"{path}: no events")
    for name, values, most in (
        ("x", events.x, MOST),
        ("y", events.y, MOST),
        ("time", events.times_us, 1 << 62),
    ):
        wrong = np.flatnonzero((values < 0) | (values >= most))
        if len(wrong):
            raise InputError(f"{path}: {name} {values[wrong[0]]} of event {wrong[0]} is not in [0, {most})")
    return events

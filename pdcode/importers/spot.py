"""Instances that come and go: the lines of Bamboo's spot traces, or the counts of SkyPilot's."""

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np

from ..faults.spot import nodes_by_place
from ..util.errors import InputError
from ..util.memory import ensure_fits
from .job import LONGEST_S, Fault, Importer, Job, content, from_json, only

MOST = 10_000  # steps
WORKERS = 1 << 16
COMES = "joined", "an instance has come to its place"
GOES = "left", "its instance was taken away"


class Every(msgspec.Struct):
    """SkyPilot's description of a trace."""

    gap_seconds: Annotated[float, msgspec.Meta(ge=1e-3, le=LONGEST_S)]


class Counts(msgspec.Struct):
    """A trace of SkyPilot: numbers of available instances."""

    metadata: Every
    data: Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=WORKERS)]], msgspec.Meta(min_length=1)]


def read(paths: Sequence[str]) -> Job:
    """Read a trace: which places are occupied at each tick, in which each instance there does a tick's work.

    A new instance takes the first free place. A tick is SkyPilot's; for Bamboo the greatest common divisor of
    all times, but at most `MOST` ticks.
    """
    path = only(paths, "a spot trace")
    if content(path).lstrip()[:1] == b"{":
        counts = from_json(path, Counts)
        tick_s, most = counts.metadata.gap_seconds, max(counts.data)
        ensure_fits(path, f"{len(counts.data):,} times of {most} instances", 200 * most * len(counts.data))
        here = np.array(counts.data)[:, None] > np.arange(most)
    else:
        try:
            places = nodes_by_place(path)
        except InputError as error:
            raise InputError(str(error).removeprefix("faults.spot: ")) from None
        times_ms = sorted({round(1e3 * at_s) for place in places for at_s, _ in place})
        last_ms = times_ms[-1]
        tick_s = 1e-3 * max(math.gcd(*times_ms) or 60_000, -(-last_ms // MOST))
        ticks_s = tick_s * np.arange(int(1e-3 * last_ms / tick_s) + 1)
        ensure_fits(
            path, f"{len(ticks_s):,} times of {len(places):,} places", 200 * len(ticks_s) * len(places)
        )
        here = np.zeros((len(ticks_s), len(places)), bool)
        for place, events in enumerate(places):
            for at_s, comes in events:
                here[np.searchsorted(ticks_s, at_s - 1e-6 * tick_s) :, place] = comes
    if not here.any():
        raise InputError(f"{path}: no instance at any time")
    if tick_s * len(here) > LONGEST_S:
        raise InputError(f"{path}: more than {LONGEST_S:g} s")
    tick = round(1e9 * tick_s)
    begin = tick * np.arange(len(here))[:, None]
    times = np.where(here[..., None], np.stack((begin, begin + tick, begin + tick), axis=2), -1)
    changes = np.diff(here.astype(np.int8), axis=0)
    faults = [
        Fault(tick * (1 + int(step)), int(worker), *kind)
        for step, worker in np.argwhere(changes)
        for kind in [COMES if changes[step, worker] > 0 else GOES]
    ]
    came, went = int((changes > 0).sum()), int((changes < 0).sum())
    usual = f"{here.sum(axis=1).mean():.1f} instances on average, in ticks of {tick_s:g} s"
    notes = [f"{usual}; {went:,} left, {came:,} joined"]
    return Job(["unknown"] * here.shape[1], "a spot trace", times, faults=faults, notes=notes)


SPOT = Importer("spot", "instances that come and go: Bamboo's CSV or SkyPilot's JSON", read)

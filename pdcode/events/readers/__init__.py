"""Readers of recordings of event cameras: a format is a `Recording` of a module, and a line in `KINDS`."""

from pathlib import Path

from ...config import kinds
from ...util.errors import InputError, ensure_file
from ..stream import Events, checked
from .recording import Recording as Recording


def read_events(path: str | Path, stream: int | None = None) -> Events:
    """Read a recording.

    Parameters
    ----------
    path : str or Path
        File of a format of the group ``recordings``: AEDAT 2, 3.1 and 4, Prophesee RAW (EVT2, EVT2.1, EVT3)
        and DAT, Event Stream, N-MNIST, or text with a line for each event. Columns of text are named in its
        first line, t (or timestamp) [µs], x, y, and p (or on, polarity), which is above 0 for ON events; or
        they are without names t, x, y, p, with t in seconds if it has a decimal point, otherwise in µs.
    stream : int, optional
        Stream of events of an AEDAT 4 file; needed if it has more than one.

    Returns
    -------
    Events

    Raises
    ------
    InputError
        If the file is malformed or has no events, or if it has several streams and none is chosen.
    """
    ensure_file(path)
    data, name = Path(path).read_bytes(), str(path)
    names = sorted(kinds.names("recordings"), key=lambda each: each == "text")  # which fits others, too
    formats = (kinds.find("recordings", each) for each in names)
    recording = next((each for each in formats if each.fits(data, name)), None)
    if recording is None:
        raise InputError(f"{name}: none of the formats of recordings: {', '.join(names)}")
    if stream is not None and not recording.several:
        raise InputError(f"{name}: stream {stream}: files of {recording.about} have one stream of events")
    return checked(name, recording.read(name, data, *[stream] * recording.several))

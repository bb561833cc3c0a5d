"""`Recording`: a format of recordings of event cameras."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ...config.kinds import Record
from ..stream import Events


@dataclass(frozen=True)
class Recording(Record):
    """A format of recordings."""

    group: ClassVar[str] = "recordings"

    name: str
    about: str  # name for the user
    fits: Callable[[bytes, str], bool]  # whether a file with these bytes and this path is of the format
    read: Callable[..., Events]  # of the path, the bytes, and if `several` the number of the stream or None
    several: bool = False  # whether a file may have several streams of events

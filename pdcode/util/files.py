"""Owners and permissions of files."""

import os
import stat
from pathlib import Path


def writable_by_others(path: Path) -> str:
    """Return why other users than root and this one could have written a file; empty if they could not.

    All folders above it count: who may change one may replace what is below.
    """
    place = path.resolve()
    for each in (*reversed(place.parents), place):
        status = each.stat()
        if status.st_uid not in (0, os.geteuid()):
            return f"{each} belongs to another user"
        folder = stat.S_ISDIR(status.st_mode)
        if status.st_mode & 0o022 and not (folder and status.st_mode & stat.S_ISVTX):
            return f"{each} can be written by others"
        if folder and not status.st_mode & 0o011:  # nobody else gets below
            return ""
    return ""

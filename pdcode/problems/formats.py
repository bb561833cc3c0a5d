"""Names of bundled data sets, and file formats."""

import os
import re
import zlib
from contextlib import suppress
from itertools import chain
from pathlib import Path

from ..config import BUNDLED, NetworkTable, ProblemTable, Table, kinds
from ..config.problems import FORMATS, is_bundled
from ..util.errors import InputError, did_you_mean, not_a_file

PIECES, PIECE = 64, 1 << 16  # number and bytes of the samples of a file


def format_of(table: ProblemTable) -> str:
    """Return the name of a bundled data set, or the format of a file, by its name; empty: made rows."""
    if not isinstance(table, NetworkTable):
        return ""
    if is_bundled(table.data):
        return table.data
    added = ((name, getattr(each, "pattern", "")) for name, each in kinds.members("readers"))
    for name, pattern in chain(FORMATS.items(), added):
        if pattern and re.search(pattern, Path(table.data).name):
            return name
    name = Path(table.data).name
    meant = did_you_mean(name, BUNDLED) or "; others are files, such as npz or csv" * ("." not in name)
    existing_path("data", table.data, f", nor a bundled data set ({', '.join(BUNDLED)}){meant}")
    raise InputError(
        f"problem.data: {table.data!r} does not end in a known format:"
        " .csv, .tsv, .parquet, .npz, .npy, .h5, .hdf5, -idx3-ubyte, .svm, .svmlight or .libsvm"
    )


def fingerprint(table: Table) -> str:
    """Return sizes and CRC-32 of the files that a table names, of large ones by samples; empty if bundled."""
    found = []
    names = [getattr(table, key, None) for key in ("data", "labels", "start", "init", "path", "pattern")]
    for name in (each for each in names if each and isinstance(each, str) and not is_bundled(each)):
        with suppress(OSError), open(name, "rb") as file:
            size, crc = os.fstat(file.fileno()).st_size, 0
            for piece in range(PIECES):  # the whole file if it is no larger than these
                file.seek(max(piece * PIECE, piece * (size - PIECE) // (PIECES - 1)))
                crc = zlib.crc32(file.read(PIECE), crc)
            found.append(f"{size}-{crc:08x}")
    return " ".join(found)


def existing_path(key: str, name: str | Path, otherwise: str = "") -> Path:
    """Return the path of an existing file, or raise an InputError whose message ends with `otherwise`."""
    if why := not_a_file(name):
        raise InputError(f"problem.{key}: {why}: {os.path.abspath(name)!r}{otherwise}")
    return Path(name)

"""Tables of settings: CSV files in which each row overrides keys of a configuration, as `--set` does.

``python -P -m pdcode.config.settings TABLE`` prints the options of each row on a line, quoted for the shell.
"""

import csv
import io
import shlex
import sys
from pathlib import Path

from ..util.errors import InputError, prefix_errors, short_repr
from ..util.output import print_error
from .load import read_text


def read(path: str | Path) -> list[list[str]]:
    """Read a table; return ``key=value`` of each row, without empty cells.

    The first line of the CSV file has the keys, which are not checked. Empty lines are skipped.
    """
    text = read_text(path, "a table of settings")
    with prefix_errors(path):
        lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
        try:
            keys, *rows = [(lines.line_num, cells) for cells in lines if any(map(str.strip, cells))]
        except csv.Error as error:
            raise InputError(f"line {lines.line_num}: not CSV: {error}") from None
        except ValueError:
            raise InputError("an empty table: expected a line of keys, and a line for each run") from None
        if not rows:
            raise InputError("expected a line for each run after the line of keys")
        names = [key.strip() for key in keys[1]]
        for name in names:
            if not name or names.count(name) > 1:
                expected = "expected keys, each once, such as seed,update.mode"
                raise InputError(f"line {keys[0]}: {short_repr(name)}: {expected}")
        for number, cells in rows:
            if len(cells) != len(names):
                raise InputError(f"line {number}: {len(cells)} cells for {len(names)} keys")
    return [
        [f"{key}={cell.strip()}" for key, cell in zip(names, cells, strict=True) if cell.strip()]
        for _, cells in rows
    ]


def options(settings: list[str]) -> list[str]:
    """Return settings as options of a command."""
    return [word for setting in settings for word in ("--set", setting)]


if __name__ == "__main__":
    try:
        print("\n".join(shlex.join(options(row)) for row in read(sys.argv[1])))
    except InputError as error:
        print_error(str(error))
        sys.exit(2)

"""Names of packages that are missing, and the command that installs them."""

import shlex
import sys


def pip_install(*names: str) -> str:
    """Return the command by which this Python's own pip installs packages."""
    return f"{shlex.quote(sys.executable)} -m pip install {' '.join(names)}"

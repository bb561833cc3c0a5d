"""Measurements of pdcode beside its limits on the same machine, in the same run."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..fleet import launch


def run(what: str, argv: Sequence[str]) -> int:
    """Run ``pdcode bench WHAT``; messages starts mpirun where no launcher did."""
    if what == "kernels":
        from . import kernels

        return kernels.run()
    if launch.place(os.environ) is None:
        command, environment = launch.command(1, argv)
        os.execvpe(command[0], command, environment)
    from . import messages

    return messages.run()

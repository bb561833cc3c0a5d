"""Measurements of pdcode beside its limits on the same machine, in the same run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module

from ..mpi import launch

OVER_MPI = ("messages",)


def run(what: str, argv: Sequence[str]) -> int:
    """Run ``pdcode bench WHAT``, the module of that name; starts mpirun where it needs one and none did."""
    if what in OVER_MPI and launch.place(os.environ) is None:
        command, environment = launch.command(1, argv)
        os.execvpe(command[0], command, environment)
    done: int = import_module(f".{what}", __package__).run()
    return done

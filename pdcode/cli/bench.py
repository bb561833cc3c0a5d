"""`pdcode bench`: measurements of this machine, and of schemes against rivals."""

import argparse
from collections.abc import Callable
from typing import Any

from ..util.errors import InputError
from ..util.packages import pip_install
from . import arguments


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "bench",
        help="measure this machine, and schemes against rivals",
        example="machine",
        description="Measure this machine, predictions for it, and schemes against rivals.",
    )
    benches = command.add_subparsers(title="benches", required=True, metavar="BENCH")
    arguments.add_kinds(benches, "benches")


def add_machine(benches: Any) -> None:
    """Add the bench of this machine to the parser."""
    _add(
        benches, "machine", "fit [machine] and [link] to this machine, as TOML for the virtual clock", machine
    )


def add_torch(benches: Any) -> None:
    """Add the bench of PyTorch's tasks to the parser."""
    about = (
        "processor time of a task of kind torch beside a plain backward pass of PyTorch, with encoding and "
        "whitening, by gradients and by their factors"
    )
    _add(benches, "torch", about, torch)


def _add(benches: Any, name: str, about: str, function: Callable[[argparse.Namespace], int]) -> None:
    bench = benches.add_parser(name, help=about, example="", description=f"{about[0].upper()}{about[1:]}.")
    bench.set_defaults(function=function)


def machine(options: argparse.Namespace) -> int:
    """Measure this machine."""
    from ..bench import machine

    return machine.run()


def torch(options: argparse.Namespace) -> int:
    """Measure PyTorch's tasks."""
    try:
        from ..torch import bench
    except ModuleNotFoundError as error:
        raise InputError(f"bench torch: needs PyTorch ({error}): {pip_install('torch')}") from None
    return bench.run()

"""`pdcode bench`: measurements of this machine, and of schemes against rivals."""

import argparse
from functools import partial
from importlib import import_module
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


def _add(benches: Any, name: str, about: str) -> None:
    bench = benches.add_parser(name, help=about, example="", description=f"{about[0].upper()}{about[1:]}.")
    bench.set_defaults(function=run, bench=name)


MACHINE = "fit [machine] and [link] to this machine, as TOML for the virtual clock"
TORCH = (
    "processor time of a task of kind torch beside a plain backward pass of PyTorch, with encoding and "
    "whitening, by gradients and by their factors"
)
add_machine, add_torch = (
    partial(_add, name="machine", about=MACHINE),
    partial(_add, name="torch", about=TORCH),
)


def run(options: argparse.Namespace) -> int:
    """Run a bench, the module of its name."""
    module = "..torch.bench" if options.bench == "torch" else f"..bench.{options.bench}"
    try:
        done: int = import_module(module, __package__).run()
    except ModuleNotFoundError as error:
        if options.bench != "torch":
            raise
        raise InputError(f"bench torch: needs PyTorch ({error}): {pip_install('torch')}") from None
    return done

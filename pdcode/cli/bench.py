"""`pdcode bench`: measurements of this machine, and of preset "auto" against rivals."""

import argparse
from typing import Any

from . import arguments

ABOUT = "fit [machine] and [link] to this machine, as TOML for the virtual clock"


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "bench",
        help="measure this machine, and preset 'auto' against rivals",
        example="machine",
        description="Measure this machine, and preset 'auto' against rivals.",
    )
    benches = command.add_subparsers(title="benches", required=True, metavar="BENCH")
    arguments.add_kinds(benches, "benches")


def add_machine(benches: Any) -> None:
    """Add the bench of the machine to the parser."""
    bench = benches.add_parser(
        "machine", help=ABOUT, example="", description=f"{ABOUT[0].upper()}{ABOUT[1:]}."
    )
    bench.set_defaults(function=run)


def run(options: argparse.Namespace) -> int:
    """Measure the machine, and print the tables."""
    from ..bench import machine

    return machine.run()

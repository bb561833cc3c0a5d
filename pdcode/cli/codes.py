"""`pdcode codes list | design | show`: code families, designs and their quality."""

import argparse
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..util import progress
from ..util.errors import InputError
from ..util.output import print_error

LARGE = 1 << 21  # entries of a code matrix whose properties take about a second to compute


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    top = commands.add_parser(
        "codes",
        help="list code families, design a code, or show a saved one",
        example="design net -n 64 -k 16",
        description="Codes: the linear combinations of gradient blocks that workers send.",
    )
    actions = top.add_subparsers(title="actions", required=True, metavar="ACTION")

    command = actions.add_parser(
        "list",
        help="list the code families",
        example="",
        description="List the code families with sizes, default weight and coherence.",
    )
    what = (
        "build the catalogued codes and verify their stated coherence and tightness; exit code 1 if any "
        "differs by more than 1e-12"
    )
    command.add_argument("--verify", action="store_true", help=what)
    command.set_defaults(function=listing)

    command = actions.add_parser(
        "design",
        help="design a code and print its quality",
        example="net -n 64 -k 16 -o net.h5",
        description="Design a code and print its quality: coherence and lower bounds on it, frame bounds, "
        "spark, information, captured energy by number of arrivals.",
    )
    command.add_argument("family", metavar="FAMILY", help="a name from `pdcode codes list`, or auto")
    option = command.add_argument
    option("-n", "--rows", type=int, required=True, metavar="ROWS", help="number of codewords")
    option("-k", "--blocks", type=int, required=True, metavar="BLOCKS", help="number of blocks")
    option("-w", "--weight", type=int, metavar="WEIGHT", help="nonzeros per codeword")
    option("--seed", type=int, default=0, metavar="SEED", help="random seed (default: 0)")
    what = "family-specific option, e.g. dither=false; may be repeated"
    option("--option", action="append", default=[], metavar="KEY=VALUE", help=what)
    option("-o", "--output", metavar="FILE", help="HDF5 file to write the code to")
    option("--figure", metavar="PNG", help="also draw the code, as `show` does")
    command.set_defaults(function=design)

    command = actions.add_parser(
        "show",
        help="print the quality of a saved code",
        example="net.h5 --figure net.png",
        description="Print the quality of a saved code, or of the codes of a trace.",
    )
    command.add_argument("file", metavar="FILE", help="HDF5 file of `pdcode codes design`, or a trace")
    what = "also draw supports, Gram matrix, and captured energy by number of arrivals"
    command.add_argument("--figure", metavar="PNG", help=what)
    command.set_defaults(function=show)


def listing(options: argparse.Namespace) -> int:
    """List the families, or verify the catalogue."""
    from ..analysis import code_tables

    if options.verify:
        return 1 if code_tables.verify() else 0
    code_tables.families()
    return 0


def design(options: argparse.Namespace) -> int:
    """Design a code; write, print and draw it."""
    from .. import codes
    from ..codes.design import refuse_arguments
    from ..codes.files import ensure_savable
    from ..codes.registry import find

    _check(options)
    if options.output:
        ensure_savable(Path(options.output))
    given = dict(_option(text) for text in options.option)
    refuse_arguments(given, "--option ")
    family = find(options.family)
    size = options.rows, options.blocks, options.weight
    with progress.work("design", None) as search:

        def report(done: int, total: int, best: float) -> None:
            search.what, search.total = f"coherence {best:.9f}", total
            search.report(done)

        if family is not None and "progress" in family.options:
            given["progress"] = report
        try:
            code = codes.design(options.family, *size, options.seed, **given)
        except KeyboardInterrupt:  # the optimiser has saved its state
            resume = f"; the same command resumes from {given['state']}" if "state" in given else ""
            print_error(f"interrupted{resume}")
            return 1
    if options.output:
        code.save(options.output)
        print(f"code: {options.output}\n", flush=True)
    _print({"/": code}, options.figure)
    return 0


def show(options: argparse.Namespace) -> int:
    """Print and draw the codes of a file."""
    from ..codes import Code
    from . import guard

    _check(options)
    guard.probe_in_subprocess(options.file)
    _print(Code.load_all(options.file), options.figure)
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.figure:
        from ..analysis import style

        style.ensure_figure_can_be_drawn(options.figure)


def _print(designs: dict[str, Any], figure: str | None) -> None:
    from ..analysis import code_tables
    from ..codes.summary import quality

    measured = {name: quality(code, progress=_report_stage(name, code)) for name, code in designs.items()}
    for name, code in designs.items():
        code_tables.show(code, measured[name], f"{name}  " if len(designs) > 1 else "")
    if figure:
        from ..analysis import code_plots, style

        style.save(code_plots.draw([(code, measured[name]) for name, code in designs.items()]), figure)
        print(f"figure: {figure}")


def _report_stage(name: str, code: Any) -> Callable[[str], None]:
    """Return a function that prints which property of a large code is computed next."""
    of = f" of {name}" if name != "/" else ""

    def report(what: str) -> None:
        if len(code) * code.blocks > LARGE:
            print(f"measuring {what}{of}", file=sys.stderr, flush=True)

    return report


def _option(text: str) -> tuple[str, Any]:
    """Parse KEY=VALUE of ``--option``; the value is TOML, or else a string."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise InputError(f"--option {text}: expected KEY=VALUE, such as dither=false")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()

"""`pdcode report`: a page about a run, about several, or about a comparison; figures for papers."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, ensure_file
from ..util.output import ensure_replaceable, ensure_writable, print_line, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..analysis.report import Part

MARK = b"pdcode report</title>"


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "report",
        help="write an HTML page about a run, several side by side, or a comparison",
        example="results/digits.h5 -o report.html --figures figures",
        description="Write one HTML page that needs no network: slow workers with their cost and what to "
        "try, loss, a timeline to zoom, who is slow when, staleness and latencies, where the time went, "
        "ranks, code, faults, environment. Of several traces it begins with which was first, and has their "
        "rates, with 95 % intervals; of files of `pdcode compare` with the winner and the table. --figures "
        "draws the charts for papers. Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    what = "HDF5 file of a run, or of `pdcode compare`"
    command.add_argument("trace", nargs="+", metavar="TRACE", help=what)
    what = "HTML file to write (default: the first TRACE with the extension .html)"
    command.add_argument("-o", "--output", metavar="FILE", help=what)
    what = "write each chart to this folder as PDF, SVG and PNG; without -o no page"
    command.add_argument("--figures", metavar="FOLDER", help=what)
    what = "without simulations, of what slow workers cost and of waiting, which take a second or more and "
    what += "read the data of the run"
    command.add_argument("--quick", action="store_true", help=what)
    command.set_defaults(function=report)


def report(options: argparse.Namespace) -> int:
    """Write the page and the figures."""
    from ..studies.comparison_file import is_comparison
    from . import guard

    for path in options.trace:
        ensure_file(path)
        guard.probe_in_subprocess(path)
    compared = [path for path in options.trace if is_comparison(path)]
    if compared and len(compared) < len(options.trace):
        raise InputError(f"{compared[0]}: a comparison, which cannot be shown together with traces")
    page = Path(options.output or Path(options.trace[0]).with_suffix(".html"))
    if page.suffix.lower() not in (".html", ".htm") and (page.is_file() or not page.exists()):
        raise InputError(f"-o {page}: expected a file that ends in .html")
    if wanted := options.output or not options.figures:
        ensure_writable(page, f"-o {page}")
        ensure_replaceable(page, f"-o {page}", "a report", lambda path: MARK in path.read_bytes()[:4096])
    made, figures = (of_comparisons if compared else of_runs)(options)
    if wanted:
        from ..analysis import report as pages

        write_file(page, pages.make_page(made), "the report")
        print_line(f"report: {page}")
    if options.figures:
        save(figures, Path(options.figures))
    return 0


Figures = Mapping[str, Callable[[], "Figure"]]


def of_runs(options: argparse.Namespace) -> "tuple[Sequence[Part], Figures]":
    """Return the parts of the page about runs, and its charts for papers."""
    from ..analysis import figures, waiting
    from ..analysis import report as pages
    from ..api.traces import Trace

    traces = [Trace(path) for path in options.trace]
    found = [trace.diagnose(not options.quick) for trace in traces]
    alone = len(traces) == 1 and not options.quick
    with waiting.gain(traces[0]) if alone else nullcontext() as gain:
        made = pages.parts(traces, found, gain)
    return made, {
        name.removesuffix(chart.name) + each.name: partial(figures.draw, each)
        for name, chart in pages.named_charts(made).items()
        for each in (chart, *chart.others)
    }


def of_comparisons(options: argparse.Namespace) -> "tuple[Sequence[Part], Figures]":
    """Return the parts of the page about comparisons, the losses of each and of several a heat map."""
    from ..analysis.comparison import stems
    from ..studies import comparison_figure, comparison_page, comparisons_table
    from ..studies.comparison import Comparison

    loaded = dict(zip(stems(options.trace, ".compare"), map(Comparison.load, options.trace), strict=True))
    figures = {f"{name.replace('/', '-')}-losses": each.plot for name, each in loaded.items()}
    if len(loaded) > 1:
        standings = comparisons_table.standings([*loaded.values()])
        figures["heat-map"] = partial(comparison_figure.heat_map, standings, [*loaded])
    return comparison_page.parts(loaded), figures


def save(figures: Figures, folder: Path) -> None:
    """Write figures by their names as PDF, SVG and PNG, after a check of their files."""
    from ..analysis import style

    paths = {name: [folder / f"{name}{ending}" for ending in style.FORMATS] for name in figures}
    for path in chain(*paths.values()):
        style.ensure_figure_can_be_drawn(str(path), "--figures")
    for name, draw in figures.items():
        drawing = draw()
        for path in paths[name]:
            style.save(drawing, path)
    print_line(f"figures: {folder}, {len(figures)} as {', '.join(style.FORMATS)}")

"""`pdcode show`: summary of a trace, or comparison of several."""

import argparse
from typing import Any

from ..util.errors import InputError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "show",
        help="summarise a trace, or compare several; show the results of `pdcode compare`",
        example="results/digits.h5 --figure digits.png",
        description="Print what is wrong with the loss, if anything is, slow workers with their cost and "
        "what to try, configuration, loss and accuracy, the fit of a calibration, a breakdown of "
        "the time, outages, staleness and bytes; of several traces a table with a row for each. Traces of "
        "running and killed runs can be shown, too. Of a file of `pdcode compare`: "
        "its table; of several a table with a row for each scheme, and the agreement of their rankings.",
    )
    command.add_argument(
        "trace", nargs="+", metavar="TRACE", help="HDF5 file of a run, or of `pdcode compare`"
    )
    command.add_argument(
        "--figure",
        metavar="PNG",
        help="also draw loss against time, beside the same job's loss waiting for all workers, simulated "
        "under the recorded delays, and timelines; of a calibration its fit; or the losses of "
        "several runs against time and bytes (.png, .svg or .pdf)",
    )
    what = "without tables: how the run ended, slow workers with their cost, and what to try"
    command.add_argument("--brief", action="store_true", help=what)
    what = "without simulations, of what slow workers cost and of waiting, which take a second or more and "
    what += "read the data of the run"
    command.add_argument("--quick", action="store_true", help=what)
    command.set_defaults(function=show)


def show(options: argparse.Namespace) -> int:
    """Print and draw one trace, or compare several."""
    from ..analysis import style
    from ..trace.reader import TraceReader
    from . import guard

    if options.figure:
        style.ensure_figure_can_be_drawn(options.figure)
    if compared := [path for path in options.trace if _is_comparison(path)]:
        if len(compared) < len(options.trace):
            raise InputError(f"{compared[0]}: a comparison, which cannot be shown together with traces")
        show_comparisons(options)
    elif len(options.trace) > 1:
        compare(options)
    else:
        from contextlib import nullcontext

        from ..analysis import fit_plots, plots, tables, waiting
        from ..analysis.causes import diagnosed
        from ..analysis.diagnosis import diagnose
        from ..differences.fit import fitted

        guard.probe_in_subprocess(options.trace[0])
        trace = TraceReader(options.trace[0])
        simulates = not options.quick and (options.brief or options.figure)
        with waiting.gain(trace) if simulates else nullcontext() as gain:
            diagnosis = diagnose if options.quick else diagnosed
            tables.show(trace, diagnose=diagnosis, brief=options.brief, gain=gain)
            if options.figure:
                fit = fitted(trace)
                drawing = plots.draw(trace) if gain is None else plots.draw_gain(gain)
                drawing = drawing if fit is None else fit_plots.draw(trace, fit)
                style.save(drawing, options.figure)
    if options.figure:
        print(f"figure: {options.figure}")
    return 0


def _is_comparison(path: str) -> bool:
    from ..studies.comparison_file import is_comparison
    from . import guard

    try:
        guard.probe_in_subprocess(path)
        return is_comparison(path)
    except InputError:  # reported when the file is read
        return False


def show_comparisons(options: argparse.Namespace) -> None:
    """Print and draw one comparison of `pdcode compare`, or print the table of several."""
    from ..analysis import style
    from ..analysis.comparison import stems
    from ..studies import comparisons_table
    from ..studies.comparison import Comparison

    loaded = [Comparison.load(path) for path in options.trace]
    if options.figure and len(loaded) > 1:
        raise InputError(f"--figure {options.figure}: draws one comparison, not {len(loaded)}")
    if len(loaded) == 1:
        loaded[0].show()
    else:
        comparisons_table.show(loaded, stems(options.trace, ".compare"))
    if options.figure:
        style.save(loaded[0].plot(), options.figure)


def compare(options: argparse.Namespace) -> None:
    """Compare the traces that can be read; then refuse the others."""
    from ..analysis import comparison, style
    from ..analysis.summary import summarise
    from ..trace.reader import TraceReader
    from . import guard

    traces, errors = [], []
    for path in options.trace:
        try:
            guard.probe_in_subprocess(path)
            trace = TraceReader(path)
            summarise(trace)  # reads everything that is compared
            traces.append(trace)
        except InputError as error:
            errors.append(str(error))
    if traces:
        comparison.show(traces)
        if options.figure:
            style.save(comparison.draw(traces), options.figure)
    if errors:
        raise InputError("; ".join(errors))

"""`pdcode predict`: predictions of a trained model for new rows."""

import argparse
import csv
import io
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..util.errors import InputError, prefix_errors
from ..util.output import ensure_writable, print_line, write_file
from . import arguments


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "predict",
        help="predict new rows with the model of a trace",
        example="results/digits.h5 new.csv -o predicted.csv",
        description="Predict the targets of rows with the model that a run has trained. The trace is enough: "
        "it has the parameters, the labels of the classes, and the names, scales and coding of the inputs. "
        "Columns of a table are found by the names of the training data. "
        "Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    command.add_argument("trace", metavar="TRACE", help="HDF5 file of a run that has ended")
    what = "inputs, as problem.data; if they come with targets, the predictions are scored"
    command.add_argument("data", metavar="DATA", help=what)
    what = "CSV file to write (default: standard output, without the score)"
    command.add_argument("-o", "--output", metavar="CSV", help=what)
    what = "also write the probabilities of the classes, a column each"
    command.add_argument("--probabilities", action="store_true", help=what)
    arguments.add_plugin(command)
    command.set_defaults(function=predict)


def predict(options: argparse.Namespace) -> int:
    """Predict, and write and score the predictions."""
    from ..api.traces import Trace
    from ..problems.tables import as_list
    from ..util import formats
    from . import guard

    arguments.import_plugins(options)
    guard.probe_in_subprocess(options.trace)
    trace = Trace(options.trace)
    model = trace.model()
    table, samples = read_rows(options, trace, model)
    with prefix_errors(options.data):
        predicted = model.predict(samples)
        columns = [predicted] if predicted.ndim == 1 else [*predicted.T]
        names = [str(name) for name in as_list(table.targets, "y")]
        if len(names) != len(columns):
            names = [f"{names[0]}{number}" for number in range(len(columns))]
        if options.probabilities:
            columns += [*model.predict_proba(samples).T]
            names += [f"p({label})" for label in ([] if model.classes is None else model.classes)]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(names)
    rows.writerows(zip(*(column.tolist() for column in columns), strict=True))
    if options.output is None:
        sys.stdout.write(text.getvalue())
        return 0
    ensure_writable(Path(options.output), options.output)
    write_file(Path(options.output), text.getvalue(), "the predictions")
    print_line(f"predictions: {options.output}, {len(predicted):,} rows")
    if samples.absent is not None and samples.absent.any():
        lacks = f"{formats.counted(int(samples.absent.sum()), 'row')} of {len(predicted):,} without a target"
        print_line(f"not scored: {lacks}")
    elif samples.y is not None:
        score = model.score(samples, samples.y)
        print_line(f"{model.measure} {formats.score(score)} on the targets of {options.data}")
    return 0


def read_rows(options: argparse.Namespace, trace: Any, model: Any) -> tuple[Any, Any]:
    """Read the rows as a model's training data; return also the table [problem] that describes them."""
    import msgspec

    from ..config import NetworkTable, legacy
    from ..config.problems import is_bundled
    from ..problems import read
    from ..problems.formats import format_of
    from ..problems.matrix import Csr
    from . import guard

    data = options.data if is_bundled(options.data) else os.path.abspath(options.data)
    table = legacy.read(trace.config, trace.plugin_digests).problem
    assert isinstance(table, NetworkTable)  # `model` refuses others
    table = msgspec.structs.replace(table, data=data, labels=None)
    if format_of(table) in ("csv", "parquet"):
        table = msgspec.structs.replace(table, inputs=list(model.columns) or None)
    guard.probe_data(table.data)
    for path in map(Path, (options.trace, table.data) if options.output else ()):
        if path.exists() and Path(options.output).exists() and path.samefile(options.output):
            raise InputError(f"-o {options.output}: an input file cannot be overwritten by the predictions")
    samples = read(table, required=False)
    if isinstance(samples.x, Csr):  # svmlight files have no columns after their last entry
        samples = samples._replace(x=replace(samples.x, width=max(samples.x.width, model.features)))
    return table, samples

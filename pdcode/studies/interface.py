"""`pdcode.compare` and `pdcode.Comparison`: schemes compared in a script or notebook."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ..analysis import printing
from ..api import command, configs
from ..api.configs import ConfigLike, PathLike, Settings, path_of
from ..trace import frames
from ..trace.reader import TraceReader
from ..util.errors import InputError
from . import comparison as file
from . import comparison_figure as figure
from . import results_table as table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class Comparison(file.Comparison):
    __doc__ = file.Comparison.__doc__

    def __repr__(self) -> str:
        return f"<Comparison: {self.title}>"

    def _repr_html_(self) -> str:
        """Return the ranked table, for notebooks."""
        from rich.console import Console

        text = io.StringIO()
        table.show(self, Console(file=text, width=printing.PLAIN_WIDTH, highlight=False, markup=False))
        return f"<pre>{escape(text.getvalue())}</pre>"

    def show(self) -> None:
        """Print the ranked table, as ``pdcode compare`` does."""
        table.show(self)

    def plot(self) -> Figure:
        """Draw training loss against time and against bytes, as ``pdcode compare --figure`` does.

        Returns
        -------
        matplotlib.figure.Figure
            Notebooks show it; `savefig` writes it to a file.
        """
        return figure.draw(self)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the figures of all runs, a row for each scheme and seed.

        Its columns are the attributes of `pdcode.studies.measurement.Measured`, times in s: seconds (to the
        target; infinite if it was not reached), stop_s, job_s, updates, samples, bytes_up, bytes_down, …

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        rows = [
            {"scheme": name, "seed": seed, **asdict(measured)}
            for name, row in zip(self.names, self.measured, strict=True)
            for seed, measured in zip(self.seeds, row, strict=True)
        ]
        frame: pandas.DataFrame = frames.import_optional("pandas").DataFrame(rows)
        return frame.set_index(["scheme", "seed"])


def compare(
    config: ConfigLike,
    schemes: str | Sequence[str],
    *,
    seeds: int | None = None,
    tune: int | None = None,
    rates: PathLike | None = None,
    clock: str = "virtual",
    target: float | None = None,
    seconds: float | None = None,
    stragglers: PathLike | TraceReader | None = None,
    cost: PathLike | TraceReader | None = None,
    link: float | None = None,
    workers: int | None = None,
    set: Settings = (),
    processes: int | None = None,
    output: PathLike | None = None,
    progress: bool = True,
) -> Comparison:
    """Run schemes under the same delays and rank them, as ``pdcode compare`` does.

    Parameters
    ----------
    config : dict, path or Trace
        Tables of a configuration, a TOML file of them, or the trace of a run that had it. Paths in a dict
        are relative to the current folder.
    schemes : str or sequence of str
        Entrants: ``NAME`` or ``NAME:PRESET``, with ``/KEY=VALUE`` for each key to change; ``"yours"`` is the
        configuration as it is, ``"all"`` every scheme and preset that can run.
    seeds : int, optional
        Runs of each; default 5.
    tune : int, optional
        Choose each one's learning rate by as many runs first.
    rates : path, optional
        Take the learning rates from this earlier comparison.
    clock : {"virtual", "mpi"}
        Clock of the runs.
    target : float, optional
        Training loss to reach, instead of that of ``[stop]``.
    seconds : float, optional
        Limit of a run's time.
    stragglers, cost
        As for `simulate`; recorded delays are drawn in random blocks.
    link : float, optional
        Bandwidth of rank 0's link on the virtual clock, bytes/s.
    workers, set
        As for `run`; for all schemes.
    processes : int, optional
        Number of processes; default: one per core.
    output : path, optional
        HDF5 file to write; by default ``results/<name of the configuration>.compare.h5``. The entrants'
        configurations lie beside it, in a folder.
    progress : bool
        Whether to print the lines that the command prints, the table among them.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If the input is bad.
    KeyboardInterrupt
        After Ctrl-C; nothing is written.

    Examples
    --------
    >>> import pdcode
    >>> config = {
    ...     "problem": {"kind": "softmax", "data": "digits", "batch": 32},
    ...     "stragglers": {"kind": "shifted-exponential", "mean_s": 0.01, "slow": [7], "slowdown": 10.0},
    ...     "stop": {"loss": 1.0, "seconds": 60.0},
    ... }
    >>> made = pdcode.compare(
    ...     config, ["uncoded:all", "uncoded:async"], workers=8, seeds=2, output="made.h5", progress=False
    ... )
    >>> made
    <Comparison: 2 schemes on the virtual clock, to training loss 1>
    >>> made.to_pandas().seconds.groupby("scheme").mean().round(1).to_dict()
    {'uncoded:all': 12.9, 'uncoded:async': 1.5}
    """
    if tune is not None and rates is not None:
        raise InputError("pdcode.compare: give `tune` or `rates`, not both")
    options = {
        "schemes": schemes if isinstance(schemes, str) else ",".join(schemes),
        "seeds": seeds,
        "tune": tune,
        "rates": path_of(rates),
        "clock": clock,
        "target": target,
        "seconds": seconds,
        "stragglers": path_of(stragglers),
        "cost": path_of(cost),
        "link": link,
        "processes": processes,
    }
    settings = configs.overrides(set, workers)
    job = configs.read(config, settings)
    stem = Path(job.name).stem if job.name else "config"
    written = Path(output or Path("results") / f"{stem}.compare.h5")
    with job.as_file() as path:
        command.run_command(
            ["compare", *command.to_options(options, settings), f"--output={written}", "--", path], progress
        )
    return Comparison.load(written)

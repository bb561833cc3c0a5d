"""`pdcode.Comparison` and `pdcode.compare`: the results of schemes under the same seeds and delays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..analysis import printing
from ..api import command, configs
from ..api.configs import ConfigLike, PathLike, Settings, path_of
from ..api.data import Data, named, store
from ..config import Config, legacy
from ..config import load as configfile
from ..trace import frames
from ..trace.reader import TraceReader
from ..util.errors import InputError, prefix_errors
from ..util.formats import counted
from . import comparison_figure, comparison_file, results_table
from .goal import Goal
from .measurement import Curves, Measured
from .ranking import Row, rank

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Comparison:
    """Schemes under the same seeds and delays, and their results.

    Attributes
    ----------
    names : list of str
        Names of the candidates.
    configs : list of str
        Configurations of the candidates, TOML.
    seeds : list of int
    clock : {"virtual", "mpi"}
    goal : Goal or None
        Target of the runs.
    measured : list of list of Measured
        Figures and curves by candidate and seed.
    command : str
        Command that made the comparison.
    config : str
        TOML text of the user's configuration.
    notes : list of str
        Sentences on how the comparison was made.
    """

    names: list[str]
    configs: list[str]
    seeds: list[int]
    clock: str
    goal: Goal | None
    measured: list[list[Measured]]
    command: str = ""
    config: str = ""
    notes: list[str] = field(default_factory=list)

    def read_configs(self, where: str) -> list[Config]:
        """Read the configurations of the candidates; error messages name the file, `where`."""
        with prefix_errors(where):
            try:
                tables = [configfile.parse(text) for text in self.configs]
            except ValueError as error:
                raise InputError(f"damaged: a configuration is not TOML: {error}") from None
            return [legacy.read(each) for each in tables]

    @property
    def title(self) -> str:
        """Heading of the table."""
        clock = "on the virtual clock" if self.clock == "virtual" else "over MPI"
        return f"{counted(len(self.names), 'scheme')} {clock}" + (f", to {self.goal}" if self.goal else "")

    @property
    def curves(self) -> list[list[Curves]]:
        """Measurements of each run, by candidate and seed."""
        return [[run.curves for run in row] for row in self.measured]

    @property
    def rows(self) -> list[Row[str]]:
        """Candidates and their runs, best first."""
        return rank(self.names, self.measured, self.goal)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the comparison.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        comparison_file.write(vars(self), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a comparison.

        Raises
        ------
        InputError
            If the file is not a comparison, or damaged.
        """
        return cls(**comparison_file.read(path))

    def __repr__(self) -> str:
        return f"<Comparison: {self.title}>"

    def _repr_html_(self) -> str:
        """Return the ranked table, for notebooks."""
        return printing.to_html(self.sections)

    def show(self) -> None:
        """Print the ranked table, as ``pdcode compare`` does."""
        printing.show(self.sections)

    @property
    def sections(self) -> list[printing.Section]:
        """The ranked table, and its legend."""
        return results_table.comparison_sections(self.rows, self.seeds, self.title, self.notes)

    def plot(self) -> Figure:
        """Draw training loss against time and against bytes, as ``pdcode compare --figure`` does.

        Returns
        -------
        matplotlib.figure.Figure
            Notebooks show it; `savefig` writes it to a file.
        """
        return comparison_figure.draw(self.rows, self.clock)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the figures of all runs, a row for each scheme and seed.

        The columns are the attributes of `pdcode.studies.measurement.Measured`, times in s: seconds (to the
        target; infinite if the run missed it), stop_s, job_s, updates, samples, bytes_up, bytes_down, …

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        rows = [
            {"scheme": name, "seed": seed, **run.figures}
            for name, row in zip(self.names, self.measured, strict=True)
            for seed, run in zip(self.seeds, row, strict=True)
        ]
        frame: pandas.DataFrame = frames.import_optional("pandas").DataFrame(rows)
        return frame.set_index(["scheme", "seed"])


def compare(
    config: ConfigLike,
    schemes: str | Sequence[str],
    *,
    data: Data = None,
    seeds: int | None = None,
    tune: int | None = None,
    rates: PathLike | None = None,
    clock: str = "virtual",
    target: float | None = None,
    seconds: float | str | None = None,
    stragglers: PathLike | TraceReader | None = None,
    cost: PathLike | TraceReader | None = None,
    link: float | str | None = None,
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
        Candidates: ``NAME``, ``NAME:PRESET`` or ``yours``, the configuration itself, with ``/KEY=VALUE`` for
        each key to change; ``"all"`` is every scheme and preset that can run.
    data : tuple or data frame, optional
        As for `run`; the file lies beside `output`, as the candidates' configurations read it.
    seeds : int, optional
        Runs of each; default 5.
    tune : int, optional
        Number of runs by which each scheme's learning rate and knobs are chosen first.
    rates : path, optional
        Take them from this earlier comparison.
    clock : {"virtual", "mpi"}
        Clock of the runs.
    target : float, optional
        Training loss to reach, instead of the loss of ``[stop]``.
    seconds : float or str, optional
        Limit of a run's time, s, or text such as ``"10 min"``.
    stragglers, cost
        As for `simulate`; recorded delays are drawn in random blocks.
    link : float or str, optional
        Bandwidth of rank 0's link on the virtual clock, bytes/s, or text such as ``"1 Gbit/s"``.
    workers, set
        As for `run`; for all schemes.
    processes : int, optional
        Number of processes; default: one per core.
    output : path, optional
        HDF5 file to write; by default ``results/<name of the configuration>.compare.h5``. The candidates'
        configurations lie beside it, in a folder.
    progress : bool
        Whether to print the lines that the command prints, but for the table: a notebook displays what is
        returned, and `Comparison.show` prints it.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If the input is bad.
    KeyboardInterrupt
        After Ctrl-C; the same call resumes behind the runs that were done.

    Examples
    --------
    >>> import pdcode
    >>> config = {
    ...     "problem": {"kind": "softmax", "data": "digits", "batch": 32},
    ...     "stragglers": {"kind": "shifted-exponential", "mean_s": 0.01, "slow": [7], "slowdown": 10.0},
    ...     "stop": {"loss": 0.3, "seconds": 60.0},
    ... }
    >>> made = pdcode.compare(
    ...     config, ["uncoded:all", "uncoded:async"], workers=8, seeds=2, output="made.h5", progress=False
    ... )
    >>> made
    <Comparison: 2 schemes on the virtual clock, to training loss 0.3>
    >>> made.to_pandas().seconds.groupby("scheme").mean().round(1).to_dict()
    {'uncoded:all': 0.7, 'uncoded:async': 0.1}
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
    stem = Path(config).stem if isinstance(config, str | os.PathLike) else "config"
    written = Path(output or Path("results") / f"{stem}.compare.h5")
    settings = store(config, configs.overrides(set, workers), data, written)
    with configs.read(config, settings).as_file() as path, named(data):
        given = [*command.to_options(options, settings), f"--output={written}", "--no-table"]
        command.run_command(["compare", *given, "--", path], progress)
    return Comparison.load(written)

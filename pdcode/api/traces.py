"""`pdcode.Trace`: a recorded run with its summary, figures and replay."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import kinds
from ..trace import reader
from ..util.errors import Failure, InputError, prefix_errors
from ..util.output import print_line
from ..util.threads import one_thread
from .configs import Settings, overrides

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from ..analysis.account import Account
    from ..analysis.diagnosis import Diagnosis
    from ..analysis.questions import Answer
    from ..differences.fit import Fit
    from ..events import Dictionary
    from ..problems.trained import TrainedModel


class Trace(reader.TraceReader):
    __doc__ = reader.TraceReader.__doc__

    def summary(self, loss: float | None = None, accuracy: float | None = None) -> dict[str, Any]:
        """Return the headline figures of the run.

        Parameters
        ----------
        loss, accuracy : float, optional
            Target to reach, one of the two; default: the target of ``[stop]``.

        Returns
        -------
        dict
            trace, scheme, workers, clock, finished, failure (why it failed), seconds (until the stop),
            target, target_s (time of the first measurement that reached the target; infinite if none did),
            above_s (until then it was not reached; `target_s` if that is exact), updates, loss, accuracy,
            arrivals, wasted (fraction of the arrivals), staleness (median), bytes_up, bytes_down; nan if not
            measured.
        """
        return asdict(kinds.find("views", "summary")(self, loss, accuracy))

    def diagnose(self, what_if: bool = True) -> Diagnosis:
        """Find the slow workers: which, since when, by how much, why, what that costs, and what to try.

        Parameters
        ----------
        what_if : bool
            Whether to predict the costs, on the virtual clock under the recorded delays. That takes a second
            or two, and reads the data that the trace names.

        Returns
        -------
        Diagnosis
            `print` shows its lines: verdict, why, cost, next.

        Raises
        ------
        InputError
            If the trace is damaged.
        """
        return kinds.find("views", "diagnosis")(self, what_if)

    def account(self) -> Account | None:
        """Divide the time to the target, or to the stop, by who spent it on what, along the critical path.

        Returns
        -------
        Account or None
            None without steps, or if not all arrivals were recorded. `print` shows the parts in %; `spent_ns`
            has them by worker.

        Raises
        ------
        InputError
            If the trace is damaged.
        """
        return kinds.find("views", "account")(self)

    def ask(self, set: Settings = (), without: Sequence[int] = (), replaced: Sequence[int] = ()) -> Answer:
        """Predict the run under other keys, or with other workers, by the virtual clock and its delays.

        Parameters
        ----------
        set : dict or sequence of str
            Keys: ``{"workers.count": 32}`` or ``["workers.count=32"]``.
        without : sequence of int
            Workers without which the job would go on.
        replaced : sequence of int
            Workers that would be as a usual one.

        Returns
        -------
        Answer
            `print` shows it as a sentence.

        Raises
        ------
        InputError
            If the recording does not answer a key, or the clock cannot predict the run.
        """
        return kinds.find("views", "answer")(self, overrides(set), without, replaced)

    def plot(self, kind: str = "run") -> Figure:
        """Draw the run, finished or not.

        Parameters
        ----------
        kind : {"run", "loss", "accuracy", "timeline", "rate", "gain", "fit", "code"}
            "run": training loss and test accuracy against time, the workers' tasks in an interval, and
            arrivals a second; the next four are its panels. "gain": the figure of ``pdcode show --figure``,
            the loss beside the loss of the same job waiting for all workers, simulated under the recorded
            delays, and both timelines. "fit": values, parameters with intervals, and the cost of
            evaluations, of a search that has ended. "code": the figure of ``pdcode codes show --figure``.

        Returns
        -------
        matplotlib.figure.Figure
            Notebooks show it; `savefig` writes it to a file.

        Raises
        ------
        InputError
            If there is no such kind, no code as every layer is sent uncoded, or waiting cannot be simulated.
        """
        return kinds.find("views", "figure")(self, kind)

    def fit(self) -> Fit | None:
        """Return what a search with residuals has found: parameters, covariance, what the data determine.

        Returns
        -------
        Fit or None
            `x`, `residuals`, `jacobian`, `covariance`, `deviations` (standard errors), `intervals` (95 %),
            `conditions` (condition indices), `undetermined` and `together` (names of parameters that the
            residuals do not determine, or together only). None if the run is of another kind or has not
            ended.

        Raises
        ------
        InputError
            If the trace is damaged.
        """
        return kinds.find("views", "fit")(self)

    def replay(self, progress: bool = True) -> np.ndarray:
        """Recompute the run from this trace alone, as ``pdcode replay`` does; return the recomputed θ.

        Parameters
        ----------
        progress : bool
            Whether to print a line a second.

        Raises
        ------
        Failure
            If anything differs in any bit; the message names the first row that does.
        InputError
            If the trace cannot be replayed.
        """
        from ..replay import Difference, replay

        recorded = reader.TraceReader(self.path, correct_clocks=False)
        try:
            with one_thread():
                return replay(recorded, print_line if progress else lambda line: None).theta
        except Difference as difference:
            raise Failure(f"{self.path}: not the same: {difference}") from None

    def model(self, theta: npt.ArrayLike | None = None) -> TrainedModel:
        """Return the trained model, from this trace alone.

        Parameters
        ----------
        theta : array_like, shape (parameters,), optional
            Parameters of another update, such as parameters that `replay` returns; by default the final ones.

        Returns
        -------
        TrainedModel
            With `predict`, `predict_proba` and `score`, on raw inputs.

        Raises
        ------
        InputError
            If the run has not ended, or the trace is of an older version.
        """
        from ..config import NetworkTable, legacy
        from ..problems.trained import model_of

        where = str(self.path)
        chosen = self.theta if theta is None else theta
        if chosen is None:
            raise InputError(f"{where}: has no final theta, as the run has not ended or computed none")
        if not self.data:
            raise InputError(f"{where}: has no labels and scales, as older versions of pdcode wrote none")
        with prefix_errors(where):
            config = legacy.read(self.config, self.plugin_digests)
            if not isinstance(config.problem, NetworkTable):
                raise InputError(f"problem.kind: '{config.problem.kind}' has no predictions; take `theta`")
            if config.problem.latent:
                raise InputError("problem.kind: 'sparse-coding' predicts nothing; take `pdcode reconstruct`")
            return model_of(config.problem, config.code.blocks, self.data, np.asarray(chosen))

    def weights(self) -> dict[str, np.ndarray]:
        """Return the trained weights by name, as ``pdcode export`` writes them.

        Those of a network are for inputs and targets as they are in the data, however they were scaled.
        Of kind "torch" they are the module's ``state_dict``, with statistics and buffers computed
        from training rows, for which module and data are imported.

        Raises
        ------
        InputError
            If the run has not ended.
        """
        from ..config import legacy
        from ..problems.model import ModelTable

        if self.theta is None:
            raise InputError(f"{self.path}: has no final theta, as the run has not ended or computed none")
        with prefix_errors(str(self.path)), one_thread():
            table = legacy.read(self.config, self.plugin_digests).problem
            if not isinstance(table, ModelTable):
                return self.model().unscaled()
            train = table.read().sample(table.evaluate).train
            return dict(table.built().weights(self.theta, train))

    def export(
        self,
        path: str | os.PathLike[str],
        to: str | None = None,
        *,
        table: str | None = None,
        events: int | None = None,
    ) -> str:
        """Write the run in the format of another tool, as ``pdcode export -o`` does.

        Parameters
        ----------
        path : str or path-like
            File, or of formats "otf2" and "tensorboard" folder, to write; only Prometheus' may exist.
        to : {"perfetto", "otf2", "pipit", "goal", "parquet", "csv", "tensorboard", "prometheus"}, optional
            Format, by default the one of the suffix of `path`.
        table : {"arrivals", "updates", "progress", "workers", "faults", "segments", "pauses", \
                "phases", "shuffles"}, optional
            Table of "parquet" and "csv", by default arrivals.
        events : int, optional
            Events of "perfetto", "otf2", "pipit" and "goal", at most, by default 1,000,000; 0: any number.
            Of a longer run, consecutive payloads of a worker are merged, at least into one group a worker:
            ten events, or twelve with injected delays.

        Returns
        -------
        str
            What was written, in numbers.

        Raises
        ------
        InputError
            If an argument is wrong, the path exists, or the trace has no arrivals and the format needs them.
        Failure
            If the package of the format is not installed (extra ``export``), or the disk is full.
        """
        return kinds.find("views", "export")(self, path, to, table, events)

    def dictionary(self) -> Dictionary:
        """Return the features that a run of kind ``sparse-coding`` has learnt, for images.

        Returns
        -------
        pdcode.events.Dictionary
            Its `features` have the learnt ones, shape (atoms + 1, pixels), and a constant one at the end.

        Raises
        ------
        InputError
            If the run is of another kind or has not ended, or its features are not square.
        """
        return kinds.find("views", "dictionary")(self)

    def _repr_html_(self) -> str:
        """Describe the run for notebooks, with the diagnosis but for its costs."""
        return kinds.find("views", "html")(self)

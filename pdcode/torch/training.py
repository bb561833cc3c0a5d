"""`pdcode.torch.train`: train a module by a call."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..api.configs import ConfigLike, PathLike, Settings
from ..api.objects import train_given
from ..api.traces import Trace
from ..config import legacy
from ..util.threads import one_thread
from .kind import TorchProblem
from .losses import named
from .model import model_of


def train(
    model: nn.Module | Callable[..., nn.Module] | str,
    data: Any,
    *,
    loss: Callable[..., Any] | str = "cross_entropy",
    score: Callable[..., Any] | str | None = None,
    config: ConfigLike | None = None,
    mpi: bool = False,
    workers: int | None = None,
    output: PathLike | None = None,
    set: Settings = (),
    resume: bool = False,
    progress: bool = True,
) -> tuple[Trace, nn.Module]:
    """Train a module with workers that have shards of the rows.

    It is ``problem.kind = "torch"`` as a call.

    Parameters
    ----------
    model : torch.nn.Module, callable or str
        Module, whose weights are the start and do not change, or a function or class that makes one, whose
        arguments are ``problem.options``. A name "FILE.py:NAME" instead is needed with `mpi`.
    data : tuple of array or tensor, pair of tuples, torch.utils.data.Dataset, callable or str
        Arrays with the same first axis, the last one the target unless `loss` is a function; training
        rows and test rows; a data set with a length or its `DataLoader`, or two of them; a function that
        makes them; or a name.
    loss : str or callable
        Function of ``torch.nn.functional``, or its name, or a module such as ``CrossEntropyLoss()``, of
        outputs and targets; or ``loss(module, *rows) -> scalar``, the mean over the rows, or "FILE.py:NAME".
    score : callable or str, optional
        ``score(module, *rows)``: a number, 1 at best, measured on test rows if there are any. By default the
        accuracy, with the loss "cross_entropy".
    config : dict, path or Trace, optional
        Tables of a configuration, such as ``{"stop": {"updates": 500}}``. A module of float64 is trained in
        float64 unless ``problem.dtype`` is given.
    mpi : bool
        Whether to train over MPI, as `pdcode.run`, and not on the virtual clock, as `pdcode.simulate`.
    workers, output, set, resume, progress
        As for `pdcode.run` and `pdcode.simulate`.

    Returns
    -------
    trace : Trace
        Record of the run. Only this object can replay a run of objects without names.
    module : torch.nn.Module
        Trained module, in evaluation mode.

    Raises
    ------
    InputError
        If the input is bad, or an object has no name with `mpi`.
    Failure
        If the run fails, for example by divergence.
    """
    loss = named(loss) if inspect.isfunction(loss) and named(loss) else loss  # which has a name over MPI, too
    given = {"module": model, "data": data, "loss": loss} | ({} if score is None else {"score": score})
    tables: Any = {} if config is None else config
    if isinstance(model, nn.Module) and isinstance(tables, Mapping):
        dtypes = {each.dtype for each in model.parameters()}
        dtype = {"dtype": "float64"} if dtypes == {torch.float64} else {}
        tables = {**tables, "problem": {**dtype, **tables.get("problem", {})}}
    with one_thread():
        trace = train_given(
            "torch", given, {"module": "model"}, tables, mpi, workers, output, set, resume, progress
        )
        table = legacy.read(trace.config, trace.plugin_digests).problem
        assert isinstance(table, TorchProblem)
        assert trace.theta is not None
        return trace, model_of(table).trained(trace.theta, table.read().sample(table.evaluate).train)

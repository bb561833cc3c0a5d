"""A rank of PyTorch's DistributedDataParallel (DDP): the work of a pdcode worker, and its delays.

Data, mini-batches, initial θ and delays are as at pdcode's worker with the rank's number. The penalty is
the optimizer's weight decay. A rank sleeps between its forward and its backward pass, before the reduction:
an update takes as long as the slowest rank, wherever in the update a rank sleeps.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np

from pdcode import problems, stragglers
from pdcode.coding.optimizers import Optimizer, SGDTable
from pdcode.config import Config
from pdcode.problems import Problem
from pdcode.problems.losses import LeastSquaresProblem, Logistic, Softmax
from pdcode.schemes import Scheme, delay_model, make_scheme
from pdcode.schemes.common import builders
from pdcode.util import threads
from pdcode.util.rng import BatchSampler

WARM_UP = 10  # gradients before the start, to measure each rank's compute time
NAP_NS = 10_000_000  # longest single sleep in a delay, after which a rank checks whether the run has ended
FIRST = 2  # updates before PowerSGD compresses; the least that the hook accepts
TIMEOUT_S = 24 * 3600  # timeout of a collective operation


class SharedBoard:
    """Memory shared by the ranks and the measuring process, in a file.

    `theta` is a copy of rank 0's θ; `until_ns` and `compute_ns`, int64, shape (n,), are the end of each
    rank's last delay and its compute time of a task. `head` has

    - start_ns: when the run began, or 0;
    - stop: whether the run must end; end: number of updates after which all ranks leave, or -1;
    - version, t_ns, full: version and time of the copy of θ, and whether it must be measured;
    - due_ns: earliest time of the next copy.
    """

    def __init__(self, path: str, workers: int, size: int, dtype: np.dtype) -> None:
        names = "start_ns", "stop", "end", "version", "t_ns", "full", "due_ns"
        layout = np.dtype(
            [
                ("head", [(name, np.int64) for name in names]),
                ("until_ns", np.int64, (workers,)),
                ("compute_ns", np.int64, (workers,)),
                ("theta", dtype, (size,)),
            ]
        )
        mode: Any = "r+" if os.path.exists(path) else "w+"
        record = np.memmap(path, layout, mode, shape=(1,))
        self.head: Any = record["head"][0]
        self.until_ns, self.compute_ns, self.theta = (
            np.asarray(record[name][0]) for name in ("until_ns", "compute_ns", "theta")
        )


@dataclass(frozen=True)
class DDPJob:
    """A run of DDP."""

    config: Config
    path: str  # file of the board
    rendezvous: str  # file by which the ranks find each other, the same for all runs of these processes
    hook: str  # name in `HOOKS`, or an empty text

    def board(self, problem: Problem) -> SharedBoard:
        """Open the board."""
        return SharedBoard(self.path, self.config.workers.count, problem.size, problem.dtype)


class RankResult(NamedTuple):
    """Result of a rank: its number, number of updates, time of the last one in ns, θ, and bytes gathered."""

    rank: int
    version: int
    t_ns: int
    theta: np.ndarray
    gathered: int = 0


def load_shard(config: Config, rank: int) -> tuple[Scheme, Problem, BatchSampler, float]:
    """Load a rank's rows; return scheme, problem, mini-batches, and the weight of its gradients."""
    scheme, source = make_scheme(config), problems.load_source(config.problem)
    placement = scheme.placement
    problem = placement.build_problem(placement.worker_data(source, rank), rank)
    weight = builders.gradient_weight(config, problem, placement.total_rows(source))
    return scheme, problem, problem.batches(config.seed, rank), weight


def train_rank(job: DDPJob, rank: int) -> RankResult:
    """Train in this process, one of several that do so at the same time.

    The first run of a process decides on its rank. Process groups are reused, as gloo may crash when one is
    destroyed.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch
    import torch.distributed as dist

    config = job.config
    if not dist.is_initialized():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # gloo prints to stdout
        torch.set_num_threads(threads.requested() or 1)
        where, timeout = f"file://{job.rendezvous}", timedelta(seconds=TIMEOUT_S)
        dist.init_process_group(
            "gloo", init_method=where, rank=rank, world_size=config.workers.count, timeout=timeout
        )
    rank = dist.get_rank()
    scheme, problem, batches, weight = load_shard(config, rank)
    board = job.board(problem)
    model = TorchNetwork(problem, weight)
    model.load(problem.initial(config.seed))
    parallel = torch.nn.parallel.DistributedDataParallel(model.layers, gradient_as_bucket_view=True)
    state: Any = HOOKS[job.hook](parallel, scheme.options) if job.hook else None
    optimizer = model.optimizer(config, scheme)

    def forward(update: int) -> Any:
        return model.loss(parallel, batches.draw(update))

    board.compute_ns[rank] = warm_up(parallel, forward)
    optimizer.zero_grad()
    delays = stragglers.WorkerDelays(delay_model(config), rank)
    dist.barrier()
    update = train(board, rank, forward, optimizer, delays, model)
    t_ns, theta = time.perf_counter_ns() - int(board.head["start_ns"]), np.empty(problem.size, problem.dtype)
    model.save(theta)
    return RankResult(rank, update, t_ns, theta, getattr(state, "bytes", 0))


def train(
    board: SharedBoard,
    rank: int,
    forward: Callable[[int], Any],
    optimizer: Any,
    delays: stragglers.WorkerDelays,
    model: TorchNetwork,
) -> int:
    """Perform updates until the board ends the run; return their number.

    Ending needs no message: rank 0 writes the number of the last update before it takes part in it, and no
    other rank can complete that update earlier.
    """
    head, update, compute_ns = board.head, 0, int(board.compute_ns[rank])
    if rank == 0:
        head["start_ns"] = time.perf_counter_ns()
    while update != head["end"]:
        if rank == 0 and head["stop"] and not 0 <= head["end"] <= update + 1:
            head["end"] = update + 1
        optimizer.zero_grad()
        loss = forward(update)
        sleep_delay(board, rank, delays.delay_ns(update, compute_ns), delays.spin)
        loss.backward()
        optimizer.step()
        update += 1
        if rank == 0 and not head["full"]:
            now_ns = time.perf_counter_ns() - head["start_ns"]
            if now_ns >= head["due_ns"]:
                model.save(board.theta)
                head["version"], head["t_ns"] = update, now_ns
                head["full"] = 1
    return update


def sleep_delay(board: SharedBoard, rank: int, delay_ns: int, spin: bool) -> None:
    """Sleep for a delay (forever if negative), or until the end of the run."""
    if not delay_ns:
        return
    until_ns = time.perf_counter_ns() + delay_ns
    board.until_ns[rank] = until_ns if delay_ns > 0 else 0
    while not board.head["stop"]:
        left_ns = until_ns - time.perf_counter_ns() if delay_ns > 0 else NAP_NS
        if left_ns <= 0:
            break
        if not spin or delay_ns < 0:
            time.sleep(1e-9 * min(left_ns, NAP_NS))


def warm_up(parallel: Any, forward: Callable[[int], Any]) -> int:
    """Compute gradients without reduction; return the median time of one in ns."""
    times = []
    for _ in range(WARM_UP):
        start_ns = time.perf_counter_ns()
        with parallel.no_sync():
            forward(0).backward()
        times.append(time.perf_counter_ns() - start_ns)
    return round(statistics.median(times))


def register_powersgd(parallel: Any, options: Any) -> None:
    """Compress gradients by PyTorch's PowerSGD hook of rank `options.rank`, from update number `FIRST` on."""
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

    rank = options.rank
    state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=rank, start_powerSGD_iter=FIRST)
    parallel.register_comm_hook(state, powerSGD_hook.powerSGD_hook)


def register_coded(parallel: Any, _: Any) -> Any:
    """Whiten and code gradients by pdcode's hook; return its state."""
    from pdcode.torch import ddp

    state = ddp.Coded(parallel)
    parallel.register_comm_hook(state, ddp.hook)
    return state


HOOKS: dict[str, Callable[[Any, Any], Any]] = {"powersgd": register_powersgd, "coded": register_coded}


class TorchNetwork:
    """A problem's network in PyTorch, for dense inputs and pdcode's own losses."""

    def __init__(self, problem: Problem, weight: float) -> None:
        import torch

        nn, own = torch.nn, problems.of_network(problem, "DDP")
        data, network = own.dataset, own.model
        activation = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}[network.activation]
        dtype = getattr(torch, network.dtype.name)
        self._weight = weight  # factor of the loss
        self._linear = [nn.Linear(each.inputs, each.outputs, dtype=dtype) for each in network.layers]
        first, *others = self._linear
        self.layers: Any = nn.Sequential(first, *(each for layer in others for each in (activation(), layer)))
        self._x = torch.from_numpy(np.ascontiguousarray(np.asarray(data.x)[:, :-1]))
        self._y, self._loss = torch.from_numpy(data.y), losses(torch)[type(network.loss)]
        if data.classes is not None:
            self._y = self._y.long()
        self._tensor = torch.from_numpy
        self._network, self._problem = network, problem

    def loss(self, parallel: Any, rows: np.ndarray) -> Any:
        """Compute the loss of a mini-batch, without the penalty."""
        chosen = self._tensor(rows)
        return self._weight * self._loss(parallel(self._x[chosen]), self._y[chosen])

    def optimizer(self, config: Config, scheme: Scheme) -> Any:
        """Build PyTorch's SGD, whose weight decay is the penalty, or else pdcode's optimizer."""
        import torch

        table, network = config.optimizer, self._network
        own = table.scheduled or table.decays or table.clip is not None
        if own or not isinstance(table, SGDTable):
            factor = table.resolved(config.stop.updates).factor
            return OwnOptimizer(self, scheme.optimizer(self._problem), factor)
        biases = network.l2 if network.penalise_bias else 0.0
        return torch.optim.SGD(
            [
                {"params": [layer.weight for layer in self._linear], "weight_decay": network.l2},
                {"params": [layer.bias for layer in self._linear], "weight_decay": biases},
            ],
            lr=table.rate,
            momentum=table.momentum,
            nesterov=table.nesterov and table.momentum > 0,
        )

    def gradient(self, theta: np.ndarray, gradient: np.ndarray) -> None:
        """Write the gradient at θ, the penalty's gradient included."""
        for parameter, view in self._pairs(gradient):
            view[:] = parameter.grad.numpy()
        penalised = map(self._problem.penalised, (gradient, theta))
        for part, weights in zip(*penalised, strict=True):
            part += self._network.l2 * weights

    def load(self, theta: np.ndarray) -> None:
        """Set the parameters to θ."""
        for parameter, view in self._pairs(theta):
            parameter.data.copy_(self._tensor(view))

    def save(self, theta: np.ndarray) -> None:
        """Write the parameters to θ."""
        for parameter, view in self._pairs(theta):
            view[:] = parameter.data.numpy()

    def _pairs(self, flat: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield each parameter with its view of a vector of θ's size."""
        return zip(self.layers.parameters(), self._network.views(flat).values(), strict=True)


class OwnOptimizer:
    """One of pdcode's optimizers, with the methods of PyTorch's that a rank calls."""

    def __init__(self, model: TorchNetwork, optimizer: Optimizer, factor: Callable[[int], float]) -> None:
        self._model, self._optimizer, self._factor = model, optimizer, factor
        self._theta = np.empty(optimizer.size, optimizer.dtype)
        model.save(self._theta)
        self._updates = 0

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self._model.layers.zero_grad()

    def step(self) -> None:
        """Step along the gradient that the ranks have averaged."""
        self._model.gradient(self._theta, self._optimizer.whole_gradient)
        self._optimizer.step_whole(self._theta, self._factor(self._updates))
        self._updates += 1
        self._model.load(self._theta)


def losses(torch: Any) -> dict[type, Callable[[Any, Any], Any]]:
    """Return the loss of outputs and targets for each of pdcode's losses."""
    functional = torch.nn.functional
    return {
        Softmax: functional.cross_entropy,
        Logistic: lambda z, y: functional.binary_cross_entropy_with_logits(z[:, 0], y.to(z.dtype)),
        LeastSquaresProblem: lambda z, t: 0.5 * (z - t).square().sum(1).mean(),
    }

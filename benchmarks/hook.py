"""Benchmark of the hook `pdcode.torch.ddp`: updates and bytes to a training loss, beside other reductions.

    python -m benchmarks.hook

Four ranks train a CNN with batch normalisation on the digits, 8 rows each an update. They are threads of one
process, as updates and bytes are counted, not seconds. Beside the hook are an all-reduce with Nesterov's
momentum, PyTorch's PowerSGD hook, and an all-reduce with Muon on the matrices that the hook whitens. Each
chooses among the same rates and momenta by the seeds `TUNING`, and runs with other seeds. The loss is over
every third row, in training mode, after every second update. The payload is what a rank gives to collective
operations; on a ring a rank sends 2(n - 1)/n of what is added up, and n - 1 times what it has others gather.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import product
from math import exp, log, sqrt
from threading import Barrier, local
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.futures import Future
from torch.nn.functional import cross_entropy

from pdcode.coding.muon import orthogonalise
from pdcode.torch import ddp

RANKS, ROWS, TARGET, EVERY, MOST = 4, 8, 0.1, 2, 60
RATES, MOMENTA = (0.02, 0.05, 0.1, 0.2), (0.5, 0.9)
TUNING, SEEDS = (1, 2), (11, 12, 13)
TIMEOUT_S = 600  # after which a rank no longer waits for one that has failed


class Ranks:
    """Process group of threads, in place of the functions of `torch.distributed` that hooks call."""

    def __init__(self) -> None:
        self._own, self._barrier = local(), Barrier(RANKS, timeout=TIMEOUT_S)
        self._given: list[Any] = [None] * RANKS
        self.payload, self.sent = [0.0] * RANKS, [0.0] * RANKS  # bytes

    def enter(self, rank: int) -> None:
        """Let this thread be a rank."""
        self._own.rank = rank

    def size(self) -> int:
        """Return the number of ranks."""
        return RANKS

    def rank(self) -> int:
        """Return the rank of this thread."""
        return int(self._own.rank)

    def wait(self) -> None:
        """Wait for all ranks."""
        self._barrier.wait()

    def _exchange(self, tensor: Tensor, times: float) -> list[Tensor]:
        """Give a tensor to all ranks; return all ranks' tensors. Each of its bytes is sent some `times`."""
        rank = self.rank()
        self.payload[rank] += tensor.nbytes
        self.sent[rank] += times * tensor.nbytes
        self._given[rank] = tensor.clone()
        self.wait()
        given = list(self._given)
        self.wait()
        return given

    def all_reduce(self, tensor: Tensor, op: Any = dist.ReduceOp.SUM, **_: Any) -> Any:
        """Add up, or take the largest elements."""
        given = torch.stack(self._exchange(tensor, 2 * (RANKS - 1) / RANKS))
        tensor.copy_(given.amax(0) if op == dist.ReduceOp.MAX else given.sum(0))
        return Done([tensor])

    def all_gather(self, gathered: list[Tensor], tensor: Tensor, **_: Any) -> Any:
        """Gather."""
        for place, each in zip(gathered, self._exchange(tensor, RANKS - 1), strict=True):
            place.copy_(each)
        return Done(gathered)


class Done:
    """An operation that is done."""

    def __init__(self, value: Any) -> None:
        self._future: Any = Future()
        self._future.set_result(value)

    def get_future(self) -> Any:
        """Return its future."""
        return self._future


class Bucket:
    """The gradients of a model, as DDP gives them to a hook: one bucket, by default of up to 25 MB."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = list(model.parameters())
        self._buffer = torch.cat(
            [each.grad.reshape(-1) for each in self._parameters if each.grad is not None]
        )
        parts = self._buffer.split([each.numel() for each in self._parameters])
        self._gradients = [part.view_as(each) for part, each in zip(parts, self._parameters, strict=True)]
        self.parameters, self.gradients = lambda: self._parameters, lambda: self._gradients
        self.buffer, self.index, self.is_last = lambda: self._buffer, lambda: 0, lambda: True


def hook_of(name: str, model: nn.Module, ranks: Ranks) -> Callable[[Any], Any]:
    """Return the hook of an entrant."""
    state: Any = ranks
    if name.startswith("PowerSGD"):
        state = powerSGD_hook.PowerSGDState(state, int(name[-1]), start_powerSGD_iter=2)
        return lambda bucket: powerSGD_hook.powerSGD_hook(state, bucket)
    if name.startswith("Coded"):
        _, wire, share = name.split(", ")
        state = ddp.Coded(model, wire=wire, share=float(share.split()[1]), process_group=ranks)
        return lambda bucket: ddp.hook(state, bucket)
    return lambda bucket: default_hooks.allreduce_hook(state, bucket)


ENTRANTS = (
    *("all-reduce", "all-reduce, Muon", *(f"PowerSGD hook, rank {rank}" for rank in (1, 2, 4))),
    *("Coded, int2, share 0.25", "Coded, int2, share 0.125", "Coded, int8, share 0.25"),
)


def network(seed: int) -> nn.Module:
    """Return the CNN, about 19,000 parameters."""
    torch.manual_seed(seed)

    def layer(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *layer(1, 16), *layer(16, 32), nn.MaxPool2d(2), *layer(32, 32), nn.Flatten(), nn.Linear(512, 10)
    )


class Muon(torch.optim.SGD):
    """Muon on the matrices of the first group; gradient steps with momentum on the others."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for each in self.param_groups[0]["params"]:
            beta, state = self.param_groups[0]["momentum"], self.state[each]
            velocity = state.setdefault("velocity", torch.zeros_like(each)).mul_(beta).add_(each.grad)
            matrix = (each.grad + beta * velocity).view(len(each), -1)
            step = torch.from_numpy(orthogonalise(matrix.numpy(), 5)).view_as(each)
            each -= self.param_groups[0]["lr"] * sqrt(max(1.0, matrix.shape[0] / matrix.shape[1])) * step
            each.grad = None
        return super().step(closure)


def train(name: str, rate: float, momentum: float, seed: int) -> tuple[int, float, float]:
    """Train to the target; return the number of updates, and the bytes of one: payload and sent."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images / 16).float().view(-1, 1, 8, 8), torch.from_numpy(labels)
    ranks, first, reached = Ranks(), network(seed), [False]
    dist.all_reduce, dist.all_gather = ranks.all_reduce, ranks.all_gather
    dist.get_rank, dist.get_world_size = lambda _: ranks.rank(), lambda _: RANKS

    def work(rank: int) -> int:
        ranks.enter(rank)
        model, random = models[rank], np.random.default_rng([seed, rank])
        hook, hidden = hook_of(name, model, ranks), ddp.hidden_matrices(model)
        groups: list[list[Tensor]] = [[], []]
        for label, parameter in model.named_parameters():
            groups[label not in hidden].append(parameter)
        kind = Muon if name.endswith("Muon") else torch.optim.SGD
        optimizer = kind([{"params": group} for group in groups], lr=rate, momentum=momentum, nesterov=True)
        for update in range(1, MOST + 1):
            rows = random.integers(0, len(x), ROWS)
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            bucket = Bucket(model)
            hook(bucket).wait()
            for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
                parameter.grad = gradient
            optimizer.step()
            if update % EVERY == 0:
                if rank == 0:
                    with torch.no_grad():
                        reached[0] = bool(cross_entropy(model(x[::3]), y[::3]) <= TARGET)
                ranks.wait()
                if reached[0]:
                    break
        return update

    models = [deepcopy(first) for _ in range(RANKS)]
    with ThreadPoolExecutor(RANKS) as threads:
        updates, *_ = threads.map(work, range(RANKS))
    equal = all(
        torch.equal(*pair) for pair in zip(models[0].parameters(), models[-1].parameters(), strict=True)
    )
    assert equal, f"{name}: the ranks have different parameters"
    return updates, ranks.payload[0] / updates, ranks.sent[0] / updates


def mean(values: list[int]) -> float:
    """Return the geometric mean."""
    return exp(sum(map(log, values)) / len(values))


def main() -> None:
    """Tune and run all entrants; print the table."""
    torch.set_num_threads(1)
    size, first = 4 * sum(each.numel() for each in network(0).parameters()), 0.0
    print(f"updates to training loss {TARGET:g}; {RANKS} ranks, {size:,} bytes of gradient\n")
    print(f"{'':26}{'rate':>6}{'momentum':>10}{'updates':>20}{'of the first':>14}", end="")
    print(f"{'payload, 1/':>13}{'sent, 1/':>10}", flush=True)
    for name in ENTRANTS:
        settings = list(product(RATES, MOMENTA))
        tuned = [mean([train(name, *each, seed)[0] for seed in TUNING]) for each in settings]
        best = settings[int(np.argmin(tuned))]
        runs = [train(name, *best, seed) for seed in SEEDS]
        counts = [updates for updates, _, _ in runs]
        first = first or mean(counts)
        payload, sent = np.mean([bytes_of for _, *bytes_of in runs], axis=0)
        shown = f"{mean(counts):.0f} ({', '.join(map(str, counts))})"
        print(f"{name:26}{best[0]:6g}{best[1]:10g}{shown:>20}{mean(counts) / first:14.2f}", end="")
        print(f"{size / payload:13.0f}{2 * (RANKS - 1) / RANKS * size / sent:10.0f}", flush=True)


if __name__ == "__main__":
    main()

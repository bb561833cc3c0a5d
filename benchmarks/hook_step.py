"""Benchmark of the hook `pdcode.torch.ddp`: processor time of a step of wide layers, beside DDP's own.

    torchrun --nproc-per-node 2 -m benchmarks.hook_step [HIDDEN [ROWS [STEPS]]]

Each rank steps in turn with DDP alone and with `Coded`, on a network 64-HIDDEN-HIDDEN-10. Rank 0 prints each
entrant's median, and the median of its ratios to DDP in the same turn.
"""

import sys
from collections.abc import Callable
from statistics import median
from time import process_time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pdcode.torch import ddp

WARM_UP = 3  # steps before the first that counts: buckets are put together anew


def stepper(entrant: str, hidden: int, rows: int) -> Callable[[], None]:
    """Return a function that makes a step."""
    torch.manual_seed(0)
    layers = nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10)
    model = DistributedDataParallel(nn.Sequential(*layers))
    if entrant == "Coded":
        model.register_comm_hook(ddp.Coded(model), ddp.hook)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(rows, 64), torch.arange(rows) % 10

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def main(hidden: int = 3000, rows: int = 32, steps: int = 20) -> None:
    """Print the table at rank 0."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    entrants = "DDP", "Coded"
    run = {each: stepper(each, hidden, rows) for each in entrants}
    taken_s: dict[str, list[float]] = {each: [] for each in entrants}
    for number in range(WARM_UP + steps):
        for each in entrants:
            begin_s = process_time()
            run[each]()
            if number >= WARM_UP:
                taken_s[each].append(process_time() - begin_s)
    if dist.get_rank() == 0:
        print(f"64-{hidden}-{hidden}-10, {rows} rows a rank, {dist.get_world_size()} ranks, one thread each")
        for each in entrants:
            ratio = median(a / b for a, b in zip(taken_s[each], taken_s["DDP"], strict=True))
            took = f"{1e3 * median(taken_s[each]):8.1f} ms of processor time a step"
            print(f"{each:10} {took}, {ratio:.2f} of DDP")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

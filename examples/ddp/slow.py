"""A script of PyTorch's DistributedDataParallel: one rank has a slower machine, and one line records the job.

    torchrun --nproc-per-node 4 slow.py
    pdcode show ddp.h5

The diagnosis names the slow rank, and says how to share the rows of a step. With its numbers:

    torchrun --nproc-per-node 4 slow.py --rows 19 19 7 19 --trace shared.h5
    pdcode show ddp.h5 shared.h5
"""

import argparse
import time

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import pdcode.torch

ROW_S = (0.005, 0.005, 0.015, 0.005)  # time of a row on each rank's machine, in place of a larger network


def train(rows: list[int], trace: str, updates: int) -> float:
    """Train on the digits, with so many rows of each rank in a step; return the time of a step in s."""
    rank = dist.get_rank()
    torch.manual_seed(1)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images / 16).float(), torch.from_numpy(labels)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    random = torch.Generator().manual_seed(rank)
    pdcode.torch.record(model, trace)  # the line
    pause_s, begun_s = ROW_S[rank] * rows[rank], time.perf_counter()
    for _ in range(updates):
        chosen = torch.randint(len(x), (rows[rank],), generator=random)
        optimizer.zero_grad()
        out = model(x[chosen])
        out.register_hook(lambda _: time.sleep(pause_s))  # in the backward pass
        loss = cross_entropy(out, y[chosen], reduction="sum")
        (loss * len(rows) / sum(rows)).backward()  # DDP averages over ranks
        optimizer.step()
    return (time.perf_counter() - begun_s) / updates


def main() -> None:
    """Train with the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Train by DDP, recorded.")
    parser.add_argument("--rows", type=int, nargs=4, default=[16, 16, 16, 16])
    parser.add_argument("--trace", default="ddp.h5")
    parser.add_argument("--updates", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    step_s = train(options.rows, options.trace, options.updates)
    if dist.get_rank() == 0:
        print(f"{sum(options.rows)} rows in {1e3 * step_s:.0f} ms a step")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

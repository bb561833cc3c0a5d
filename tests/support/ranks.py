"""Ranks of torch.distributed."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch

IMPORTED = "pytest", "sklearn.datasets", "torch._dynamo", "pdcode.torch.ddp", "pdcode.torch.recording"


def run_four(work: Callable[[int, str], None], path: Path) -> None:
    """Call ``work(rank, path)`` in four processes, forked from one that has imported what takes long.

    Not from this one: gloo's threads do not survive a fork. Exit functions are left to `work`.
    """
    multiprocessing.set_forkserver_preload([*IMPORTED])
    torch.multiprocessing.start_processes(work, (str(path),), 4, start_method="forkserver")

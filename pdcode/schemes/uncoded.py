"""Uncoded full gradients: averaged by rank 0 as they arrive, or by MPI_Allreduce among the workers.

Presets are the usual schemes without a code. ``all``: synchronous SGD. ``first``: the first q gradients at
the newest θ, later ones dropped (Chen, Pan, Monga, Bengio and Jozefowicz, "Revisiting distributed synchronous
SGD", ICLR workshop 2016). Under many laws of delays its time is near the optimum: "Do we need asynchronous
SGD?", arXiv 2602.03802, 2026. ``async``: asynchronous SGD. ``k-async``: any K gradients, stale ones included
(Dutta, Joshi, Ghosh, Dube and Nagpurkar, "Slow and stale gradients can win the race", AISTATS 2018). ``qsgd``
rounds without bias (Alistarh, Grubic, Li, Tomioka and Vojnovic, "QSGD", NeurIPS 2017), ``ef-signsgd`` to one
bit with error feedback (Karimireddy, Rebjock, Stich and Jaggi, "Error feedback fixes SignSGD and other
gradient compression schemes", ICML 2019).

Dutta et al. have two schemes with K gradients. In K-async SGD an update takes the gradients of K distinct
workers, which wait for it; in K-batch-async SGD a worker may send several of the K, and no worker waits. In
``k-async`` a worker whose gradient is at the newest θ waits for the update, as in K-async SGD, and one with a
late gradient is sent the newest θ at once, as in K-batch-async SGD. So a worker has at most two gradients in
an update: a stale and then a fresh one.
"""

from collections.abc import Mapping
from typing import ClassVar

from ..config import Tables
from ..config.requirements import Needs, one_of
from .base import ALLREDUCE, COMPRESSED, EXCHANGE, NESTEROV, UNCODED, WHITEN, WHITENED, Entrants, Scheme


class Uncoded(Scheme):
    """Uncoded full gradients, without memory."""

    name = "uncoded"
    summary = "full gradients; rank 0 averages the ones that have arrived"
    entrants: ClassVar[Entrants] = {
        "compressed all-reduce": f":all{ALLREDUCE}/memory.kind=worker/wire.dtype=int4{NESTEROV}",
        "Adam first-q": ":first/optimizer.kind=adam/optimizer.rate=0.01",
        "AdamW first-q": ":first/optimizer.kind=adamw/optimizer.rate=0.01",
        "first-q": f":first/wire.dtype=float16{NESTEROV}",
        "compressed first-q": f":first{COMPRESSED}{EXCHANGE}{NESTEROV}",
        "asynchronous": ":async",
        "whitened first-q": f":first{COMPRESSED}{EXCHANGE}{WHITENED}",
        "whitened compressed all-reduce": f":all{ALLREDUCE}{COMPRESSED}{WHITENED}",
        "whitened asynchronous": f":async{COMPRESSED}{EXCHANGE}{WHITEN}",
    }
    tables: ClassVar[Tables] = UNCODED
    presets: ClassVar[Mapping[str, Tables]] = {
        "all": {**tables, "update": {"mode": "all"}},
        "first": {**tables, "update": {"mode": "first", "late": "waste"}},
        "async": {**tables, "update": {"mode": "async"}},
        "k-async": {**tables, "update": {"mode": "first", "late": "use"}},
        "qsgd": {**tables, "wire": {"dtype": "qsgd"}, "update": {"mode": "all"}},
        "ef-signsgd": {
            **tables,
            "memory": {"kind": "worker"},
            "wire": {"dtype": "sign"},
            "update": {"mode": "all"},
        },
    }


class Allreduce(Uncoded):
    """Uncoded full gradients that workers add up by MPI_Allreduce, as PyTorch's DDP and Horovod do."""

    name = "allreduce"
    summary = "full gradients, added up by MPI_Allreduce without a coordinator"
    entrants: ClassVar[Entrants] = {
        "all-reduce": NESTEROV,
        "Muon": "/optimizer.kind=muon",
        "Adam": "/optimizer.kind=adam/optimizer.rate=0.01",
        "AdamW": "/optimizer.kind=adamw/optimizer.rate=0.01",
        "whitened all-reduce": WHITENED,
        "whitened Muon": f"/optimizer.kind=muon{WHITEN}",
    }
    presets: ClassVar[Mapping[str, Tables]] = {}
    tables: ClassVar[Tables] = {**Uncoded.tables, "update": {"mode": "all"}, "reduce": {"kind": "allreduce"}}
    requires: ClassVar[Needs] = {
        "reduce.kind": one_of("allreduce", why="has no coordinator; with one it is scheme 'uncoded'")
    }

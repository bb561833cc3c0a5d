"""Bytes out of rank 0 and times of a shuffle of 2,048 rows of 3,140 bytes, by star, MPI_Ibcast, chain, exchange.

On emulated hosts of 100 Mbit/s, as root:

python tests/cluster/lab.py --hosts 8 --up 100mbit --down 100mbit -- mpirun -n 9 python experiments/shuffling_links.py
"""  # noqa: E501

import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from pdcode.config import Config
from pdcode.config.load import resolve
from pdcode.mpi.initialise import MPI
from pdcode.mpi.process import Group, Poller
from pdcode.shuffling.ranks import RowCarrier, RowChannel
from pdcode.shuffling.rows import Kind, message
from pdcode.shuffling.senders import Shard

ROWS, BYTES = 2048, 3140
WAYS = {
    "star, uncoded": ["shuffle.kind=uncoded"],
    "star, coded": ["shuffle.kind=coded"],
    "MPI_Ibcast": ["shuffle.kind=coded", "link.broadcast=chain"],
    "chain": ["shuffle.kind=coded", "link.broadcast=chain"],
    "exchange": ["shuffle.kind=exchange"],
}


def sent_bytes() -> int:
    """Bytes that this host has sent, by its kernel; 0 without an interface eth0."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "eth0":
            return int(numbers.split()[8])
    return 0


def shuffle(comm: Group, config: Config, way: str, data: np.ndarray, epochs: int) -> None:
    """Print bytes and times of a way, at rank 0; check all rows at the workers."""
    workers, poller, every = comm.size - 1, Poller(1e-4, comm), config.shuffle.every
    shuffler = config.shuffle.sender(config, (data,))
    sends = RowCarrier(comm, shuffler, config.link.segment)
    worker = comm.rank - 1
    mine = data[shuffler._deal.held(0, max(0, worker))].copy()
    shard = Shard(config, max(0, worker), ROWS, (mine,))
    channel = RowChannel(comm, poller, shard) if worker >= 0 else None
    times, sizes, loads = [], [], []
    for epoch in range(1, epochs + 1):
        comm.Barrier()
        time.sleep(0.3)  # until the links are idle
        comm.Barrier()
        begin, before = time.perf_counter(), sent_bytes()
        if channel is None:
            requests = []
            for each in range(workers):
                rows = shuffler.freight(each, epoch * every)
                assert rows is not None
                if rows.opening is not None and way == "MPI_Ibcast":
                    assert rows.opening.content is not None
                    poller.wait(comm.Ibcast(rows.opening.content, 0).Test)
                elif rows.opening is not None:
                    sends.open(rows, range(1, workers + 1))
                requests.append(comm.Isend(rows.sent, each + 1, 1))
            poller.wait(lambda: MPI.Request.Testall(requests) and sends.complete())  # noqa: B023
            plan = shuffler._deal.plan(epoch - 1, epoch)
            assert plan is not None
            loads.append(BYTES * plan.load)
        else:
            if way == "MPI_Ibcast":
                plan = shard.deal.plan(epoch - 1, epoch)
                assert plan is not None
                content = np.empty(BYTES * plan.load, np.uint8)
                poller.wait(comm.Ibcast(content, 0).Test)
                shard.take(message(Kind.BROADCAST, epoch - 1, epoch, 0, content))
            status = MPI.Status()
            poller.wait(lambda: comm.Iprobe(0, 1, status))  # noqa: B023
            rows_sent = np.empty(status.Get_count(MPI.BYTE), np.uint8)
            comm.Recv(rows_sent, 0, 1)
            if way != "MPI_Ibcast":
                shard.take(channel.complete(rows_sent))
            assert (mine == data[shard.deal.held(epoch, worker)]).all()
        done = comm.Ibarrier()
        poller.wait(done.Test)
        times.append(time.perf_counter() - begin)
        sizes.append(sent_bytes() - before)
    if channel is None:
        print(
            f"{way:14s} {median(sizes) / 1e6:6.2f} MB out of rank 0, {median(sizes) / median(loads):5.2f} of "
            f"the coded load {median(loads) / 1e6:.2f} MB; {1000 * median(times):5.0f} ms, "
            f"{1000 * min(times):.0f} to {1000 * max(times):.0f}",
            flush=True,
        )
    else:
        channel.leave(epochs if way in ("chain", "exchange") else 0, False)
        channel.close()
    comm.Barrier()


def main() -> None:
    """Measure all ways, of some epochs each."""
    comm = Group(MPI.COMM_WORLD.Dup())
    if comm.size < 3:
        print("start it on three or more ranks, by mpirun")
        return
    data = np.random.default_rng(1).integers(0, 256, (ROWS, BYTES), np.uint8)
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    for way, overrides in WAYS.items():
        shuffle(comm, resolve({}, [f"workers.count={comm.size - 1}", *overrides]), way, data, epochs)


if __name__ == "__main__":
    main()

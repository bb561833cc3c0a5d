"""Sums of integers modulo 2^bits over all ranks: ours are exact; those of MPI_SUM wrap or are saturated."""

import numpy as np

from pdcode.mpi.initialise import MPI
from pdcode.reductions.allreduce_ranks import ModularSummation, TreeSummation
from pdcode.transport.layout import Layout
from pdcode.transport.units import Unit

comm = MPI.COMM_WORLD


def draw(seed: int, size: int) -> list[np.ndarray]:
    """Return words of each rank."""
    generators = (np.random.default_rng((seed, rank)) for rank in range(comm.size))
    return [generator.integers(0, 2**64, size, np.uint64) for generator in generators]


for bits in (2, 3, 8, 11, 16):
    layout = Layout([Unit(0, 3000, 1)], [1], [1], np.dtype("float32"), bits=bits)
    trees = [TreeSummation(layout, 0, comm, fanout) for fanout in (1, 2, 7)]
    for number, summation in enumerate([ModularSummation(layout, 0, comm), *trees] * 2):
        words = draw(number, summation.own.vector.size)
        summation.own.vector[:] = words[comm.rank]
        summation.start(None)
        while not summation.done():
            pass
        lanes = np.arange(64 // bits, dtype=np.uint64) * np.uint64(bits)
        exact = sum(each[:, None] >> lanes for each in words) & np.uint64(2**bits - 1)
        total = summation.total.vector
        plain = np.arange(len(total)) % layout.blocks.words >= layout.blocks.words - 2
        assert ((total[:, None] >> lanes & np.uint64(2**bits - 1)) == exact)[~plain].all()
        assert (total == sum(words))[plain].all()
for kind in (np.uint8, np.int16):
    drawn = [(each >> np.uint64(40)).astype(kind) for each in draw(1, 4096)]
    drawn = [each & np.iinfo(kind).max for each in drawn]
    total, exact = np.empty_like(drawn[0]), sum(each.astype(np.int64) for each in drawn)
    comm.Allreduce(drawn[comm.rank], total)
    assert ((total == exact.astype(kind)) | (total == np.minimum(exact, np.iinfo(kind).max))).all()
if comm.rank == 0:
    print("exact")

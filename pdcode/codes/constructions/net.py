"""Nets, the default static code: orthogonal rows on the sets of partitions of the blocks.

Two sets of different partitions share at most one block (`partitions`). Each set of c blocks supports the c
rows of an orthogonal weighing matrix W(c, w) over √w (`weighing`): a Hadamard matrix (c = w) if one of order
w is known, otherwise for example a conference matrix of order c = w + 1. Random signs of the columns (dither)
repair the rank of subsets of rows and change neither coherence nor tightness. Rows of different partitions
have inner product 0 or ±1/w, and one partition's rows are an orthonormal basis of R^k. The coherence is 1/w
(0 for a single partition), and GᵀG = (n/k) I.
"""

import numpy as np

from ...util.errors import InputError
from .. import keyed
from ..family import Family, Size
from .partitions import max_partitions, max_plain_partitions, partitions
from .weighing import order, weighing


def sizes(blocks: int, weight: int | None) -> list[Size]:
    """List the nets of a weight, of at most `max_partitions` partitions; by default of weight 4, else 2."""
    default = [w for w in (4, 2) if blocks % w == 0] if blocks > 1 else [1]
    wanted = default if weight is None else [weight]
    nets = [Size(w, max_partitions(blocks, c) * blocks) for w in wanted if blocks % (c := order(w)) == 0]
    if weight is None:  # the plain construction decides if it can
        return [Size(w, max_plain_partitions(blocks, w) * blocks) for w in wanted] + nets
    return nets


def coherence(rows: int, blocks: int, weight: int) -> float:
    """Return the coherence: 1/w, or 0 for a single partition."""
    return 1 / weight if rows > blocks else 0.0


def net(rows: int, blocks: int, weight: int, seed: int, dither: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Make the sparse rows of a net; `dither` gives each set random column signs, keyed by the seed.

    Within a partition the first rows of all sets come first, then the second rows, and so on. With c = w, k/w
    consecutive rows contain each block once, and k consecutive rows from a multiple of k are an orthonormal
    basis. If n is not a multiple of k, the last partition is incomplete. The design is new in this project;
    its parts are cited in `partitions` and `weighing`.
    """
    if not isinstance(dither, bool):
        raise InputError(f"dither = {dither!r}: neither true nor false")
    matrix = weighing(weight)
    size = len(matrix)
    columns = np.nonzero(matrix)[1].reshape(size, 1, weight)  # of the nonzeros in each row of the matrix
    sets = partitions(blocks, size, -(-rows // blocks))[:, None]  # (t, 1, k/c, c)
    shape = (sets.shape[0], size, blocks // size, weight)  # partition, row of the matrix, set, nonzero
    values = np.take_along_axis(matrix[:, None], columns, axis=2) / np.sqrt(weight)
    if dither:
        signs = keyed.signs(seed, keyed.SIGNS, 0, sets.shape)
        values = values * (signs if size == weight else np.take_along_axis(signs, columns[None], axis=3))
    if size != weight:
        sets = np.take_along_axis(sets, columns[None], axis=3)
    indices = np.broadcast_to(sets, shape).reshape(-1, weight)[:rows]
    return indices, np.broadcast_to(values, shape).reshape(-1, weight)[:rows]


NET = Family(
    "net",
    "an orthogonal matrix on each line of an affine or modular net; tight; the default",
    net,
    sizes,
    options=frozenset({"dither"}),
    coherence=coherence,
)

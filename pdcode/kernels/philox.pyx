"""Random numbers keyed by (seed, stream, worker, task), independent of the order of events.

Philox4x64-10 (Salmon, Moraes, Dror, Shaw, SC 2011), number for number that of
``numpy.random.Philox(key=[seed, stream], counter=[0, 0, worker, task])``.
"""

from libc.stdint cimport int64_t, uint64_t


def integers(uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task, int64_t bound, int64_t[::1] out):
    """Fill `out` (N,), int64, with integers in [0, bound), each from one 64-bit number.

    Each is the upper word of ``bound * number``, with a bias below ``bound / 2**64``.

    Raises
    ------
    ValueError
        If bound < 1.
    OverflowError
        If a key is negative or does not fit 64 bits.
    """
    if bound < 1:
        raise ValueError(f"bound is {bound}: must be at least 1")
    with nogil:
        philox_integers(seed, stream, worker, task, <uint64_t> bound, &out[0], out.shape[0])


def uniforms(uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task, double[::1] out):
    """Fill `out` (N,), float64, with multiples of 2**-53 in [0, 1), each from one 64-bit number.

    Raises
    ------
    OverflowError
        If a key is negative or does not fit 64 bits.
    """
    with nogil:
        philox_uniforms(seed, stream, worker, task, &out[0], out.shape[0])


def uniforms_of(
    uint64_t seed,
    uint64_t stream,
    const int64_t[::1] workers,
    const int64_t[::1] first,
    Py_ssize_t count,
    Py_ssize_t words,
    double[:, :, ::1] out,
):
    """Fill out (m, count, words), float64: row i, j with the first numbers that `uniforms` gives for
    ``workers[i]`` and task ``first[i] + j``.

    Parameters
    ----------
    seed, stream : int
    workers, first : ndarray of int64, shape (m,)
    count : int
        Number of tasks per worker.
    words : int
        Numbers per task, 0 to 4 (one Philox block).
    out : ndarray of float64, shape (m, count, words)

    Raises
    ------
    ValueError
        If shapes disagree, `words` is more than a block has, or a worker or task is negative.
    """
    cdef Py_ssize_t i, m = workers.shape[0]
    if not 0 <= words <= 4:
        raise ValueError(f"words is {words}: a block has 4")
    if first.shape[0] != m or out.shape[0] != m or out.shape[1] != count or out.shape[2] != words:
        raise ValueError(
            f"out is {out.shape[0]} × {out.shape[1]} × {out.shape[2]} for {m} workers, {first.shape[0]} "
            f"first tasks, {count} tasks of each and {words} words"
        )
    for i in range(m):
        if workers[i] < 0 or first[i] < 0:
            raise ValueError(f"worker {workers[i]}, task {first[i]}: must be at least 0")
    if count == 0 or words == 0:
        return
    with nogil:
        for i in range(m):
            philox_uniforms_of(seed, stream, workers[i], first[i], count, words, &out[i, 0, 0])

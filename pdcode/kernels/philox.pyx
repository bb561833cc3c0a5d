"""Random numbers keyed by (seed, stream, worker, task), so that the order of events does not change them.

Philox4x64-10 (Salmon, Moraes, Dror, Shaw, SC 2011), number for number that of
``numpy.random.Philox(key=[seed, stream], counter=[0, 0, worker, task])``.
"""

from libc.stdint cimport int64_t, uint64_t


def integers(uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task, int64_t bound, int64_t[::1] out):
    """Fill `out` (N,), int64, with whole numbers in [0, bound), each from one 64-bit number.

    The upper word of ``bound * number``; its bias is below ``bound / 2**64``.

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

"""Codewords and rounding in one pass: what workers send, and what is relayed to them.

For formats of codes (`quantise`: int8, int4, int2, sign, qsgd). `fold_decode_f32` and the others of fold.h
take raw pointers, and need no interpreter: cimport them from here.
"""

from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.string cimport memset

from pdcode.kernels.real cimport real

from pdcode.kernels import quantise


cdef int check(int kind, Py_ssize_t rows, Py_ssize_t weight, Py_ssize_t value_rows, Py_ssize_t value_weight,
               Py_ssize_t block, const uint8_t[::1] wire) except -1:
    if kind < 4:
        raise ValueError(f"kind is {kind}: it must be a format of codes, from 4 on")
    if value_rows != rows or value_weight != weight or min(rows, weight, block) < 1:
        raise ValueError("values and indices must have the same shape (r, w), not empty, and blocks elements")
    cdef Py_ssize_t needed = quantise.size(kind, rows, block)
    if wire.shape[0] != needed:
        raise ValueError(f"the encoded payload has {wire.shape[0]} bytes: must have {needed}")
    if <size_t> &wire[0] % 8:
        raise ValueError("the encoded payload must begin at a multiple of 8 bytes")
    return 0


def decode(real[::1] target, const int32_t[:, ::1] indices, const real[:, ::1] values, Py_ssize_t block,
           int kind, const uint8_t[::1] wire, double factor):
    """Subtract ``factor * sum_i g_ij y_i`` from each target_j, with payload y as `quantise.encode` wrote it.

    With target θ and the learning rate in the factor, this is a step of gradient descent by one arrival. It
    gives the same bits as `quantise.decode`, `decode.adjoint_decode` to zeros and `optimize.sgd_blocks` where
    no two sets of codewords share a block, and θ has no -0; codewords are a set if they follow each other (at
    most four) and have the same blocks. Such a set reads and writes each of its blocks once.

    Parameters
    ----------
    target : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    indices : array (r, w), int32
        Blocks of each codeword; those beyond the end of `target` are dropped.
    values : array (r, w)
        Their weights; 0 pads.
    block : int
        Elements of a block.
    kind : int
        Format of the payload: one with codes.
    wire : array (quantise.size(kind, r, block),), uint8
        The payload, aligned to 8 bytes.
    factor : float

    Returns
    -------
    float
        Squared norm of the steps; negative if the payload is not finite, and the target then unchanged.

    Raises
    ------
    ValueError
        If shapes, alignment, strides or types do not fit.
    """
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    cdef double total
    check(kind, rows, weight, values.shape[0], values.shape[1], block, wire)
    with nogil:
        if real is float:
            total = fold_decode_f32(&target[0], target.shape[0], &indices[0, 0], &values[0, 0], rows, weight,
                                    block, kind, &wire[0], <float> factor)
        else:
            total = fold_decode_f64(&target[0], target.shape[0], &indices[0, 0], &values[0, 0], rows, weight,
                                    block, kind, &wire[0], factor)
    return total


def encode(real[::1] memory, const real[::1] gradient, const int32_t[:, ::1] indices,
           const real[:, ::1] values, Py_ssize_t block, int kind, uint8_t[::1] wire, real[:, ::1] sent,
           uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task, uint64_t part=0):
    """Encode with error feedback and round: what is not sent stays in memory, rounding errors too.

    ``memory += gradient``; then codeword by codeword ``y = sum_j g_ij memory_j`` is rounded into the payload,
    and ``memory_j -= g_ij y`` with the rounded y.

    Parameters
    ----------
    memory : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    gradient : array (N,) or None
        None adds nothing.
    indices : array (r, w), int32
    values : array (r, w)
    block : int
        See `decode`; the indices of a codeword are distinct.
    kind : int
        Format of the payload: one with codes.
    wire : array (quantise.size(kind, r, block),), uint8
        Overwritten with the payload. Aligned to 8 bytes.
    sent : array (r, block)
        Overwritten with the rounded payload, as it will be decoded.
    seed, stream, worker, task, part : int
        Keys of the rounding, as for `quantise.encode`.

    Returns
    -------
    bool
        Whether the rounded payload is finite. Rows of a group that is not stay in the memory.

    Raises
    ------
    ValueError
        If shapes, alignment, strides or types do not fit.
    OverflowError
        If a key is negative or does not fit 64 bits.
    """
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    cdef uint64_t[2] key = [seed, stream]
    cdef uint64_t[3] place = [part, worker, task]
    cdef bint finite
    cdef const real *added = NULL
    check(kind, rows, weight, values.shape[0], values.shape[1], block, wire)
    if gradient is not None:
        if gradient.shape[0] != memory.shape[0]:
            raise ValueError("memory and gradient must have the same length")
        added = &gradient[0]
    if sent.shape[0] != rows or sent.shape[1] != block:
        raise ValueError(f"sent must have shape {(rows, block)}: (r, block)")
    with nogil:
        memset(&wire[0] + wire.shape[0] - 8, 0, 8)
        if real is float:
            finite = fold_encode_f32(&memory[0], added, memory.shape[0], &indices[0, 0], &values[0, 0], rows,
                                     weight, block, kind, key, place, &wire[0], &sent[0, 0])
        else:
            finite = fold_encode_f64(&memory[0], added, memory.shape[0], &indices[0, 0], &values[0, 0], rows,
                                     weight, block, kind, key, place, &wire[0], &sent[0, 0])
    return finite

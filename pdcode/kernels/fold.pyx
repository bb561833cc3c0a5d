"""Codewords and rounding in one pass: what workers send, and what is relayed to them.

For formats of codes (`quantise`: int8, int4, int2, sign, qsgd).
"""


cdef extern from "quantise.h":
    enum: PDCODE_INT8, PDCODE_FORMATS
    Py_ssize_t quantise_size(int kind, Py_ssize_t rows, Py_ssize_t elements)


cdef int check(int kind, Py_ssize_t rows, Py_ssize_t weight, Py_ssize_t block, const uint8_t *wire,
               Py_ssize_t size) except -1:
    """Check that a payload of codes has the size of its format, is not empty, and is aligned."""
    if not PDCODE_INT8 <= kind < PDCODE_FORMATS:
        raise ValueError(f"kind is {kind}: it must be a format of codes")
    if min(rows, weight, block) < 1:
        raise ValueError(f"{rows} codewords of weight {weight} for blocks of {block}: must not be empty")
    cdef Py_ssize_t needed = quantise_size(kind, rows, block)
    if size != needed:
        raise ValueError(f"the encoded payload has {size} bytes: must have {needed}")
    if not aligned(wire):
        raise ValueError("the encoded payload must begin at a multiple of 8 bytes")
    return 0


@kernel
def decode(target: writeable(real[N]), indices: int32_t[r, w], values: real[r, w], block: Py_ssize_t,
           kind: int, wire: uint8_t[size], factor: double) -> double:
    """Subtract ``factor * sum_i g_ij y_i`` from each target_j, with payload y as `quantise.encode` wrote it.

    With target θ and the learning rate in the factor, this is a step of gradient descent by one arrival. It
    gives the same bits as `quantise.decode`, `decode.adjoint_decode` to zeros and `optimize.sgd_blocks` where
    no two sets of codewords share a block, and θ has no -0; codewords are a set if they follow each other (at
    most four) and have the same blocks. Such a set reads and writes each of its blocks once.

    The target has consecutive blocks, the last one ragged; indices beyond its end are dropped. Returns the
    squared norm of the steps; it is negative if the payload is not usable, and the target then unchanged.
    """
    check(kind, r, w, block, wire, size)
    return fold_decode(target, N, indices, values, r, w, block, kind, wire, factor)


@kernel
def encode(memory: writeable(real[N]), gradient: optional(real[N]), indices: int32_t[r, w],
           values: real[r, w], block: Py_ssize_t, kind: int, wire: writeable(uint8_t[size]),
           sent: writeable(real[r, block]), seed: uint64_t, stream: uint64_t, worker: uint64_t,
           task: uint64_t, part: uint64_t = 0) -> bint:
    """Encode with error feedback and round: the part that is not sent stays in memory, rounding errors too.

    ``memory += gradient``, unless that is None; then codeword by codeword ``y = sum_j g_ij memory_j`` is
    rounded into the payload `wire`, and ``memory_j -= g_ij y`` with the rounded y, which `sent` receives. The
    indices of a codeword are distinct; the keys of the rounding are as in `quantise.encode`. Returns
    whether the rounded payload is usable; the rows of a group that is not finite stay in memory.
    """
    check(kind, r, w, block, wire, size)
    return fold_encode(memory, gradient, N, indices, values, r, w, block, kind, [seed, stream],
                       [part, worker, task], wire, size, sent)

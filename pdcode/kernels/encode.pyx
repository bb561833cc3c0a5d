"""Encoding of blocks by sparse codewords, at the workers."""


@kernel
def encode(factor: rows(real[B, p]), indices: int32_t[r, w], values: real[r, w], block: Py_ssize_t,
           out: writeable(rows(real[B, r * block])), scale: double = 1.0, accumulate: bint = False):
    """Write, or add, r combinations of the column blocks of a factor.

    ``out[s, i*block + c] = scale * sum_t values[i, t] * factor[s, indices[i, t]*block + c]``; columns beyond
    the factor's last one count as 0, which pads a ragged last block. A zero in values skips its block, even
    one with NaN; it pads short codewords. A flat layer of N elements is a factor of shape (1, N). out must
    not overlap the factor.
    """
    require(block >= 0)
    encode(factor, B, p, stride(factor), indices, values, r, w, block, out, stride(out), scale, accumulate)


@kernel
def feedback_encode(memory: writeable(real[N]), gradient: optional(real[N]), indices: int32_t[r, w],
                    values: real[r, w], block: Py_ssize_t, out: writeable(real[r, block])):
    """Encode with error feedback: the residual stays in memory for the next task.

    ``memory += gradient``, unless that is None; then, codeword by codeword, ``out[i] = sum_j g_ij memory_j``
    and ``memory_j -= g_ij out[i]``, in one pass over memory. Memory has consecutive blocks, the last one
    ragged; the indices of a codeword are distinct. ``memory_j + gradient_j`` before equals
    ``memory_j + sum_i g_ij out[i]`` after.
    """
    require(block >= 1)
    feedback_encode(memory, gradient, N, indices, values, r, w, block, out)

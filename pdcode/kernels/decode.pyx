"""Folding of payloads into the gradient, on rank 0 at each arrival."""

cimport numpy as cnp
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport int32_t

from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous, is_writable, number_of, same_shape


@kernel
def adjoint_decode(accumulator: writeable(real[N]), indices: int32_t[r, w], values: real[r, w],
                   payload: real[r, block], scale: double):
    """Add ``scale * sum_i g_ij payload[i]`` to each accumulator_j, touching only the codewords' blocks.

    The accumulator has consecutive blocks, the last one ragged; indices beyond its end are dropped.
    """
    adjoint_decode(accumulator, N, indices, values, r, w, payload, block, scale)


@kernel
def tracking_decode(estimate: writeable(real[N]), indices: int32_t[r, w], values: real[r, w],
                    payload: real[r, block], step: double) -> double:
    """Take Kaczmarz steps ``estimate_j += step * g_j * (y - sum_j g_j estimate_j) / |g|**2``, by codeword.

    A step of 1 projects onto the payload, a smaller one damps its noise. The estimate has consecutive blocks,
    the last one ragged; a codeword has each block at most once. Returns the squared norm of the residuals,
    each taken before its own update.
    """
    return tracking_decode(estimate, N, indices, values, r, w, payload, block, step)


cdef class Accumulators:
    """Accumulators, one for each unit, to which `adjoint_decode` adds payloads in one call.

    Parameters
    ----------
    accumulators : sequence of ndarray, shape (length,)
        float32 or float64, all of one type.
    """

    def __init__(self, accumulators):
        self.count, self.room = len(accumulators), bytearray(len(accumulators) * sizeof(decode_unit))
        self.units = <decode_unit *> PyByteArray_AS_STRING(self.room)
        self.arrays = list(accumulators)
        self.kind = number_of(self.arrays[0].dtype) if self.count else cnp.NPY_FLOAT32
        for number, array in enumerate(self.arrays):
            if not is_writable(array, self.kind, 1):
                raise ValueError("accumulators must be vectors of one type, float32 or float64")
            self.units[number].accumulator, self.units[number].length = data_ptr(array), len(array)

    def add(self, codewords, payloads):
        """Add a payload (r, e) and its codewords to each; return False, and add none, if they do not fit."""
        return self.put(codewords, payloads)

    cdef bint put(self, codewords, payloads):
        cdef decode_unit *unit
        cdef Py_ssize_t number
        if len(codewords) != self.count or len(payloads) != self.count:
            return False
        for number in range(self.count):
            indices, values = codewords[number]
            payload = payloads[number]
            if not (is_c_contiguous(indices, cnp.NPY_INT32, 2) and is_c_contiguous(values, self.kind, 2)
                    and is_c_contiguous(payload, self.kind, 2) and same_shape(indices, values)
                    and dim(payload, 0) == dim(indices, 0)):
                return False
            unit = self.units + number
            unit.rows, unit.weight, unit.block = dim(indices, 0), dim(indices, 1), dim(payload, 1)
            unit.indices, unit.values = <const int32_t *> data_ptr(indices), data_ptr(values)
            unit.payload = data_ptr(payload)
        with nogil:
            (decode_units_f64 if self.kind == cnp.NPY_FLOAT64 else decode_units_f32)(self.units, self.count)
        return True

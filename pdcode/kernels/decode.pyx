"""Folding of payloads into the gradient, on rank 0 at each arrival."""

cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t

from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous, is_writable, number_of, same_shape
from pdcode.kernels.real cimport real

cnp.import_array()


def adjoint_decode(real[::1] accumulator, const int32_t[:, ::1] indices, const real[:, ::1] values,
                   const real[:, ::1] payload, double scale):
    """Add ``scale * sum_i g_ij payload[i]`` to each accumulator_j, touching only the codewords' blocks.

    Parameters
    ----------
    accumulator : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    indices : array (r, w), int32
        Blocks of each codeword; those beyond the end of `accumulator` are dropped.
    values : array (r, w)
        Their weights; 0 pads.
    payload : array (r, block)
    scale : float

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    if values.shape[0] != rows or values.shape[1] != weight or payload.shape[0] != rows:
        raise ValueError("indices and values must have shape (r, w), payload shape (r, block)")
    with nogil:
        if real is float:
            adjoint_decode_f32(&accumulator[0], accumulator.shape[0], &indices[0, 0], &values[0, 0], rows,
                               weight, &payload[0, 0], payload.shape[1], <float> scale)
        else:
            adjoint_decode_f64(&accumulator[0], accumulator.shape[0], &indices[0, 0], &values[0, 0], rows,
                               weight, &payload[0, 0], payload.shape[1], scale)


def tracking_decode(real[::1] estimate, const int32_t[:, ::1] indices, const real[:, ::1] values,
                    const real[:, ::1] payload, double step):
    """Take Kaczmarz steps ``estimate_j += step * g_j * (y - sum_j g_j estimate_j) / |g|**2``, by codeword.

    Parameters
    ----------
    estimate : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    indices : array (r, w), int32
        Blocks of each codeword, each at most once in it.
    values : array (r, w)
        Their weights; 0 pads.
    payload : array (r, block)
    step : float
        1 projects onto the payload; less damps its noise.

    Returns
    -------
    float
        Squared norm of the residuals, each taken before its own update.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    cdef double total
    if values.shape[0] != rows or values.shape[1] != weight or payload.shape[0] != rows:
        raise ValueError("indices and values must have shape (r, w), payload shape (r, block)")
    with nogil:
        if real is float:
            total = tracking_decode_f32(&estimate[0], estimate.shape[0], &indices[0, 0], &values[0, 0], rows,
                                        weight, &payload[0, 0], payload.shape[1], <float> step)
        else:
            total = tracking_decode_f64(&estimate[0], estimate.shape[0], &indices[0, 0], &values[0, 0], rows,
                                        weight, &payload[0, 0], payload.shape[1], step)
    return total


cdef class Accumulators:
    """Accumulators to which payloads are added, one a unit: `adjoint_decode` of all in one call.

    Parameters
    ----------
    accumulators : sequence of ndarray, shape (length,)
        float32 or float64, all of one type.

    Raises
    ------
    ValueError
        If an array has another type, shape or order.
    """

    def __cinit__(self, accumulators):
        self.count = len(accumulators)
        self.units = <decode_unit *> PyMem_Calloc(max(1, self.count), sizeof(decode_unit))
        if self.units == NULL:
            raise MemoryError

    def __init__(self, accumulators):
        self.arrays = list(accumulators)
        self.kind = number_of(self.arrays[0].dtype) if self.count else cnp.NPY_FLOAT32
        for number, array in enumerate(self.arrays):
            if not is_writable(array, self.kind, 1):
                raise ValueError("accumulators must be vectors of one type, float32 or float64")
            self.units[number].accumulator, self.units[number].length = data_ptr(array), len(array)

    def __dealloc__(self):
        PyMem_Free(self.units)

    def add(self, codewords, payloads):
        """Add payloads, one a unit.

        Parameters
        ----------
        codewords : sequence of (indices, values)
            Of each unit, shape (r, w), int32 and of the accumulators' type.
        payloads : sequence of ndarray, shape (r, e)

        Returns
        -------
        bool
            Whether shapes, types and order are these; nothing is added if not.
        """
        return self.put(codewords, payloads)

    cdef bint put(self, codewords, payloads):
        cdef decode_unit *fold
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
            fold = self.units + number
            fold.rows, fold.weight, fold.block = dim(indices, 0), dim(indices, 1), dim(payload, 1)
            fold.indices, fold.values = <const int32_t *> data_ptr(indices), data_ptr(values)
            fold.payload = data_ptr(payload)
        with nogil:
            if self.kind == cnp.NPY_FLOAT64:
                decode_units_f64(self.units, self.count)
            else:
                decode_units_f32(self.units, self.count)
        return True

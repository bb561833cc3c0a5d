"""Encoding of blocks by sparse codewords, at the workers."""

cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t

from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous, is_writable, number_of, stride_of
from pdcode.kernels.passes cimport Operation
from pdcode.kernels.real cimport real, row_stride

cnp.import_array()


def encode(const real[:, :] factor, const int32_t[:, ::1] indices, const real[:, ::1] values,
           Py_ssize_t block, real[:, :] out, double scale=1.0, bint accumulate=False):
    """Write r combinations of the column blocks of a factor.

    ``out[s, i*block + c] = scale * sum_t values[i, t] * factor[s, indices[i, t]*block + c]``; columns beyond
    the factor's last one count as 0, which pads a ragged last block. A flat layer of N elements is a factor
    of shape (1, N).

    Parameters
    ----------
    factor : array (B, p), float32 or float64
        Each row contiguous; rows may lie any distance apart.
    indices : array (r, w), int32
        Blocks of each codeword. Short codewords are padded with value 0.
    values : array (r, w)
        Their weights; a zero skips its block, even one with NaN.
    block : int
        Columns of a block.
    out : array (B, r*block)
        Overwritten, or added to if `accumulate`. Must not overlap `factor`.
    scale : float
        Factor of every combination.
    accumulate : bool
        Add to `out`.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    cdef Py_ssize_t stride = row_stride[real](factor), out_stride = row_stride[real](out)
    if values.shape[0] != rows or values.shape[1] != weight:
        raise ValueError("values and indices must have the same shape (r, w)")
    if block < 0 or out.shape[0] != factor.shape[0] or out.shape[1] != rows * block:
        raise ValueError(f"out must have shape {(factor.shape[0], rows * block)}: (B, r * block)")
    with nogil:
        if real is float:
            encode_f32(&factor[0, 0], factor.shape[0], factor.shape[1], stride, &indices[0, 0], &values[0, 0],
                       rows, weight, block, &out[0, 0], out_stride, <float> scale, accumulate)
        else:
            encode_f64(&factor[0, 0], factor.shape[0], factor.shape[1], stride, &indices[0, 0], &values[0, 0],
                       rows, weight, block, &out[0, 0], out_stride, scale, accumulate)


def deflate(real[::1] memory, const int32_t[:, ::1] indices, const real[:, ::1] values, Py_ssize_t block,
            real[:, ::1] out):
    """Project codewords out of a memory, one by one: `feedback_encode` without a gradient.

    ``out[i] = sum_j g_ij memory_j``, then ``memory_j -= g_ij out[i]``.

    Parameters
    ----------
    memory : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    indices, values, block, out
        See `feedback_encode`.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    check_feedback(indices.shape[0], indices.shape[1], values.shape[0], values.shape[1], block,
                   out.shape[0], out.shape[1])
    with nogil:
        if real is float:
            feedback_encode_f32(&memory[0], NULL, memory.shape[0], &indices[0, 0], &values[0, 0],
                                indices.shape[0], indices.shape[1], block, &out[0, 0])
        else:
            feedback_encode_f64(&memory[0], NULL, memory.shape[0], &indices[0, 0], &values[0, 0],
                                indices.shape[0], indices.shape[1], block, &out[0, 0])


cdef int check_feedback(Py_ssize_t rows, Py_ssize_t weight, Py_ssize_t value_rows, Py_ssize_t value_weight,
                        Py_ssize_t block, Py_ssize_t out_rows, Py_ssize_t out_columns) except -1:
    if value_rows != rows or value_weight != weight:
        raise ValueError("values and indices must have the same shape (r, w)")
    if block < 1 or out_rows != rows or out_columns != block:
        raise ValueError(f"out must have shape {(rows, block)}: (r, block), block at least 1")
    return 0


def feedback_encode(real[::1] memory, const real[::1] gradient, const int32_t[:, ::1] indices,
                    const real[:, ::1] values, Py_ssize_t block, real[:, ::1] out):
    """Encode with error feedback: the residual stays in memory for the next task.

    ``memory += gradient``; then codeword by codeword ``out[i] = sum_j g_ij memory_j`` and
    ``memory_j -= g_ij out[i]``, in one pass over memory. For any codewords, ``memory_j + gradient_j``
    before equals ``memory_j + sum_i g_ij out[i]`` after.

    Parameters
    ----------
    memory : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    gradient : array (N,)
    indices : array (r, w), int32
    values : array (r, w)
        See `encode`; the indices of a codeword are distinct.
    block : int
        Elements of a block.
    out : array (r, block)
        Overwritten.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t rows = indices.shape[0], weight = indices.shape[1]
    if memory.shape[0] != gradient.shape[0]:
        raise ValueError("memory and gradient must have the same length")
    check_feedback(rows, weight, values.shape[0], values.shape[1], block, out.shape[0], out.shape[1])
    with nogil:
        if real is float:
            feedback_encode_f32(&memory[0], &gradient[0], memory.shape[0], &indices[0, 0], &values[0, 0],
                                rows, weight, block, &out[0, 0])
        else:
            feedback_encode_f64(&memory[0], &gradient[0], memory.shape[0], &indices[0, 0], &values[0, 0],
                                rows, weight, block, &out[0, 0])


cdef struct unit:
    void *memory
    const void *gradient
    void *out
    const int32_t *indices
    const void *values
    Py_ssize_t length, rows, weight, block


cdef class Feedback:
    """Memories, gradients and payloads of several units: `feedback_encode` of all in one call.

    Parameters
    ----------
    units : sequence of (memory, gradient, block, out)
        Arguments of `feedback_encode`; float32 or float64, all of one type.

    Raises
    ------
    ValueError
        If an array has another type, shape or order.
    """

    cdef unit *units
    cdef Py_ssize_t count
    cdef int kind
    cdef object arrays

    def __cinit__(self, units):
        self.count = len(units)
        self.units = <unit *> PyMem_Calloc(max(1, self.count), sizeof(unit))
        if self.units == NULL:
            raise MemoryError

    def __init__(self, units):
        cdef Py_ssize_t number
        cdef unit *each
        self.arrays = list(units)
        self.kind = number_of(self.arrays[0][0].dtype) if self.count else cnp.NPY_FLOAT32
        for number in range(self.count):
            memory, gradient, block, out = self.arrays[number]
            if not (is_writable(memory, self.kind, 1) and is_c_contiguous(gradient, self.kind, 1)
                    and is_writable(out, self.kind, 2)):
                raise ValueError("memories, gradients and payloads must be of one type")
            if len(gradient) != len(memory) or block < 1 or dim(out, 1) != block:
                raise ValueError("memory and gradient must have the same length, payloads rows of a block")
            each = self.units + number
            each.memory, each.gradient, each.out = data_ptr(memory), data_ptr(gradient), data_ptr(out)
            each.length, each.rows, each.block = len(memory), len(out), block

    def __dealloc__(self):
        PyMem_Free(self.units)

    def encode(self, list codewords):
        """Encode all units.

        Parameters
        ----------
        codewords : list of (indices, values)
            Of each unit, shape (r, w), int32 and of the memories' type.

        Returns
        -------
        bool
            Whether shapes, types and order are these; nothing is encoded if not.
        """
        cdef unit *each
        cdef Py_ssize_t number
        if len(codewords) != self.count:
            return False
        for number in range(self.count):
            each = self.units + number
            indices, values = codewords[number]
            if not (is_c_contiguous(indices, cnp.NPY_INT32, 2) and is_c_contiguous(values, self.kind, 2)
                    and dim(indices, 0) == each.rows and dim(values, 0) == each.rows
                    and dim(indices, 1) == dim(values, 1)):
                return False
            each.indices, each.values = <const int32_t *> data_ptr(indices), data_ptr(values)
            each.weight = dim(values, 1)
        with nogil:
            for number in range(self.count):
                each = self.units + number
                if self.kind == cnp.NPY_FLOAT64:
                    feedback_encode_f64(<double *> each.memory, <const double *> each.gradient, each.length,
                                        each.indices, <const double *> each.values, each.rows, each.weight,
                                        each.block, <double *> each.out)
                else:
                    feedback_encode_f32(<float *> each.memory, <const float *> each.gradient, each.length,
                                        each.indices, <const float *> each.values, each.rows, each.weight,
                                        each.block, <float *> each.out)
        return True


cdef struct pair:
    const void *factor
    void *out
    Py_ssize_t samples, columns, stride, out_stride


cdef class Sums(Operation):
    """``out += scale * factor`` of several pairs, with the bits of `encode` by the codeword [1].

    Parameters
    ----------
    pairs : sequence of (factor, out)
        float32 or float64, all of one type, shape (B, p), each row contiguous.
    scale : float

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """

    cdef pair *pairs
    cdef Py_ssize_t count
    cdef int kind
    cdef double scale
    cdef object arrays

    def __cinit__(self, pairs, scale):
        self.count = len(pairs)
        self.pairs = <pair *> PyMem_Calloc(max(1, self.count), sizeof(pair))
        if self.pairs == NULL:
            raise MemoryError

    def __init__(self, pairs, scale):
        cdef Py_ssize_t number
        cdef pair *each
        self.arrays, self.scale = list(pairs), scale
        self.kind = number_of(self.arrays[0][0].dtype) if self.count else cnp.NPY_FLOAT32
        for number in range(self.count):
            factor, out = self.arrays[number]
            each = self.pairs + number
            each.stride, each.out_stride = stride_of(factor, self.kind), stride_of(out, self.kind)
            if factor.shape != out.shape or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray> out):
                raise ValueError("what is added must have the shape of that to which it is added")
            each.factor, each.out = data_ptr(factor), data_ptr(out)
            each.samples, each.columns = dim(factor, 0), dim(factor, 1)

    def __dealloc__(self):
        PyMem_Free(self.pairs)

    cdef int run(self) except -1:
        cdef int32_t index = 0
        cdef float single = 1
        cdef double one = 1
        cdef Py_ssize_t number
        cdef pair *each
        with nogil:
            for number in range(self.count):
                each = self.pairs + number
                if self.kind == cnp.NPY_FLOAT64:
                    encode_f64(<const double *> each.factor, each.samples, each.columns, each.stride, &index,
                               &one, 1, 1, each.columns, <double *> each.out, each.out_stride, self.scale,
                               True)
                else:
                    encode_f32(<const float *> each.factor, each.samples, each.columns, each.stride, &index,
                               &single, 1, 1, each.columns, <float *> each.out, each.out_stride,
                               <float> self.scale, True)
        return 0

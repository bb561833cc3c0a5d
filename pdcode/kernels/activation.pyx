"""Activations of hidden units and their derivatives."""

cimport numpy as cnp

from pdcode.kernels.arrays cimport data_ptr, dim, number_of, stride_of
from pdcode.kernels.passes cimport Operation

cnp.import_array()

RELU = PDCODE_RELU
TANH = PDCODE_TANH
GELU = PDCODE_GELU
KINDS = {"relu": RELU, "tanh": TANH, "gelu": GELU}


cdef class Activation(Operation):
    """Activations ``a = act(z)``, or errors before them, ``delta *= act'(z)``.

    Parameters
    ----------
    kind : int
        RELU (derivative 0 at 0), TANH or GELU (exact: z * Phi(z), Phi the normal distribution function).
    z, a : array (B, h), float32 or float64
        Each row contiguous, with any stride between rows, e.g. part of a matrix with a column of ones.
        May be the same.
    delta : array (B, h), optional
        None: compute `a`; else change `delta` in place, `a` being ``act(z)``.

    Raises
    ------
    ValueError
        If kind is unknown or shapes, strides or types do not fit.
    """

    cdef object arrays
    cdef void *z
    cdef void *a
    cdef void *delta
    cdef Py_ssize_t z_stride, a_stride, stride, samples, units
    cdef int kind, number

    def __init__(self, int kind, z, a, delta=None):
        self.arrays, self.kind, self.number = (z, a, delta), kind, number_of(z.dtype)
        if not PDCODE_RELU <= kind <= PDCODE_GELU:
            raise ValueError(f"kind is {kind}: must be RELU, TANH or GELU")
        if z.shape != a.shape or (delta is not None and delta.shape != z.shape):
            raise ValueError("z, a and delta must have the same shape (B, h)")
        if not cnp.PyArray_ISWRITEABLE(<cnp.ndarray> (a if delta is None else delta)):
            raise ValueError("what is computed must be writeable")
        self.z_stride, self.a_stride = stride_of(z, self.number), stride_of(a, self.number)
        self.z, self.a, self.samples, self.units = data_ptr(z), data_ptr(a), dim(z, 0), dim(z, 1)
        if delta is not None:
            self.delta, self.stride = data_ptr(delta), stride_of(delta, self.number)

    cdef int run(self) except -1:
        with nogil:
            if self.number == cnp.NPY_FLOAT64:
                if self.delta == NULL:
                    activation_forward_f64(self.kind, <double *> self.z, self.z_stride, <double *> self.a,
                                           self.a_stride, self.samples, self.units)
                else:
                    activation_backward_f64(self.kind, <double *> self.z, self.z_stride, <double *> self.a,
                                            self.a_stride, <double *> self.delta, self.stride, self.samples,
                                            self.units)
            else:
                if self.delta == NULL:
                    activation_forward_f32(self.kind, <float *> self.z, self.z_stride, <float *> self.a,
                                           self.a_stride, self.samples, self.units)
                else:
                    activation_backward_f32(self.kind, <float *> self.z, self.z_stride, <float *> self.a,
                                            self.a_stride, <float *> self.delta, self.stride, self.samples,
                                            self.units)
        return 0

"""Gradients scaled to one length, and a Newton-Schulz step of their small factors (`problems.whitening`)."""

cimport numpy as cnp
from libc.math cimport INFINITY, NAN, sqrt

from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous, is_writable, number_of
from pdcode.kernels.blas cimport Dot
from pdcode.kernels.passes cimport Operation

import numpy

cnp.import_array()


cdef class Scale(Operation):
    """Scaling by the norm of a gradient: ``out = source * factor``, ``factor = scale * length / norm``.

    `square` is the square of the norm after the operation `before`. The factor is 0 if the square underflows,
    or is at most 16 epsilon of the root of the product of two `others`, a difference of numbers of that size;
    it is NaN if the square overflows. `length` is an array of one float64; source and out may be the same.
    """

    cdef Operation before
    cdef Dot square
    cdef list others
    cdef object arrays
    cdef double scale, least, lost
    cdef const double *length
    cdef const void *source
    cdef void *out
    cdef Py_ssize_t count
    cdef int kind

    def __init__(self, Operation before not None, Dot square not None, others, scale, length, source, out):
        self.before, self.square, self.others, self.scale = before, square, list(others), scale
        self.arrays, self.kind = (length, source, out), number_of(out.dtype)
        if not is_c_contiguous(length, cnp.NPY_FLOAT64, 1) or len(length) != 1:
            raise ValueError("length must be one number")
        if not (is_c_contiguous(source, self.kind, 2) and is_writable(out, self.kind, 2)
                and source.shape == out.shape):
            raise ValueError("source and out must be C-ordered matrices of one type and shape")
        for other in self.others:
            if not isinstance(other, Dot):
                raise TypeError(f"{other} is no Dot")
        if len(self.others) not in (0, 2):
            raise ValueError("there must be two other numbers, or none")
        limits = numpy.finfo(out.dtype)
        self.least, self.lost = limits.tiny, 16 * limits.eps
        self.length = <const double *> data_ptr(length)
        self.source, self.out = data_ptr(source), data_ptr(out)
        self.count = dim(out, 0) * dim(out, 1)

    cdef double factor(self, double square) noexcept:
        """Return the factor, given the square of the norm."""
        if self.least <= square < INFINITY:
            return self.length[0] * self.scale / sqrt(square)
        return 0.0 if square < self.least else NAN

    cdef double measure(self) except? -1:
        """Return the square of the norm; 0 if it is lost."""
        cdef double square, both
        self.before.run()
        square = self.square.value()
        if self.others:
            both = (<Dot> self.others[0]).value() * (<Dot> self.others[1]).value()
            if square <= self.lost * sqrt(both):
                return 0
        return square

    cdef int multiply(self, double factor) except -1:
        with nogil:
            if self.kind == cnp.NPY_FLOAT64:
                whiten_scale_f64(<const double *> self.source, factor, <double *> self.out, self.count)
            else:
                whiten_scale_f32(<const float *> self.source, <float> factor, <float *> self.out, self.count)
        return 0

    cdef int run(self) except -1:
        return self.multiply(self.factor(self.measure()))


cdef class Step(Scale):
    """Newton-Schulz step ``P = a I + b M + c M^2`` of a gradient's small factors; a `Scale` if that gives 0.

    The coefficients a, b and c are for a factor of 1. The matrix `power`, a factor of M, is divided by
    the square of the norm; `powers` then computes M and its square, the first two of the matrices `small`;
    `after` computes `out` from P, the third, which may be M. All are (S, S).
    """

    cdef Operation powers, after
    cdef double a, b, c
    cdef object matrices
    cdef Py_ssize_t size

    def __init__(self, before, square, others, scale, length, source, out, coefficients, power,
                 Operation powers not None, small, Operation after not None):
        Scale.__init__(self, before, square, others, scale, length, source, out)
        self.a, self.b, self.c = coefficients
        self.powers, self.after, self.matrices, self.size = powers, after, (power, *small), len(power)
        if len(self.matrices) != 4 or not all(
                is_writable(each, self.kind, 2) and each.shape == (self.size, self.size)
                for each in self.matrices):
            raise ValueError("small matrices must be square, C-ordered, and of one type and shape")

    cdef int run(self) except -1:
        cdef double square = self.measure(), factor = self.factor(square)
        cdef void *power = data_ptr(self.matrices[0])
        cdef void *first = data_ptr(self.matrices[1])
        cdef void *second = data_ptr(self.matrices[2])
        cdef void *out = data_ptr(self.matrices[3])
        if factor == 0:
            return self.multiply(factor)
        with nogil:
            if self.kind == cnp.NPY_FLOAT64:
                whiten_scale_f64(<double *> power, 1 / square, <double *> power, self.size * self.size)
            else:
                whiten_scale_f32(<float *> power, <float> (1 / square), <float *> power,
                                 self.size * self.size)
        self.powers.run()
        with nogil:
            if self.kind == cnp.NPY_FLOAT64:
                whiten_polynomial_f64(<double *> first, <double *> second, self.a * factor, self.b * factor,
                                      self.c * factor, <double *> out, self.size)
            else:
                whiten_polynomial_f32(<float *> first, <float *> second, <float> (self.a * factor),
                                      <float> (self.b * factor), <float> (self.c * factor), <float *> out,
                                      self.size)
        return self.after.run()

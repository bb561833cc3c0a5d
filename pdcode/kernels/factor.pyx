"""Incremental least squares on codewords."""

cimport numpy as cnp
from libc.stdint cimport int32_t

import numpy

from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous, itemsize, kind_of, same_shape

cnp.import_array()


cdef double *address(double[::1] array):
    """Return the address of an array."""
    return &array[0]


cdef class Factorisation:
    """Pseudoinverse of the codewords received, updated with each of them.

    With payloads Y (count, ...), ``pseudoinverse() @ Y`` is the minimum-norm least-squares gradient, also
    if codewords are fewer than blocks, repeated or inconsistent. A complete orthogonal factorisation is
    updated with each codeword, at O(k * count) flops (csrc/factor.c); the pseudoinverse is a small product of
    two of its factors, computed on demand. Memory is allocated only when codewords exceed the capacity.

    Parameters
    ----------
    k : int
        Number of blocks.
    capacity : int
        Codewords between two resets for which memory is reserved; doubled when needed.
    prior : float
        If positive, the solution is by ridge regression, (A'A + prior**2 I)^-1 A' instead of the
        pseudoinverse of A, and the rank is always k.
    """

    def __init__(self, Py_ssize_t k, Py_ssize_t capacity, double prior=0.0):
        if k < 1 or capacity < 1:
            raise ValueError(f"k is {k}, capacity is {capacity}: both must be at least 1")
        if not 0 <= prior < float("inf"):
            raise ValueError(f"prior is {prior}: must be finite and not negative")
        buffer = numpy.zeros(3 * k * k + k)
        middle, right, solver, errors = numpy.split(buffer, [k * k, 2 * k * k, 3 * k * k])
        self.fixed = buffer
        self.right = right.reshape(k, k)
        self.solver = solver.reshape(k, k)
        self.given = prior
        self.state.length = k
        self.state.capacity = 0
        self.state.middle = address(middle)
        self.state.right = address(right)
        self.state.solver = address(solver)
        self.state.errors = address(errors)
        self.left = numpy.zeros((k, 0))
        self.codes = numpy.zeros((0, k))
        self.room(capacity)
        self.reset()

    cdef int room(self, Py_ssize_t rows) except -1:
        """Reserve memory for `capacity` codewords in all."""
        cdef Py_ssize_t k = self.state.length, old = self.state.capacity, new
        if rows <= old:
            return 0
        new = max(rows, 2 * old)
        left, codes = numpy.zeros((k, new)), numpy.zeros((new + 1, k))
        left[:, :old], codes[:len(self.codes)] = self.left, self.codes
        work = numpy.zeros(4 * k + new)
        self.left, self.codes, self.words = left, codes, codes
        self.inverse, self.scratch = numpy.empty((new, k)), work
        self.state.left = address(left.reshape(-1))
        self.state.work = address(work)
        self.state.capacity = new
        self.current = False
        return 0

    cdef int scatter(self, Py_ssize_t q, const int32_t *indices, const void *values, Py_ssize_t weight,
                     bint wide) except -1:
        """Write a codeword to a row of `words` after the last one; entries of the same block add up."""
        cdef double[:, ::1] words = self.words
        cdef Py_ssize_t t, k = self.state.length
        cdef double value
        words[q, :] = 0
        for t in range(weight):
            value = (<const double *> values)[t] if wide else (<const float *> values)[t]
            if 0 <= indices[t] < k:
                words[q, indices[t]] += value
            elif value != 0:
                raise ValueError(f"codeword has a weight for block {indices[t]}: blocks are 0 to {k - 1}")
        return 0

    cdef int fold(self, const double *row) noexcept nogil:
        """Add a row to the factorisation; return whether the rank grew."""
        self.current = False
        return factorisation_add(&self.state, row)

    cdef int push(self) noexcept nogil:
        """Add the codeword in the row after the last one; return whether the rank grew."""
        return self.fold(&self.words[self.state.count, 0])

    @property
    def count(self):
        """Number of codewords added."""
        return self.state.count

    @property
    def rank(self):
        """Rank of the codewords added, or k if there is a prior."""
        return self.state.rank

    @property
    def codewords(self):
        """Return a view of the codewords added, shape (count, k), float64."""
        return self.codes[:self.state.count]

    @property
    def basis(self):
        """Return U', shape (rank, count), float64: its columns are codewords in the basis of their row space.

        ``U @ U'`` is the hat matrix, which maps payloads to their fitted values. A view, valid until the next
        `add`.
        """
        return self.left[:self.state.rank, :self.state.count]

    def add(self, const double[::1] codeword):
        """Add a dense codeword; return whether the rank grew."""
        if codeword.shape[0] != self.state.length:
            raise ValueError(f"codeword has {codeword.shape[0]} entries: must be {self.state.length}")
        self.room(self.state.count + 1)
        self.words[self.state.count, :] = codeword
        return bool(self.push())

    def add_sparse(self, indices, values):
        """Add the codewords of one arrival, shape (r, w); the weights of a repeated block add up."""
        cdef int kind = kind_of(values)
        if not (is_c_contiguous(indices, cnp.NPY_INT32, 2) and is_c_contiguous(values, kind, 2)
                and same_shape(indices, values)):
            raise ValueError("indices, int32, and values, real, must have the same shape (r, w)")
        cdef Py_ssize_t row, _row, rows = dim(indices, 0), weight = dim(indices, 1)
        self.room(self.state.count + rows)
        for row in range(rows):
            self.scatter(self.state.count + row, <const int32_t *> data_ptr(indices) + row * weight,
                         <const char *> data_ptr(values) + row * weight * itemsize(values), weight,
                         kind == cnp.NPY_FLOAT64)
        for _row in range(rows):
            self.push()

    def pseudoinverse(self):
        """Return a view of the pseudoinverse, (k, count), float64, contiguous columns; valid until `add`."""
        cdef double[:, ::1] inverse = self.inverse
        if not self.current:
            with nogil:
                factorisation_inverse(&self.state, &inverse[0, 0])
            self.current = True
        return self.inverse[:self.state.count].T

    def reset(self):
        """Forget all codewords."""
        factorisation_begin(&self.state, self.given)
        self.current = False

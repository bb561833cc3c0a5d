"""Products by numpy's BLAS, called directly: the bits of `numpy.matmul` and `numpy.dot`, in less time."""

import sys

cimport numpy as cnp
from libc.stdint cimport int64_t
from posix.dlfcn cimport RTLD_LAZY, dlopen, dlsym

import numpy

from pdcode.kernels.arrays cimport data_ptr, number_of
from pdcode.kernels.blas cimport dot_f32, dot_f64, gemm_f32, gemm_f64, syrk_f32, syrk_f64
from pdcode.kernels.passes cimport Operation

cnp.import_array()

cdef enum:
    BY_ROWS = 101
    AS_IT_IS = 111
    TRANSPOSED = 112
    UPPER = 121
    MOST = 2147483647  # of a dimension, for a BLAS of 32-bit integers

cdef dot_f32 sdot
cdef dot_f64 ddot
cdef gemm_f32 sgemm
cdef gemm_f64 dgemm
cdef syrk_f32 ssyrk
cdef syrk_f64 dsyrk


def find():
    """Look for the routines of numpy's BLAS; return whether they are found.

    The search is in the libraries that numpy has loaded: their routines have other names in other builds of
    numpy. Integers are passed as 64 bits. A routine of 32-bit integers reads the lower half of a register or
    of a slot on the stack; Apple packs arguments, so only routines named for 64 bits are used there.
    """
    global sdot, ddot, sgemm, dgemm, ssyrk, dsyrk
    cdef void *library = dlopen(numpy._core._multiarray_umath.__file__.encode(), RTLD_LAZY)
    names = ["scipy_cblas_{}64_", "cblas_{}64_"]
    if sys.platform != "darwin" and sys.maxsize > MOST:
        names.append("cblas_{}")
    for name in names if library != NULL else ():
        sgemm, dgemm = <gemm_f32> symbol(library, name, "sgemm"), <gemm_f64> symbol(library, name, "dgemm")
        ssyrk, dsyrk = <syrk_f32> symbol(library, name, "ssyrk"), <syrk_f64> symbol(library, name, "dsyrk")
        sdot, ddot = <dot_f32> symbol(library, name, "sdot"), <dot_f64> symbol(library, name, "ddot")
        if (sgemm != NULL and dgemm != NULL and ssyrk != NULL and dsyrk != NULL and sdot != NULL
                and ddot != NULL):
            return True
    return False


cdef void *symbol(void *library, name, routine):
    return dlsym(library, name.format(routine).encode())


FOUND = find()
"""Whether products call BLAS directly; else they call numpy."""


cdef class Product(Operation):
    """Product of two matrices, ``c = a @ b``, all float32 or all float64, with a C-ordered c.

    c overlaps neither a nor b. With `direct` BLAS is called directly, where that is possible.
    """

    def __init__(self, a, b, c, direct=FOUND):
        self.kind = number_of(c.dtype)
        self.arrays = a, b, c
        if not (a.ndim == b.ndim == c.ndim == 2 and a.dtype == b.dtype == c.dtype
                and c.shape == (a.shape[0], b.shape[1]) and a.shape[1] == b.shape[0]):
            raise ValueError(
                f"no product of {a.dtype} {a.shape} and {b.dtype} {b.shape} is {c.dtype} {c.shape}")
        if not c.flags.c_contiguous or not c.flags.writeable:
            raise ValueError("the place of a product must be C-ordered, and writeable")
        self.rows, self.inner, self.columns = a.shape[0], a.shape[1], b.shape[1]
        self.trans_a, self.trans_b = order(a), order(b)
        # numpy leaves vectors to other routines, and copies what lies neither in rows nor in columns.
        self.own = (direct and FOUND and self.trans_a and self.trans_b
                    and all(1 < side <= MOST for side in (*a.shape, b.shape[1])))
        self.a, self.b, self.c = data_ptr(a), data_ptr(b), data_ptr(c)
        if self.own:
            self.lda, self.ldb, self.ldc = apart(a), apart(b), self.columns
            self.gram = (self.a == self.b and a.shape == b.shape[::-1] and a.strides == b.strides[::-1]
                         and self.trans_a != self.trans_b)

    cdef int run(self) except -1:
        if not self.own:
            numpy.matmul(self.arrays[0], self.arrays[1], out=self.arrays[2])
            return 0
        with nogil:
            if self.kind == cnp.NPY_FLOAT64:
                if self.gram:
                    dsyrk(BY_ROWS, UPPER, self.trans_a, self.rows, self.inner, 1.0, self.a, self.lda, 0.0,
                          self.c, self.ldc)
                    mirror[double](<double *> self.c, self.rows)
                else:
                    dgemm(BY_ROWS, self.trans_a, self.trans_b, self.rows, self.columns, self.inner, 1.0,
                          self.a, self.lda, self.b, self.ldb, 0.0, self.c, self.ldc)
            else:
                if self.gram:
                    ssyrk(BY_ROWS, UPPER, self.trans_a, self.rows, self.inner, 1.0, self.a, self.lda, 0.0,
                          self.c, self.ldc)
                    mirror[float](<float *> self.c, self.rows)
                else:
                    sgemm(BY_ROWS, self.trans_a, self.trans_b, self.rows, self.columns, self.inner, 1.0,
                          self.a, self.lda, self.b, self.ldb, 0.0, self.c, self.ldc)
        return 0


ctypedef fused real:
    float
    double


cdef inline void mirror(real *c, int64_t rows) noexcept nogil:
    """Copy the upper half of a symmetric matrix to the lower one."""
    cdef int64_t i, j
    for i in range(rows):
        for j in range(i + 1, rows):
            c[j * rows + i] = c[i * rows + j]


cdef int order(matrix) except -1:
    """Return how a matrix lies in memory, for BLAS: by rows, by columns, or neither (0)."""
    size = matrix.itemsize
    for way, (along, across) in ((AS_IT_IS, (1, 0)), (TRANSPOSED, (0, 1))):
        apart, least = matrix.strides[across], matrix.shape[along] * size
        if matrix.strides[along] == size and apart >= least and apart % size == 0:
            return way
    return 0


cdef int64_t apart(matrix) except -1:
    """Return the elements from one row of a matrix to the next, or from one column."""
    return max(matrix.strides) // matrix.itemsize


cdef class Dot:
    """Inner product of two vectors, both float32 or both float64, any strides; `direct` as for `Product`."""

    def __init__(self, x, y, direct=FOUND):
        self.kind, self.arrays = number_of(x.dtype), (x, y)
        if not (x.ndim == y.ndim == 1 and x.dtype == y.dtype and len(x) == len(y)):
            raise ValueError(f"no inner product of {x.dtype} {x.shape} and {y.dtype} {y.shape}")
        self.own = direct and FOUND and len(x) <= MOST and all(
            0 < each.strides[0] <= MOST and each.strides[0] % each.itemsize == 0 for each in self.arrays)
        self.x, self.y, self.count = data_ptr(x), data_ptr(y), len(x)
        self.apart_x, self.apart_y = x.strides[0] // x.itemsize, y.strides[0] // y.itemsize

    def __call__(self):
        """Return it, a float."""
        return self.value()

    cdef double value(self) except? -1:
        if not self.own:
            return self.arrays[0].dot(self.arrays[1])
        if self.kind == cnp.NPY_FLOAT64:
            return ddot(self.count, self.x, self.apart_x, self.y, self.apart_y)
        return sdot(self.count, self.x, self.apart_x, self.y, self.apart_y)


cdef class Squares:
    """Sum of the squares of a vector's elements, less other vectors' squares; `direct` as for `Product`."""

    cdef Dot whole
    cdef list others

    def __init__(self, vector, others=(), direct=FOUND):
        self.whole, self.others = Dot(vector, vector, direct), [Dot(each, each, direct) for each in others]

    def sum(self):
        """Return the sum, a float."""
        cdef double less = 0
        for each in self.others:
            less += (<Dot> each).value()
        return self.whole.value() - less

"""Operations on fixed arrays, several in one call: the forward and the backward pass of a mini-batch.

A small layer's product takes less time than the call that asks for it. So operations are made once, for
arrays whose contents change, and a pass runs them one after the other.
"""

cimport numpy as cnp
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous, is_writable

cnp.import_array()


cdef class Operation:
    """Operation on fixed arrays."""

    cdef int run(self) except -1:
        raise NotImplementedError

    def __call__(self):
        """Run it."""
        self.run()


cdef class Call(Operation):
    """Call of a function with fixed arguments."""

    cdef object function
    cdef tuple arguments

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    cdef int run(self) except -1:
        self.function(*self.arguments)
        return 0


cdef class Pass(Operation):
    """Operations in order."""

    cdef list operations

    def __init__(self, operations):
        self.operations = list(operations)
        for operation in self.operations:
            if not isinstance(operation, Operation):
                raise TypeError(f"{operation} is no operation")

    cdef int run(self) except -1:
        for operation in self.operations:
            (<Operation> operation).run()
        return 0


cdef class Rows:
    """Copies of B of the N rows of each of several arrays.

    Parameters
    ----------
    pairs : sequence of (source, target)
        Arrays (N, …) and (B, …) of one type, with equal rows, each C-ordered.
    """

    cdef rows *pairs
    cdef Py_ssize_t count, least, chosen
    cdef bytearray room
    cdef object arrays

    def __init__(self, pairs):
        cdef Py_ssize_t number
        cdef rows *each
        self.arrays = list(pairs)
        self.count, self.room = len(pairs), bytearray(len(pairs) * sizeof(rows))
        self.pairs = <rows *> PyByteArray_AS_STRING(self.room)
        for number in range(self.count):
            source, target = self.arrays[number]
            kind, dimensions = cnp.PyArray_TYPE(<cnp.ndarray?> source), source.ndim
            if not (dimensions and is_writable(target, kind, dimensions) and source.dtype == target.dtype
                    and source.shape[1:] == target.shape[1:] and source.strides[1:] == target.strides[1:]):
                raise ValueError("sources and targets must be of one type, and have equal rows, C-ordered")
            if number and (len(source), len(target)) != (self.least, self.chosen):
                raise ValueError("all sources, and all targets, must have as many rows")
            self.least, self.chosen = len(source), len(target)
            each = self.pairs + number
            each.source, each.target = <const char *> data_ptr(source), <char *> data_ptr(target)
            each.bytes, each.stride = target.nbytes // max(1, len(target)), source.strides[0]

    def take(self, indices):
        """Copy the rows of these indices, int64, shape (B,), to the targets."""
        cdef Py_ssize_t number, i
        cdef const int64_t *chosen
        cdef rows *each
        if not is_c_contiguous(indices, cnp.NPY_INT64, 1) or dim(indices, 0) != self.chosen:
            raise ValueError(f"a batch of {self.chosen} rows needs {self.chosen} indices")
        chosen = <const int64_t *> data_ptr(indices)
        for i in range(self.chosen):
            if not 0 <= chosen[i] < self.least:
                raise ValueError(f"row {chosen[i]} is none of {self.least}")
        for number in range(self.count):
            each = self.pairs + number
            for i in range(self.chosen):
                memcpy(each.target + i * each.bytes, each.source + chosen[i] * each.stride, each.bytes)

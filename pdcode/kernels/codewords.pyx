"""Codewords in messages."""

cimport numpy as cnp
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memcpy

from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous, is_writable, same_shape
from pdcode.kernels.codewords cimport (
    codewords_narrow, codewords_read, codewords_section, codewords_widen)

cnp.import_array()


def write_codewords(sent, places, indices, values):
    """Write codewords to a message: values to `sent`, indices in 1, 2 or 4 bytes to `places`.

    All have shape (r, w), indices are int32, values of the type of `sent`. Otherwise nothing is written, and
    the result is False.
    """
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray?> sent)
    if not (is_writable(sent, kind, 2) and is_c_contiguous(values, kind, 2) and fits(places, indices)
            and cnp.PyArray_ISWRITEABLE(<cnp.ndarray> places)
            and same_shape(sent, values) and same_shape(values, indices)):
        return False
    memcpy(data_ptr(sent), data_ptr(values), cnp.PyArray_NBYTES(<cnp.ndarray> sent))
    codewords_narrow(<const int32_t *> data_ptr(indices), cnp.PyArray_SIZE(<cnp.ndarray> indices),
                     cnp.PyArray_ITEMSIZE(<cnp.ndarray> places), <uint8_t *> data_ptr(places))
    return True


def read_codewords(sent, places, indices, values):
    """Read codewords that `write_codewords` has written; arguments and result are the same."""
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray?> sent)
    if not (is_c_contiguous(sent, kind, 2) and is_writable(values, kind, 2) and fits(places, indices)
            and cnp.PyArray_ISWRITEABLE(<cnp.ndarray> indices)
            and same_shape(sent, values) and same_shape(values, indices)):
        return False
    memcpy(data_ptr(values), data_ptr(sent), cnp.PyArray_NBYTES(<cnp.ndarray> sent))
    codewords_widen(<const uint8_t *> data_ptr(places), cnp.PyArray_ITEMSIZE(<cnp.ndarray> places),
                    cnp.PyArray_SIZE(<cnp.ndarray> indices), <int32_t *> data_ptr(indices))
    return True


cdef inline bint fits(places, indices) noexcept:
    """Return whether indices and their places in a message are matrices of one shape, of the right types."""
    return (
        is_c_contiguous(indices, cnp.NPY_INT32, 2) and cnp.PyArray_Check(places)
        and is_c_contiguous(places, cnp.PyArray_TYPE(<cnp.ndarray> places), 2) and same_shape(places, indices)
        and cnp.PyArray_ITEMSIZE(<cnp.ndarray> places) in (1, 2, 4)
    )


cdef class CodewordSections:
    """Codewords of a message: `read_codewords` or `write_codewords` of all sections in one call.

    Parameters
    ----------
    sections : sequence of (sent, places, indices, values, unit, format)
        Arguments of `read_codewords`, the number of the unit, and the format of the codewords, whose
        ``write((sent, places), indices, values)`` takes codewords that `write_codewords` refuses.
    """

    def __init__(self, sections):
        cdef codewords_section *each
        cdef Py_ssize_t number
        self.sections = list(sections)
        self.count, self.room = len(sections), bytearray(len(sections) * sizeof(codewords_section))
        self.parts = <codewords_section *> PyByteArray_AS_STRING(self.room)
        for number, (sent, places, indices, values, _, _) in enumerate(self.sections):
            if not read_codewords(sent, places, indices, values):
                raise ValueError("codewords in a message must have the shape and types of those to read")
            each = self.parts + number
            each.sent, each.places = <const uint8_t *> data_ptr(sent), <const uint8_t *> data_ptr(places)
            each.values, each.indices = data_ptr(values), <int32_t *> data_ptr(indices)
            each.bytes, each.count = cnp.PyArray_NBYTES(<cnp.ndarray> sent), len(places) * dim(places, 1)
            each.size = cnp.PyArray_ITEMSIZE(<cnp.ndarray> places)

    def write(self, codewords, row=0):
        """Write codewords, a pair (indices, values) for each unit."""
        for sent, places, _, _, unit, format in self.sections:
            indices, values = codewords[unit]
            if not write_codewords(sent, places, indices, values):
                format.write((sent, places), indices, values)

    def read(self):
        """Read the codewords; return True: rank 0's are always valid."""
        codewords_read(self.parts, self.count)
        return True

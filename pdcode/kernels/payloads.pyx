"""Payloads of several units, read in one call: small ones take less time than a call each."""

cimport numpy as cnp
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport uint8_t, uintptr_t

from pdcode.kernels import quantise
from pdcode.kernels.arrays cimport data_ptr, is_c_contiguous, is_writable, number_of
from pdcode.kernels.payloads cimport payload_field, payload_read_f32, payload_read_f64

cnp.import_array()


cdef class Payload:
    """Payload of a message.

    Parameters
    ----------
    fields : sequence of (flat, wire, kind, rows)
        For each unit the decoded payload (r·e,), float32 or float64; its bytes in the message; their format,
        one of `quantise.KINDS`, or -1 if `flat` is in the message; the number of rows with own scales.
    """

    def __init__(self, fields):
        self.count, self.room = len(fields), bytearray(len(fields) * sizeof(payload_field))
        self.fields = <payload_field *> PyByteArray_AS_STRING(self.room)
        self.arrays = [(flat, wire) for flat, wire, _, _ in fields]
        self.double = bool(fields) and number_of(fields[0][0].dtype) == cnp.NPY_FLOAT64
        for number, (flat, wire, kind, rows) in enumerate(fields):
            if not is_writable(flat, cnp.NPY_FLOAT64 if self.double else cnp.NPY_FLOAT32, 1):
                raise ValueError("decoded payloads must be vectors of one type, float32 or float64")
            if rows < 0 or (rows == 0 and len(flat)) or (rows and len(flat) % rows):
                raise ValueError(f"{len(flat)} elements are not {rows} rows of equal length")
            self.fields[number].kind = kind
            self.fields[number].rows, self.fields[number].elements = rows, len(flat) // rows if rows else 0
            self.fields[number].flat = data_ptr(flat)
            if kind < 0:
                continue
            if (not is_c_contiguous(wire, cnp.NPY_UINT8, 1)
                    or len(wire) != quantise.size(kind, rows, len(flat) // rows)):
                raise ValueError(f"the bytes of {rows} rows of {len(flat)} elements are not as many as those")
            if <uintptr_t> data_ptr(wire) % 8:
                raise ValueError("the encoded payload must begin at a multiple of 8 bytes")
            self.fields[number].wire = <const uint8_t *> data_ptr(wire)

    def read(self):
        """Decode all units; return whether every element is finite."""
        return self.decode()

    cdef bint decode(self) noexcept:
        cdef bint finite
        with nogil:
            finite = (payload_read_f64 if self.double else payload_read_f32)(self.fields, self.count)
        return finite

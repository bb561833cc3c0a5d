"""Descent of a replica by the arrivals in a log."""

cimport numpy as cnp
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport int32_t, int64_t, uint8_t, uintptr_t
from libc.string cimport memcpy

import numpy as np

from pdcode.kernels import quantise
from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous, is_writable, number_of, same_shape
from pdcode.kernels.codewords cimport CodewordSections, codewords_read


cdef extern from "replica.h" nogil:
    struct replica_entry:
        int64_t kind
        double damping
    struct replica_step:
        void *theta
        Py_ssize_t length, rows, weight, block, blocks
        const int32_t *indices
        const void *values
        int kind
        const uint8_t *wire
        double scale
        uint8_t *seen
    bint replica_descend_f32(const replica_step *steps, Py_ssize_t count, double rate)
    bint replica_descend_f64(const replica_step *steps, Py_ssize_t count, double rate)

cnp.import_array()

ENTRY_BYTES = sizeof(replica_entry)


cdef class Descents:
    """Updates by one arrival each, in a log: ``theta_j -= rate * scale * g_j * y`` for each codeword.

    An update is one pass over its blocks of θ, with the bits of `Payload`, `Accumulators` and
    `optimize.Descent`.

    Parameters
    ----------
    units : sequence of (theta, scale, wire, kind, rows)
        For each unit its part of θ (length,), float32 or float64; the factor from Σ g_i ⊗ y_i to the
        gradient; its payload in `entry`; the payload's format, one of codes; its rows.
    shapes : sequence of (int, int)
        Number of blocks of each unit, and elements of a block.
    entry : ndarray of uint8
        Codewords and payload of an arrival. `take` copies codewords to it, not payloads.
    codeword_bytes : int
    read : callable
        Reads the codewords in `entry` into `codewords`, a list of (indices, values).
    """

    cdef replica_step *descents
    cdef Py_ssize_t *wires
    cdef Py_ssize_t count, bytes, codeword_bytes
    cdef int kind
    cdef uint8_t *entry
    cdef CodewordSections words
    cdef object room, arrays, read
    cdef list codewords

    def __init__(self, units, shapes, entry, codeword_bytes, read, codewords):
        cdef replica_step *each
        cdef Py_ssize_t number, at
        self.count = len(units)
        self.room = bytearray(self.count * sizeof(replica_step)), bytearray(self.count * sizeof(Py_ssize_t))
        self.descents = <replica_step *> PyByteArray_AS_STRING(self.room[0])
        self.wires = <Py_ssize_t *> PyByteArray_AS_STRING(self.room[1])
        self.kind = number_of(units[0][0].dtype) if self.count else cnp.NPY_FLOAT32
        seen = [np.zeros(blocks, np.uint8) for blocks, _ in shapes]
        self.arrays = units, seen, entry
        if len(shapes) != self.count or not is_writable(entry, cnp.NPY_UINT8, 1):
            raise ValueError("units must have shapes, and an entry must be an array of bytes")
        if not 0 <= codeword_bytes <= len(entry):
            raise ValueError(f"an entry of {len(entry)} bytes has no room for codewords of {codeword_bytes}")
        self.entry, self.codeword_bytes = <uint8_t *> data_ptr(entry), codeword_bytes
        self.bytes = <Py_ssize_t> sizeof(replica_entry) + -(-len(entry) // 8) * 8
        self.read, self.codewords = read, codewords
        self.words = read.__self__ if isinstance(getattr(read, "__self__", None), CodewordSections) else None
        for number in range(self.count):
            theta, scale, wire, kind, rows = units[number]
            blocks, block = shapes[number]
            if not is_writable(theta, self.kind, 1) or len(theta) > blocks * block:
                raise ValueError("parts of θ must be vectors of one type, no longer than their blocks")
            if kind < 4:
                raise ValueError(f"kind is {kind}: it must be a format of codes, from 4 on")
            if not is_c_contiguous(wire, cnp.NPY_UINT8, 1) or len(wire) != quantise.size(kind, rows, block):
                raise ValueError(f"the bytes of {rows} rows of {block} elements are not as many as those")
            at = <uint8_t *> data_ptr(wire) - self.entry
            if at < 0 or at + len(wire) > len(entry) or at % 8:
                raise ValueError("a payload must lie in the entry, at a multiple of 8 bytes")
            self.wires[number] = at
            each = self.descents + number
            each.theta, each.length, each.scale, each.kind = data_ptr(theta), len(theta), scale, kind
            each.rows, each.block, each.blocks = rows, block, blocks
            each.seen = <uint8_t *> data_ptr(seen[number])

    def take(self, body, Py_ssize_t at, double rate):
        """Apply the entries of a log, uint8, from offset `at` on, while they are an arrival and its step.

        The rate is multiplied by the damping of each step. Returns the offset of the first entry that is not
        applied: the log's end, no arrival, one of several of a step, one that is not usable, or one with sets
        of codewords that share a block.
        """
        cdef const uint8_t *log
        cdef const replica_entry *arrival
        cdef const replica_entry *step
        cdef Py_ssize_t whole, number
        cdef replica_step *each
        cdef bint taken
        if not is_c_contiguous(body, cnp.NPY_UINT8, 1) or <uintptr_t> data_ptr(body) % 8 or at < 0 or at % 8:
            return at
        log, whole = <const uint8_t *> data_ptr(body), self.bytes + <Py_ssize_t> sizeof(replica_entry)
        while at + whole <= dim(body, 0):
            arrival = <const replica_entry *> (log + at)
            step = <const replica_entry *> (log + at + self.bytes)
            if arrival.kind != 0 or step.kind != 1:
                break
            memcpy(self.entry, log + at + sizeof(replica_entry), self.codeword_bytes)
            if self.words is None:
                self.read()
            else:
                codewords_read(self.words.parts, self.words.count)
            for number in range(self.count):
                each = self.descents + number
                indices, values = self.codewords[number]
                if not (is_c_contiguous(indices, cnp.NPY_INT32, 2) and is_c_contiguous(values, self.kind, 2)
                        and same_shape(indices, values) and dim(indices, 0) == each.rows):
                    return at
                each.indices, each.values = <const int32_t *> data_ptr(indices), data_ptr(values)
                each.weight = dim(indices, 1)
                each.wire = log + at + sizeof(replica_entry) + self.wires[number]
            with nogil:
                taken = (replica_descend_f64 if self.kind == cnp.NPY_FLOAT64 else replica_descend_f32)(
                    self.descents, self.count, rate * step.damping)
            if not taken:
                break
            at += whole
        return at

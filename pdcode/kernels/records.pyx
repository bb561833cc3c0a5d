"""Rows of the trace, packed in memory."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t  # no-cython-lint

from pdcode.kernels.headers cimport Received

cdef packed struct arrival_row:
    int64_t each_column  # of ARRIVALS, see csrc/rows.py

cdef packed struct update_row:
    int64_t each_column  # of UPDATES

ROW_BYTES, UPDATE_BYTES = sizeof(arrival_row), sizeof(update_row)


cdef class Batch:
    """Batch of at most `rows` rows of a table of the trace, each of `size` bytes."""

    def __cinit__(self, rows, size):
        if rows < 1 or size < 1:
            raise ValueError(f"a batch of {rows} rows of {size} bytes")
        self.buffer, self.end, self.size = bytearray(rows * size), 0, size

    @property
    def count(self):
        """Number of rows in the batch."""
        return self.end // self.size

    def clear(self):
        """Remove all rows."""
        self.end = 0

    def spill(self):
        """Make room in a full batch: here, drop its rows."""
        self.clear()

    def pack(self, pack_into, values):
        """Add a row by `struct.Struct.pack_into`."""
        pack_into(self.buffer, self.end, *values)
        self.added()

    def advance(self, rows):
        """Add rows that have been written to the buffer; they must leave room for another."""
        if not 0 <= rows * self.size < PyByteArray_GET_SIZE(self.buffer) - self.end:
            raise ValueError(f"{rows} rows in a batch of {self.count}")
        self.end += rows * self.size

    def put(self, Received reply, int64_t applied_version, int64_t staleness, int64_t t_dispatch_ns,
            int64_t t_decoded_ns, double captured, int status):
        """Add a row of arrivals."""
        self.put_reply(reply, applied_version, staleness, t_dispatch_ns, t_decoded_ns, captured, status)

    cdef bint put_reply(self, Received reply, int64_t applied_version, int64_t staleness,
                        int64_t t_dispatch_ns, int64_t t_decoded_ns, double captured, int status) except -1:
        if self.size != sizeof(arrival_row):
            raise ValueError(f"a row of {self.size} bytes is none of arrivals")
        cdef arrival_row *row = <arrival_row *> (PyByteArray_AS_STRING(self.buffer) + self.end)
        row.each_column = 0  # of ARRIVALS: its value
        return self.added()

    cdef bint put_update(self, int64_t version, int64_t t_ns, int64_t n_used, double captured,
                         double step_norm, int64_t digest, int64_t waited_for, int64_t waited_ns,
                         int why) except -1:
        """Add a row of updates."""
        if self.size != sizeof(update_row):
            raise ValueError(f"a row of {self.size} bytes is none of updates")
        cdef update_row *row = <update_row *> (PyByteArray_AS_STRING(self.buffer) + self.end)
        row.each_column = 0  # of UPDATES: its value
        return self.added()

    cdef int added(self) except -1:
        self.end += self.size
        if self.end == PyByteArray_GET_SIZE(self.buffer):
            self.spill()
        return 0

"""Headers of messages: of replies at rank 0, and of tasks."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous, is_writable
from pdcode.kernels.headers cimport MESSAGE_LEAVING, message_header
from pdcode.kernels.payloads cimport Payload

cnp.import_array()

HEADER_BYTES = sizeof(message_header)
LEAVING = MESSAGE_LEAVING
"""Flag of a reply: its worker asks for no other task."""


cdef const message_header *header_of(message) except NULL:
    """Return the header of a message, an array of uint8."""
    cdef Py_ssize_t least = sizeof(message_header)
    if not is_c_contiguous(message, cnp.NPY_UINT8, 1) or dim(message, 0) < least:
        raise ValueError("a message must be an array of bytes, no shorter than a header")
    return <const message_header *> data_ptr(message)


cdef class Received:
    """Reply in its buffer at rank 0, and what rank 0 adds to it.

    `last` marks the last message of the reply to a task, `finite` a payload that is finite with valid
    codewords, `leaving` a worker that asks for no other task; `codewords` has a pair (indices, values) for
    each unit.
    """

    def bind(self, message, read, flags, bytes, chosen):
        """Set the buffer `message`, and what all its replies share: two fields of headers, and a reader.

        The reader, a Payload or a function, reads all but the header, and returns whether it is valid and
        finite. It reads codewords, too, if workers choose them.
        """
        header_of(message)
        self.message, self.read = message, read
        self.payload = read if isinstance(read, Payload) else None
        self.flags, self.bytes, self.chosen = flags, bytes, chosen

    def answers(self, worker, task, version, row, codewords, bytes):
        """Set the task, of so many bytes, that the next reply answers."""
        self.worker, self.task, self.version, self.row = worker, task, version, row
        if not self.chosen:
            self.codewords = codewords
        self.bytes_down = 0 if self.part else bytes

    def read_header(self, message, int64_t offset_ns):
        """Read the header of a message, an array (≥ 64,) of uint8; subtract `offset_ns` from its times."""
        cdef const message_header *header = header_of(message)
        self.worker, self.task, self.version = header.worker, header.task, header.version
        self.row, self.loss = header.row, header.loss
        self.t_start_ns, self.t_compute_ns = header.start - offset_ns, header.compute - offset_ns
        self.t_send_ns, self.injected_delay_ns = header.send - offset_ns, header.delay

    def take(self, int64_t offset_ns, int64_t size, int64_t now_ns):
        """Read the message, of `size` bytes, if its header belongs to the expected reply.

        Subtracts `offset_ns` from its times. Returns the name of the first field that is not as expected, of
        worker, task, size, bytes, flags, version, row and times, "size" without a whole header, or "".
        """
        cdef const message_header *header = <const message_header *> data_ptr(self.message)
        cdef str wrong = self.header(header, size)
        if wrong:
            return wrong
        self.t_start_ns, self.t_compute_ns = header.start - offset_ns, header.compute - offset_ns
        self.t_send_ns, self.injected_delay_ns = header.send - offset_ns, header.delay
        self.loss, self.leaving, self.t_recv_ns = header.loss, header.flags & MESSAGE_LEAVING != 0, now_ns
        self.finite = self.read() if self.payload is None else self.payload.decode()
        return wrong

    cdef str header(self, const message_header *header, int64_t size):
        """Return the first field of a header that is not as expected."""
        if size < <int64_t> sizeof(message_header):
            return "size"
        if header.worker != self.worker:
            return "worker"
        if header.task != <uint32_t> self.task:
            return "task"
        if size != dim(self.message, 0):
            return "size"
        if header.bytes != self.bytes:
            return "bytes"
        if header.flags & ~MESSAGE_LEAVING != self.flags:
            return "flags"
        if header.version != <uint32_t> self.version:
            return "version"
        if header.row != self.row:
            return "row"
        if (outside(header.start) or outside(header.compute) or outside(header.send)
                or outside(header.delay)):
            return "times"
        return ""


cdef inline bint outside(int64_t time_ns) noexcept:
    """Return whether a time is out of the range of clocks."""
    return time_ns < -(1LL << 60) or time_ns > 1LL << 60


def write_task(message, Py_ssize_t start, parts, worker, flags, task, version, row, digest):
    """Write the header of a task, and its body, arrays of uint8, from offset `start` on; return its end."""
    cdef Py_ssize_t end = start, size
    cdef uint8_t *bytes
    cdef message_header *header
    if not is_writable(message, cnp.NPY_UINT8, 1) or start < <Py_ssize_t> sizeof(message_header):
        raise ValueError("a task must be an array of bytes, and its body must begin after the header")
    bytes = <uint8_t *> data_ptr(message)
    for part in parts:
        if not is_c_contiguous(part, cnp.NPY_UINT8, 1) or end + dim(part, 0) > dim(message, 0):
            raise ValueError(f"a message of {len(message)} bytes has no room for the body of a task")
        size = dim(part, 0)
        memcpy(bytes + end, data_ptr(part), size)
        end += size
    header = <message_header *> bytes
    header.worker, header.flags, header.bytes = worker, flags, <uint32_t> (end - start)
    header.task, header.version, header.row, header.start = task, version, row, digest
    header.compute = header.send = header.delay = 0
    header.loss = 0
    return end


def read_task(message):
    """Return the flags, bytes of the body, task, version, row and digest in the header of a task."""
    cdef const message_header *header = header_of(message)
    return header.flags, header.bytes, header.task, header.version, header.row, header.start

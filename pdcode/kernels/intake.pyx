"""Small messages at rank 0 and replicas: headers, codewords, payloads of several units, rows of the trace.

Each function does in one call what numpy and struct would do in several, which for payloads of some hundred
bytes take longer than the work.
"""

cimport numpy as cnp
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uintptr_t
from libc.string cimport memcpy

import numpy as np

from pdcode.kernels.arrays cimport data, extent, number_of, plain, room
from pdcode.kernels.intake cimport (
    Payload, Received, intake_descend_f32, intake_descend_f64, intake_descent, intake_entry,
    intake_field, intake_fold, intake_fold_f32, intake_fold_f64, intake_given, intake_header, intake_narrow,
    intake_read_f32, intake_read_f64, intake_row, intake_update, intake_widen, intake_words)

cnp.import_array()

cdef enum:
    LEAVING = 128  # flag of a reply: its worker wants to leave

HEADER_BYTES, ENTRY_BYTES = sizeof(intake_header), sizeof(intake_entry)
ROW_BYTES, UPDATE_BYTES = sizeof(intake_row), sizeof(intake_update)


cdef class Received:
    """A reply in its buffer at rank 0, and what rank 0 adds to it: integers in C.

    Attributes
    ----------
    worker, task, version, row, round, part, bytes_up, bytes_down : int
    t_start_ns, t_compute_ns, t_send_ns, t_recv_ns, injected_delay_ns : int
    loss : float
    last : bool
        Whether it is the last part of the reply to its task.
    finite : bool
        Whether the whole payload is finite, and header and codewords are those of an answer.
    leaving : bool
        Whether the worker wants no other task.
    codewords : sequence of (indices, values)
        One pair per unit.
    """

    def bind(self, message, read, flags, bytes, chosen):
        """Set what is the same for all replies in a buffer.

        Parameters
        ----------
        message : ndarray of uint8
        read : Payload or callable
            Reads all of the reply but its header; returns whether that is sound.
        flags, bytes : int
            Fields of the header.
        chosen : bool
            Whether codewords are worker-selected: `read` reads them into `codewords`.
        """
        if not plain(message, cnp.NPY_UINT8, 1) or extent(message, 0) < <Py_ssize_t> sizeof(intake_header):
            raise ValueError("a message must be an array of bytes, no shorter than a header")
        self.message, self.read = message, read
        self.payload = read if isinstance(read, Payload) else None
        self.flags, self.bytes, self.chosen = flags, bytes, chosen

    def answers(self, worker, task, version, row, codewords, bytes):
        """Note the task, of so many bytes, that the next reply will answer."""
        self.worker, self.task, self.version, self.row = worker, task, version, row
        if not self.chosen:
            self.codewords = codewords
        self.bytes_down = 0 if self.part else bytes

    def read_header(self, message, int64_t offset_ns):
        """Read the header of a message, an array (≥ 64,) of uint8; subtract `offset_ns` from its times.

        Raises
        ------
        ValueError
            If the message is shorter than a header.
        """
        if not plain(message, cnp.NPY_UINT8, 1) or extent(message, 0) < <Py_ssize_t> sizeof(intake_header):
            raise ValueError("a message must be an array of bytes, no shorter than a header")
        cdef const intake_header *header = <const intake_header *> data(message)
        self.worker, self.task, self.version = header.worker, header.task, header.version
        self.row, self.loss = header.row, header.loss
        self.t_start_ns, self.t_compute_ns = header.start - offset_ns, header.compute - offset_ns
        self.t_send_ns, self.injected_delay_ns = header.send - offset_ns, header.delay

    def take(self, int64_t offset_ns, int64_t size, int64_t now_ns):
        """Read the message, received now with a size in bytes, if its header is that of the expected reply.

        Subtract `offset_ns` from its times.

        Returns
        -------
        str
            The first field that is not as expected, of worker, task, size, bytes, flags, version, row and
            times; "size" if there is no whole header. Empty if all are. Only then is anything read.
        """
        cdef const intake_header *header = <const intake_header *> data(self.message)
        cdef str wrong = self.header(header, size)
        if wrong:
            return wrong
        self.t_start_ns, self.t_compute_ns = header.start - offset_ns, header.compute - offset_ns
        self.t_send_ns, self.injected_delay_ns = header.send - offset_ns, header.delay
        self.loss, self.leaving, self.t_recv_ns = header.loss, header.flags & LEAVING != 0, now_ns
        self.finite = self.read() if self.payload is None else self.payload.sound()
        return wrong

    cdef str header(self, const intake_header *header, int64_t size):
        """Return the first field of a header that is not as expected."""
        if size < <int64_t> sizeof(intake_header):
            return "size"
        if header.worker != self.worker:
            return "worker"
        if header.task != <uint32_t> self.task:
            return "task"
        if size != extent(self.message, 0):
            return "size"
        if header.bytes != self.bytes:
            return "bytes"
        if header.flags & ~LEAVING != self.flags:
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
    """Return whether no clock of a worker shows such a time."""
    return time_ns < -(1LL << 60) or time_ns > 1LL << 60


cdef class Batch:
    """Rows of a table of the trace, packed in memory.

    Parameters
    ----------
    rows : int
        Most rows of the batch.
    size : int
        Bytes of a row.
    """

    def __cinit__(self, rows, size):
        if rows < 1 or size < 1:
            raise ValueError(f"a batch of {rows} rows of {size} bytes")
        self.buffer, self.end, self.size = bytearray(rows * size), 0, size

    @property
    def count(self):
        """Number of rows in the batch."""
        return self.end // self.size

    def clear(self):
        """Begin anew, with no rows."""
        self.end = 0

    def spill(self):
        """Make room; called when the batch is full: here, drop its rows."""
        self.clear()

    def pack(self, pack_into, values):
        """Add a row by `struct.Struct.pack_into`."""
        pack_into(self.buffer, self.end, *values)
        self.added()

    def put(self, Received reply, int64_t applied, int64_t staleness, int64_t t_dispatch_ns,
            int64_t t_decoded_ns, double captured, int status):
        """Add a row of arrivals.

        Raises
        ------
        ValueError
            If rows are of another size.
        """
        self.put_reply(reply, applied, staleness, t_dispatch_ns, t_decoded_ns, captured, status)

    cdef bint put_reply(self, Received reply, int64_t applied, int64_t staleness, int64_t t_dispatch_ns,
                        int64_t t_decoded_ns, double captured, int status) except -1:
        if self.size != sizeof(intake_row):
            raise ValueError(f"a row of {self.size} bytes is none of arrivals")
        cdef intake_row *row = <intake_row *> (PyByteArray_AS_STRING(self.buffer) + self.end)
        row.worker, row.task, row.version, row.applied = reply.worker, reply.task, reply.version, applied
        row.row, row.staleness, row.dispatch = reply.row, staleness, t_dispatch_ns
        row.start = reply.t_start_ns
        row.compute, row.send, row.recv = reply.t_compute_ns, reply.t_send_ns, reply.t_recv_ns
        row.decoded, row.delay, row.up = t_decoded_ns, reply.injected_delay_ns, reply.bytes_up
        row.down, row.captured, row.status, row.loss = reply.bytes_down, captured, status, reply.loss
        row.round, row.part = reply.round, reply.part
        return self.added()

    cdef bint put_update(self, int64_t version, int64_t t_ns, int64_t used, double captured, double norm,
                         int64_t digest, int64_t waited_for, int64_t waited_ns, int why) except -1:
        """Add a row of updates."""
        if self.size != sizeof(intake_update):
            raise ValueError(f"a row of {self.size} bytes is none of updates")
        cdef intake_update *row = <intake_update *> (PyByteArray_AS_STRING(self.buffer) + self.end)
        row.version, row.t, row.used, row.captured, row.norm = version, t_ns, used, captured, norm
        row.digest, row.waited_for, row.waited, row.why = digest, waited_for, waited_ns, why
        return self.added()

    cdef int added(self) except -1:
        self.end += self.size
        if self.end == PyByteArray_GET_SIZE(self.buffer):
            self.spill()
        return 0


def write_task(message, Py_ssize_t start, parts, worker, flags, task, version, row, digest):
    """Write the body of a task, and its header.

    Parameters
    ----------
    message : ndarray of uint8
    start : int
        Offset of the body.
    parts : sequence of ndarray of uint8
        Segments of the body.
    worker, flags, task, version, row, digest : int
        Fields of the header.

    Returns
    -------
    int
        Offset of the body's end.

    Raises
    ------
    ValueError
        If the body does not fit, or an array is not one of bytes.
    OverflowError
        If a number does not fit its field.
    """
    cdef Py_ssize_t end = start, size
    cdef uint8_t *bytes
    cdef intake_header *header
    if not room(message, cnp.NPY_UINT8, 1) or start < <Py_ssize_t> sizeof(intake_header):
        raise ValueError("a task must be an array of bytes, and its body must begin after the header")
    bytes = <uint8_t *> data(message)
    for part in parts:
        if not plain(part, cnp.NPY_UINT8, 1) or end + extent(part, 0) > extent(message, 0):
            raise ValueError(f"a message of {len(message)} bytes has no room for the body of a task")
        size = extent(part, 0)
        memcpy(bytes + end, data(part), size)
        end += size
    header = <intake_header *> bytes
    header.worker, header.flags, header.bytes = worker, flags, <uint32_t> (end - start)
    header.task, header.version, header.row, header.start = task, version, row, digest
    header.compute = header.send = header.delay = 0
    header.loss = 0
    return end


def read_task(message):
    """Read the header of a task.

    Parameters
    ----------
    message : ndarray, shape (≥ 64,), uint8

    Returns
    -------
    flags, size, task, version, row, digest : int
        `size` is the length of the body.

    Raises
    ------
    ValueError
        If the message is shorter than a header.
    """
    if not plain(message, cnp.NPY_UINT8, 1) or extent(message, 0) < <Py_ssize_t> sizeof(intake_header):
        raise ValueError("a message must be an array of bytes, no shorter than a header")
    cdef const intake_header *header = <const intake_header *> data(message)
    return header.flags, header.bytes, header.task, header.version, header.row, header.start


def write_codewords(sent, places, indices, values):
    """Write codewords to a message, where no conversion but that of indices is needed.

    Parameters
    ----------
    sent, places : ndarray, shape (r, w)
        Places of values, and of indices of 1, 2 or 4 bytes.
    indices, values : ndarray, shape (r, w)
        int32, and of the type of `sent`.

    Returns
    -------
    bool
        Whether shapes and types are these; nothing is written if not.
    """
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray?> sent)
    if not (room(sent, kind, 2) and plain(values, kind, 2) and fits(places, indices)
            and cnp.PyArray_ISWRITEABLE(<cnp.ndarray> places)
            and same(sent, values) and same(values, indices)):
        return False
    memcpy(data(sent), data(values), cnp.PyArray_NBYTES(<cnp.ndarray> sent))
    intake_narrow(<const int32_t *> data(indices), cnp.PyArray_SIZE(<cnp.ndarray> indices),
                  cnp.PyArray_ITEMSIZE(<cnp.ndarray> places), <uint8_t *> data(places))
    return True


def read_codewords(sent, places, indices, values):
    """Read codewords that `write_codewords` has written; arguments and result are the same."""
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray?> sent)
    if not (plain(sent, kind, 2) and room(values, kind, 2) and fits(places, indices)
            and cnp.PyArray_ISWRITEABLE(<cnp.ndarray> indices)
            and same(sent, values) and same(values, indices)):
        return False
    memcpy(data(values), data(sent), cnp.PyArray_NBYTES(<cnp.ndarray> sent))
    intake_widen(<const uint8_t *> data(places), cnp.PyArray_ITEMSIZE(<cnp.ndarray> places),
                 cnp.PyArray_SIZE(<cnp.ndarray> indices), <int32_t *> data(indices))
    return True


cdef inline bint same(first, second) noexcept:
    """Return whether two matrices have the same shape."""
    return extent(first, 0) == extent(second, 0) and extent(first, 1) == extent(second, 1)


cdef inline bint fits(places, indices) noexcept:
    """Return whether indices are matrices of int32, and of a type in which they travel, of one shape."""
    return (
        plain(indices, cnp.NPY_INT32, 2) and cnp.PyArray_Check(places) and same(places, indices)
        and plain(places, cnp.PyArray_TYPE(<cnp.ndarray> places), 2)
        and cnp.PyArray_ITEMSIZE(<cnp.ndarray> places) in (1, 2, 4)
    )


cdef class Words:
    """The codewords of a message, in all its sections: `read_codewords`, or `write_codewords`, in one call.

    Parameters
    ----------
    sections : sequence of (sent, places, indices, values, unit, words)
        Arguments of `read_codewords`; number of the unit; what writes codewords that are not such arrays, by
        ``words.write((sent, places), indices, values)``.

    Raises
    ------
    ValueError
        If shapes, order or types do not fit.
    """

    cdef intake_words *words
    cdef Py_ssize_t count
    cdef list sections

    def __cinit__(self, sections):
        self.count = len(sections)
        self.words = <intake_words *> PyMem_Calloc(max(1, self.count), sizeof(intake_words))
        if self.words == NULL:
            raise MemoryError

    def __init__(self, sections):
        cdef intake_words *each
        cdef Py_ssize_t number
        self.sections = list(sections)
        for number, (sent, places, indices, values, _, _) in enumerate(self.sections):
            if not read_codewords(sent, places, indices, values):
                raise ValueError("codewords in a message must have the shape and the types of those to read")
            each = self.words + number
            each.sent, each.places = <const uint8_t *> data(sent), <const uint8_t *> data(places)
            each.values, each.indices = data(values), <int32_t *> data(indices)
            each.bytes, each.count = cnp.PyArray_NBYTES(<cnp.ndarray> sent), len(places) * extent(places, 1)
            each.size = cnp.PyArray_ITEMSIZE(<cnp.ndarray> places)

    def __dealloc__(self):
        PyMem_Free(self.words)

    def write(self, codewords, row=0):
        """Write codewords, a pair (indices, values) for each unit."""
        for sent, places, _, _, unit, words in self.sections:
            indices, values = codewords[unit]
            if not write_codewords(sent, places, indices, values):
                words.write((sent, places), indices, values)

    def read(self):
        """Read the codewords; return True: rank 0's are always valid."""
        intake_given(self.words, self.count)
        return True


cdef class Payload:
    """The payload of a message, unit by unit.

    Parameters
    ----------
    fields : sequence of (flat, wire, kind, rows)
        Of each unit: the decoded payload (r·e,), float32 or float64; its bytes in the message; their format,
        one of `quantise.KINDS`, or -1 if `flat` is in the message; rows that have scales of their own.

    Raises
    ------
    ValueError
        If an array has another type, shape or order, or sizes do not fit.
    """

    def __cinit__(self, fields):
        self.count = len(fields)
        self.fields = <intake_field *> PyMem_Calloc(max(1, self.count), sizeof(intake_field))
        if self.fields == NULL:
            raise MemoryError

    def __init__(self, fields):
        from pdcode.kernels import quantise
        self.arrays = [(flat, wire) for flat, wire, _, _ in fields]
        self.double = bool(fields) and number_of(fields[0][0].dtype) == cnp.NPY_FLOAT64
        for number, (flat, wire, kind, rows) in enumerate(fields):
            if not room(flat, cnp.NPY_FLOAT64 if self.double else cnp.NPY_FLOAT32, 1):
                raise ValueError("decoded payloads must be vectors of one type, float32 or float64")
            if rows < 0 or (rows == 0 and len(flat)) or (rows and len(flat) % rows):
                raise ValueError(f"{len(flat)} elements are not {rows} rows of equal length")
            self.fields[number].kind = kind
            self.fields[number].rows, self.fields[number].elements = rows, len(flat) // rows if rows else 0
            self.fields[number].flat = data(flat)
            if kind < 0:
                continue
            if not plain(wire, cnp.NPY_UINT8, 1) or len(wire) != quantise.size(kind, rows, len(flat) // rows):
                raise ValueError(f"the bytes of {rows} rows of {len(flat)} elements are not as many as those")
            if <uintptr_t> data(wire) % 8:
                raise ValueError("the encoded payload must begin at a multiple of 8 bytes")
            self.fields[number].wire = <const uint8_t *> data(wire)

    def __dealloc__(self):
        PyMem_Free(self.fields)

    def read(self):
        """Decode all units; return whether every element is finite."""
        return self.sound()

    cdef bint sound(self) noexcept:
        cdef bint finite
        with nogil:
            if self.double:
                finite = intake_read_f64(self.fields, self.count)
            else:
                finite = intake_read_f32(self.fields, self.count)
        return finite


cdef class Fold:
    """Accumulators to which payloads are added, one a unit: `decode.adjoint_decode` of all in one call.

    Parameters
    ----------
    accumulators : sequence of ndarray, shape (length,)
        float32 or float64, all of one type.

    Raises
    ------
    ValueError
        If an array has another type, shape or order.
    """

    def __cinit__(self, accumulators):
        self.count = len(accumulators)
        self.folds = <intake_fold *> PyMem_Calloc(max(1, self.count), sizeof(intake_fold))
        if self.folds == NULL:
            raise MemoryError

    def __init__(self, accumulators):
        self.arrays = list(accumulators)
        self.kind = number_of(self.arrays[0].dtype) if self.count else cnp.NPY_FLOAT32
        for number, array in enumerate(self.arrays):
            if not room(array, self.kind, 1):
                raise ValueError("accumulators must be vectors of one type, float32 or float64")
            self.folds[number].accumulator, self.folds[number].length = data(array), len(array)

    def __dealloc__(self):
        PyMem_Free(self.folds)

    def add(self, codewords, payloads):
        """Add payloads, one a unit.

        Parameters
        ----------
        codewords : sequence of (indices, values)
            Of each unit, shape (r, w), int32 and of the accumulators' type.
        payloads : sequence of ndarray, shape (r, e)

        Returns
        -------
        bool
            Whether shapes, types and order are these; nothing is added if not.
        """
        return self.put(codewords, payloads)

    cdef bint put(self, codewords, payloads):
        cdef intake_fold *fold
        cdef Py_ssize_t number
        if len(codewords) != self.count or len(payloads) != self.count:
            return False
        for number in range(self.count):
            indices, values = codewords[number]
            payload = payloads[number]
            if not (plain(indices, cnp.NPY_INT32, 2) and plain(values, self.kind, 2)
                    and plain(payload, self.kind, 2) and same(indices, values)
                    and extent(payload, 0) == extent(indices, 0)):
                return False
            fold = self.folds + number
            fold.rows, fold.weight, fold.block = extent(indices, 0), extent(indices, 1), extent(payload, 1)
            fold.indices, fold.values = <const int32_t *> data(indices), data(values)
            fold.payload = data(payload)
        with nogil:
            if self.kind == cnp.NPY_FLOAT64:
                intake_fold_f64(self.folds, self.count)
            else:
                intake_fold_f32(self.folds, self.count)
        return True


cdef class Descents:
    """Updates by one arrival each, in a log: ``theta_j -= rate * scale * g_j * y`` for each codeword.

    An arrival and a step by it are taken in one pass over their blocks of θ, with the bits of `Payload`,
    `Fold` and `optimize.Descent`.

    Parameters
    ----------
    units : sequence of (theta, scale, wire, kind, rows)
        Of each unit: its part of θ (length,), float32 or float64; factor from Σ g_i ⊗ y_i of an arrival to
        its estimate of the gradient; its payload in `entry`; the payload's format, one of codes; its rows.
    shapes : sequence of (int, int)
        Number of blocks of each unit, and elements of a block.
    entry : ndarray of uint8
        Codewords and payload of an arrival. `take` copies codewords to it, not payloads.
    codeword_bytes : int
    read : callable
        Reads the codewords in `entry` into `codewords`.
    codewords : list of (indices, values)
        Of each unit.

    Raises
    ------
    ValueError
        If an array has another type, shape or order, or sizes do not fit.
    """

    cdef intake_descent *descents
    cdef Py_ssize_t *wires
    cdef Py_ssize_t count, bytes, codeword_bytes
    cdef int kind
    cdef uint8_t *entry
    cdef Words words
    cdef object arrays, read
    cdef list codewords

    def __cinit__(self, units, shapes, entry, codeword_bytes, read, codewords):
        self.count = len(units)
        self.descents = <intake_descent *> PyMem_Calloc(max(1, self.count), sizeof(intake_descent))
        self.wires = <Py_ssize_t *> PyMem_Calloc(max(1, self.count), sizeof(Py_ssize_t))
        if self.descents == NULL or self.wires == NULL:
            raise MemoryError

    def __init__(self, units, shapes, entry, codeword_bytes, read, codewords):
        from pdcode.kernels import quantise
        cdef intake_descent *each
        cdef Py_ssize_t number, at
        self.kind = number_of(units[0][0].dtype) if self.count else cnp.NPY_FLOAT32
        seen = [np.zeros(blocks, np.uint8) for blocks, _ in shapes]
        self.arrays = units, seen, entry
        if len(shapes) != self.count or not room(entry, cnp.NPY_UINT8, 1):
            raise ValueError("units must have shapes, and an entry must be an array of bytes")
        if not 0 <= codeword_bytes <= len(entry):
            raise ValueError(f"an entry of {len(entry)} bytes has no room for codewords of {codeword_bytes}")
        self.entry, self.codeword_bytes = <uint8_t *> data(entry), codeword_bytes
        self.bytes = <Py_ssize_t> sizeof(intake_entry) + -(-len(entry) // 8) * 8
        self.read, self.codewords = read, codewords
        self.words = read.__self__ if isinstance(getattr(read, "__self__", None), Words) else None
        for number in range(self.count):
            theta, scale, wire, kind, rows = units[number]
            blocks, block = shapes[number]
            if not room(theta, self.kind, 1) or len(theta) > blocks * block:
                raise ValueError("parts of θ must be vectors of one type, no longer than their blocks")
            if kind < 4:
                raise ValueError(f"kind is {kind}: it must be a format of codes, from 4 on")
            if not plain(wire, cnp.NPY_UINT8, 1) or len(wire) != quantise.size(kind, rows, block):
                raise ValueError(f"the bytes of {rows} rows of {block} elements are not as many as those")
            at = <uint8_t *> data(wire) - self.entry
            if at < 0 or at + len(wire) > len(entry) or at % 8:
                raise ValueError("a payload must lie in the entry, at a multiple of 8 bytes")
            self.wires[number] = at
            each = self.descents + number
            each.theta, each.length, each.scale, each.kind = data(theta), len(theta), scale, kind
            each.rows, each.block, each.blocks = rows, block, blocks
            each.seen = <uint8_t *> data(seen[number])

    def __dealloc__(self):
        PyMem_Free(self.descents)
        PyMem_Free(self.wires)

    def take(self, body, Py_ssize_t at, double rate):
        """Take in entries of a log, as long as they are an arrival and its step.

        Parameters
        ----------
        body : ndarray of uint8
            The log.
        at : int
            Offset of an entry.
        rate : float
            Learning rate, to be multiplied by the damping of each step.

        Returns
        -------
        int
            Offset of the first entry that is left: at the log's end, no arrival, one of several of its step,
            not finite, or one with codewords of which several sets have a block in common.
        """
        cdef const uint8_t *log
        cdef const intake_entry *arrival
        cdef const intake_entry *step
        cdef Py_ssize_t whole, number
        cdef intake_descent *each
        cdef bint taken
        if not plain(body, cnp.NPY_UINT8, 1) or <uintptr_t> data(body) % 8 or at < 0 or at % 8:
            return at
        log, whole = <const uint8_t *> data(body), self.bytes + <Py_ssize_t> sizeof(intake_entry)
        while at + whole <= extent(body, 0):
            arrival, step = <const intake_entry *> (log + at), <const intake_entry *> (log + at + self.bytes)
            if arrival.kind != 0 or step.kind != 1:
                break
            memcpy(self.entry, log + at + sizeof(intake_entry), self.codeword_bytes)
            if self.words is None:
                self.read()
            else:
                intake_given(self.words.words, self.words.count)
            for number in range(self.count):
                each = self.descents + number
                indices, values = self.codewords[number]
                if not (plain(indices, cnp.NPY_INT32, 2) and plain(values, self.kind, 2)
                        and same(indices, values) and extent(indices, 0) == each.rows):
                    return at
                each.indices, each.values = <const int32_t *> data(indices), data(values)
                each.weight = extent(indices, 1)
                each.wire = log + at + sizeof(intake_entry) + self.wires[number]
            with nogil:
                if self.kind == cnp.NPY_FLOAT64:
                    taken = intake_descend_f64(self.descents, self.count, rate * step.damping)
                else:
                    taken = intake_descend_f32(self.descents, self.count, rate * step.damping)
            if not taken:
                break
            at += whole
        return at

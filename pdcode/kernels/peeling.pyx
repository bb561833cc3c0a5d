"""Peeling decoder: a codeword with one unknown block releases it, in cascade."""

import numpy
from libc.stdint cimport int8_t, int32_t, uint64_t

from pdcode.kernels.peeling cimport (
    peeling, peeling_add, peeling_begin, peeling_release_f32, peeling_release_f64)
from pdcode.kernels.real cimport real


cdef class Peeling:
    """Blocks released by the codewords received, and the order of releases.

    O(edges) in all, for any order of arrival. Memory is allocated only when codewords or edges exceed their
    capacity, which then doubles.

    Parameters
    ----------
    k : int
        Number of blocks.
    capacity : int
        Codewords between two resets for which memory is reserved.

    Attributes
    ----------
    count : int
        Number of codewords added.
    released : int
        Number of known blocks.

    Raises
    ------
    ValueError
        If k or capacity is less than 1.
    """

    cdef peeling state
    cdef object words, edges, weights, known, order
    cdef int32_t[::1] latest
    cdef Py_ssize_t most_words, most_edges

    def __init__(self, Py_ssize_t k, Py_ssize_t capacity):
        if k < 1 or capacity < 1:
            raise ValueError(f"k is {k}, capacity is {capacity}: both must be at least 1")
        cdef int8_t[::1] known = numpy.zeros(k, numpy.int8)
        cdef int32_t[:, ::1] order = numpy.zeros((k, 2), numpy.int32)
        self.latest = numpy.zeros(k, numpy.int32)
        self.known, self.order = known.base, order.base
        self.state.blocks = k
        self.state.latest = &self.latest[0]
        self.state.known = &known[0]
        self.state.order = &order[0, 0]
        self.words = numpy.zeros((4, 0), numpy.int32)
        self.edges = numpy.zeros((3, 0), numpy.int32)
        self.weights = numpy.zeros(0)
        self.room(capacity, 4 * capacity)
        self.reset()

    cdef int room(self, Py_ssize_t words, Py_ssize_t edges) except -1:
        """Reserve memory for `capacity` codewords and `edges` edges in all."""
        cdef int32_t[:, ::1] table
        cdef double[::1] weights
        if words > self.most_words:
            self.most_words = max(words, 2 * self.most_words)
            wider = numpy.zeros((4, self.most_words + 1), numpy.int32)
            wider[:, :self.words.shape[1]] = self.words
            self.words, table = wider, wider
            self.state.first, self.state.count = &table[0, 0], &table[1, 0]
            self.state.mix, self.state.stack = &table[2, 0], &table[3, 0]
        if edges > self.most_edges:
            self.most_edges = max(edges, 2 * self.most_edges)
            wider, longer = numpy.zeros((3, self.most_edges), numpy.int32), numpy.zeros(self.most_edges)
            wider[:, :self.edges.shape[1]], longer[:len(self.weights)] = self.edges, self.weights
            self.edges, self.weights = wider, longer
            table, weights = wider, longer
            self.state.block, self.state.word, self.state.older = &table[0, 0], &table[1, 0], &table[2, 0]
            self.state.weight = &weights[0]
        return 0

    @property
    def count(self):
        """Number of codewords added."""
        return self.state.words

    @property
    def released(self):
        """Number of known blocks."""
        return self.state.released

    @property
    def schedule(self):
        """Return a view of the pairs (codeword, block) in order of release, shape (released, 2), int32."""
        return self.order[:self.state.released]

    @property
    def unknown(self):
        """Return a view of the number of unknown blocks of each codeword, shape (count,), int32."""
        return self.words[1, :self.state.words]

    def codewords(self):
        """Return the codewords added, dense, shape (count, k), float64."""
        dense = numpy.zeros((self.state.words, self.state.blocks))
        here = slice(0, self.state.edges)
        dense[self.edges[1, here], self.edges[0, here]] = self.weights[here]
        return dense

    def add_sparse(self, const int32_t[:, ::1] indices, values):
        """Add the codewords of one arrival.

        Parameters
        ----------
        indices : array (r, w), int32
            Blocks of each codeword; weights of a repeated block add up.
        values : array (r, w), float32 or float64
            Their weights; 0 pads.

        Returns
        -------
        int
            Number of blocks released.

        Raises
        ------
        ValueError
            If shapes, strides or types do not fit, or a block with a weight is not from 0 to k - 1.
        """
        cdef const float[:, ::1] single = None
        cdef const double[:, ::1] full = None
        cdef Py_ssize_t row, t, rows = indices.shape[0], weight = indices.shape[1], k = self.state.blocks
        cdef Py_ssize_t before = self.state.released
        cdef bint given
        if values.shape != (rows, weight):
            raise ValueError("indices and values must have the same shape (r, w)")
        if values.itemsize == sizeof(float):
            single = values
        else:
            full = values
        for row in range(rows):
            for t in range(weight):
                given = single[row, t] != 0 if single is not None else full[row, t] != 0
                if given and not 0 <= indices[row, t] < k:
                    raise ValueError(
                        f"codeword has a weight for block {indices[row, t]}: blocks are 0 to {k - 1}")
        self.room(self.state.words + rows, self.state.edges + rows * weight)
        for row in range(rows):
            peeling_add(&self.state, &indices[row, 0], &single[row, 0] if single is not None else NULL,
                        &full[row, 0] if full is not None else NULL, weight)
        return self.state.released - before

    def release(self, Py_ssize_t start, const uint64_t[::1] addresses, real[:, ::1] blocks):
        """Compute the blocks of all releases from `start` on; earlier ones must be computed already.

        Parameters
        ----------
        start : int
            First release to compute.
        addresses : array (count,), uint64
            Address of each codeword's payload. The caller keeps the payloads alive and long enough.
        blocks : array (k, e), float32 or float64
            Updated in place; unknown blocks are unchanged.

        Raises
        ------
        ValueError
            If shapes, strides or types do not fit.
        """
        if addresses.shape[0] != self.state.words or blocks.shape[0] != self.state.blocks or start < 0:
            raise ValueError("there must be an address for each codeword, k rows in blocks, and start not "
                             "negative")
        if blocks.shape[1] == 0 or start >= self.state.released:
            return
        with nogil:
            if real is float:
                peeling_release_f32(&self.state, start, self.state.released, &addresses[0], &blocks[0, 0],
                                    blocks.shape[1])
            else:
                peeling_release_f64(&self.state, start, self.state.released, &addresses[0], &blocks[0, 0],
                                    blocks.shape[1])

    def reset(self):
        """Forget all codewords."""
        peeling_begin(&self.state)

"""Least squares on codewords, one more at a time."""

import numpy


cdef double *address(double[::1] array):
    """Where an array lies."""
    return &array[0]


cdef class Factorisation:
    """Pseudoinverse of the codewords that have arrived, exact after each of them.

    With payloads Y (count, ...), ``pseudoinverse() @ Y`` is the minimum-norm least-squares gradient, also
    where codewords are fewer than blocks, repeated, or contradict each other. A complete orthogonal
    factorisation is updated with each codeword, at O(k * count) flops (csrc/factor.c); the pseudoinverse is
    one small product of two of its factors, made when it is asked for. Nothing is allocated after the object
    is made.

    Parameters
    ----------
    k : int
        Number of blocks.
    capacity : int
        Most codewords that will be added between two resets.

    Attributes
    ----------
    count : int
        Codewords added.
    rank : int
        Their rank.

    Raises
    ------
    ValueError
        If k or capacity is less than 1.
    """

    def __init__(self, Py_ssize_t k, Py_ssize_t capacity):
        if k < 1 or capacity < 1:
            raise ValueError(f"k is {k}, capacity is {capacity}: both must be at least 1")
        buffer = numpy.zeros(2 * capacity * k + 3 * k * k + 4 * k + capacity)
        left, inverse, middle, right, solver, work = numpy.split(
            buffer, numpy.cumsum([capacity * k, capacity * k, k * k, k * k, k * k]))
        self.memory = buffer
        self.left = left.reshape(k, capacity)
        self.solver = solver.reshape(k, k)
        self.inverse = inverse.reshape(capacity, k)
        self.state.length = k
        self.state.capacity = capacity
        self.state.left = address(left)
        self.state.middle = address(middle)
        self.state.right = address(right)
        self.state.solver = address(solver)
        self.state.work = address(work)
        self.reset()

    @property
    def count(self):
        """Codewords added."""
        return self.state.count

    @property
    def rank(self):
        """Rank of the codewords added."""
        return self.state.rank

    def add(self, const double[::1] codeword):
        """Take one codeword in.

        Parameters
        ----------
        codeword : array (k,), float64

        Returns
        -------
        bool
            Whether the rank grew.

        Raises
        ------
        ValueError
            If the codeword has another length, or `capacity` codewords are in already.
        """
        cdef bint grew
        if codeword.shape[0] != self.state.length:
            raise ValueError(f"codeword has {codeword.shape[0]} entries: must be {self.state.length}")
        if self.state.count == self.state.capacity:
            raise ValueError(f"all {self.state.capacity} codewords of the capacity are in")
        self.current = False
        with nogil:
            grew = factorisation_add(&self.state, &codeword[0])
        return grew

    def pseudoinverse(self):
        """The (k, count) float64 pseudoinverse: a view with contiguous columns, good until the next `add`."""
        cdef Py_ssize_t rank = self.state.rank, count = self.state.count
        inverse = self.inverse[:count]
        if not self.current:
            numpy.matmul(self.left[:rank, :count].T, self.solver[:rank], out=inverse)
            self.current = True
        return inverse.T

    def reset(self):
        """Forget all codewords."""
        self.state.count = 0
        self.state.rank = 0
        self.state.largest = 0
        self.current = False

"""Incremental linear MMSE estimate on codewords."""

import numpy

from pdcode.kernels.factor cimport Factorisation
from pdcode.kernels.mmse cimport mmse_energy, mmse_gain, mmse_whiten, root


cdef class Posterior(Factorisation):
    """Gain and posterior covariance of a Gaussian gradient, given the codewords received.

    For blocks with covariance Σ and payloads with noise of variance σ², ``gain() @ Y`` is
    ΣGᵀ(GΣGᵀ + σ²I)⁻¹ Y. With a root C of Σ = CCᵀ this is ridge regression over the whitened codewords GC,
    which are factorised (`Factorisation` with prior σ); for σ = 0 it is the limit, the solution of least norm
    ĝᵀΣ⁻¹ĝ. O(k * (k + count)) flops per codeword.

    Parameters
    ----------
    k, capacity : int
        See `Factorisation`.
    matrix : array (k,) or (k, k), float64
        C, or its diagonal if C is diagonal.
    noise : float
        σ² ≥ 0.

    Attributes
    ----------
    remaining : float
        tr(P), the energy not captured; P = Σ - ΣGᵀ(GΣGᵀ + σ²I)⁻¹GΣ.
    total : float
        tr(Σ).
    """

    cdef root covariance
    cdef double[::1] values, white, spare
    cdef double noise
    cdef readonly double remaining, total
    cdef object shape

    def __init__(self, Py_ssize_t k, Py_ssize_t capacity, matrix, double noise=0.0):
        values = numpy.array(matrix, numpy.float64, order="C")
        if values.shape != (k,) and values.shape != (k, k):
            raise ValueError(f"matrix has shape {values.shape}: must be ({k},) or ({k}, {k})")
        if not 0 <= noise < float("inf"):
            raise ValueError(f"noise is {noise}: must be finite and not negative")
        self.noise = noise
        self.shape = values
        self.values = values.reshape(-1)
        self.white = numpy.zeros(k)
        self.spare = numpy.zeros(k)
        self.covariance.length = k
        self.covariance.diagonal = values.ndim == 1
        self.covariance.values = &self.values[0]
        self.total = float((values**2).sum())
        super().__init__(k, capacity, noise**0.5)

    cdef int push(self) noexcept nogil:
        cdef Py_ssize_t k = self.state.length
        cdef double *word = &self.words[self.state.count, 0]
        cdef int grew
        mmse_whiten(&self.covariance, word, &self.white[0])
        if self.noise > 0:
            self.remaining -= mmse_gain(&self.covariance, self.noise, self.state.solver, &self.white[0],
                                        &self.spare[0])
        grew = self.fold(&self.white[0])
        if grew:
            self.remaining -= mmse_energy(&self.covariance, self.state.right + (self.state.rank - 1) * k)
        return grew

    def gain(self):
        """Return the gain, shape (k, count), float64, which maps payloads to the estimate."""
        inverse = self.pseudoinverse()
        return self.shape[:, None] * inverse if self.shape.ndim == 1 else self.shape @ inverse

    def reset(self):
        """Forget all codewords."""
        Factorisation.reset(self)
        self.remaining = self.total

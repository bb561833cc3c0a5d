"""Optimizer steps that read the decoded gradient in place, and can clear it in the same pass.

The gradient is ``scale * gradient``, which is set to 0 if `clear`. All return the squared norm of the change
of θ.
"""

cimport numpy as cnp
from libc.stdint cimport int32_t

from pdcode.kernels.arrays cimport data_ptr, is_c_contiguous, is_writable, number_of


@kernel
def sgd_step(theta: writeable(real[N]), velocity: writeable(real[V]), gradient: writeable(real[N]),
             scale: double, rate: double, decay: double, gain: double, own: double, keep: double,
             clear: bint) -> double:
    """Compute ``velocity = decay * velocity + gain * g; theta -= rate * (own * g + keep * velocity)``.

    With momentum β, (decay, gain, own, keep) = (β, 1, 0, 1) is the heavy ball, and (β, 1, 1, β) Nesterov's.
    If the velocity is empty, they must be (0, 0, 1, 0), and the step is ``theta -= rate * g``.
    """
    require(V == N or V == 0)
    require(V > 0 or N == 0 or (decay == 0 and gain == 0 and own == 1 and keep == 0))
    return sgd_step(theta, velocity, V, gradient, N, scale, rate, decay, gain, own, keep, clear)


@kernel
def adam_step(theta: writeable(real[N]), first: writeable(real[N]), second: writeable(real[N]),
              gradient: writeable(real[N]), scale: double, rate: double, beta1: double, beta2: double,
              epsilon: double, t: long, clear: bint) -> double:
    """Take step number t, from 1 on, of Adam (Kingma and Ba, ICLR 2015, algorithm 1).

    `first` and `second` are running means of the gradient and of its square.
    """
    require(t >= 1)
    return adam_step(theta, first, second, gradient, N, scale, rate, beta1, beta2, epsilon, t, clear)


@kernel
def schedule_free_step(theta: writeable(real[N]), mean: writeable(real[N]), gradient: real[N], rate: double,
                       share: double, inner: double) -> double:
    """Compute ``base -= rate * g; mean += share * (base - mean)``.

    θ is ``base + inner * (mean - base)`` before and after, and tells the base.
    """
    return schedule_free_step(theta, mean, gradient, N, rate, share, inner)


@kernel
def sgd_blocks(theta: writeable(real[N]), accumulator: writeable(real[N]), blocks: int32_t[c],
               block: Py_ssize_t, factor: double) -> double:
    """Compute ``theta_j -= factor * accumulator_j; accumulator_j = 0`` for the listed blocks only.

    Blocks of so many elements are consecutive, the last one ragged; repeats in the list have no effect.
    """
    return sgd_blocks(theta, accumulator, N, blocks, c, block, factor)


@kernel
def average(mean: writeable(real[N]), theta: real[N], share: double):
    """Compute ``mean += share * (theta - mean)``."""
    average(mean, theta, N, share)


@kernel
def look_ahead(point: writeable(real[N]), theta: real[N], residual: real[N], share: double):
    """Compute ``point = theta - share * residual``."""
    look_ahead(point, theta, residual, N, share)


cdef class Descent:
    """`sgd_blocks` of one θ and one gradient, for the blocks of many codewords in one call.

    Parameters
    ----------
    theta, gradient : ndarray, shape (N,), float32 or float64
    block : int
    """

    def __init__(self, theta, gradient, block):
        cdef int kind = number_of(theta.dtype)
        if not (is_writable(theta, kind, 1) and is_writable(gradient, kind, 1)
                and len(theta) == len(gradient)):
            raise ValueError("theta and gradient must be vectors of one type and length")
        if block < 1:
            raise ValueError(f"block is {block}: must be at least 1")
        self.arrays = theta, gradient
        self.theta, self.gradient, self.wide = data_ptr(theta), data_ptr(gradient), kind == cnp.NPY_FLOAT64
        self.length, self.block = len(theta), block

    def step(self, list touched, double factor, double total):
        """Step the blocks of codewords, arrays of int32, one after another; add squared norms to a total."""
        for indices in touched:
            total = self.take(indices, factor, total)
        return total

    cdef double take(self, indices, double factor, double total) except? -1:
        """Step the blocks of some codewords."""
        if not (is_c_contiguous(indices, cnp.NPY_INT32, 2) or is_c_contiguous(indices, cnp.NPY_INT32, 1)):
            raise ValueError("indices must be C-ordered arrays of int32")
        return total + c_sgd_blocks(self.wide, self.theta, self.gradient, self.length,
                                    <const int32_t *> data_ptr(indices),
                                    cnp.PyArray_SIZE(<cnp.ndarray> indices), self.block, factor)

"""Optimizer steps that read the decoded gradient in place, and can clear it in the same pass."""

cimport numpy as cnp
from libc.math cimport sqrt
from libc.stdint cimport int32_t

from pdcode.kernels.arrays cimport data_ptr, is_c_contiguous, is_writable, number_of
from pdcode.kernels.real cimport real

cnp.import_array()


def sgd_step(real[::1] theta, real[::1] velocity, real[::1] gradient, double scale, double rate,
             double decay, double gain, double own, double keep, bint clear):
    """Compute ``velocity = decay * velocity + gain * g; theta -= rate * (own * g + keep * velocity)``.

    With momentum β, the coefficients (β, 1, 0, 1) are those of the heavy ball, and (β, 1, 1, β) Nesterov's.

    Parameters
    ----------
    theta : array (N,), float32 or float64
        Updated in place.
    velocity : array (N,) or (0,)
        Updated in place. If it is empty, the step is ``theta -= rate * g``.
    gradient : array (N,)
        A multiple of the gradient; set to 0 if `clear`.
    scale : float
        The gradient is g, ``scale * gradient``.
    rate, decay, gain, own, keep : float
        Without velocity the last four must be (0, 0, 1, 0).
    clear : bool

    Returns
    -------
    float
        Squared norm of the change of theta.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit, or the coefficients need a velocity that is empty.
    """
    cdef Py_ssize_t length = theta.shape[0]
    cdef real *state = NULL
    cdef double total
    if gradient.shape[0] != length or velocity.shape[0] != length and velocity.shape[0] != 0:
        raise ValueError("theta and gradient must have the same length, velocity that one or 0")
    if velocity.shape[0] > 0:
        state = &velocity[0]
    elif (decay, gain, own, keep) != (0, 0, 1, 0) and length > 0:
        raise ValueError(f"coefficients {decay, gain, own, keep} need a velocity")
    with nogil:
        if real is float:
            total = sgd_step_f32(&theta[0], state, &gradient[0], length, <float> scale, <float> rate,
                                 <float> decay, <float> gain, <float> own, <float> keep, clear)
        else:
            total = sgd_step_f64(&theta[0], state, &gradient[0], length, scale, rate, decay, gain, own, keep,
                                 clear)
    return total


def adam_step(real[::1] theta, real[::1] first, real[::1] second, real[::1] gradient, double scale,
              double rate, double beta1, double beta2, double epsilon, long t, bint clear):
    """Take a step of Adam (Kingma and Ba, ICLR 2015, algorithm 1).

    Parameters
    ----------
    theta, first, second : array (N,), float32 or float64
        θ, and running means of the gradient and of its square; updated in place.
    gradient : array (N,)
        A multiple of the gradient; set to 0 if `clear`.
    scale : float
        The gradient is ``scale * gradient``.
    rate, beta1, beta2, epsilon : float
    t : int
        Number of this step, from 1.
    clear : bool

    Returns
    -------
    float
        Squared norm of the change of theta.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit, or t < 1.
    """
    cdef Py_ssize_t length = theta.shape[0]
    cdef double total, root
    if first.shape[0] != length or second.shape[0] != length or gradient.shape[0] != length:
        raise ValueError("theta, first, second and gradient must have the same length")
    if t < 1:
        raise ValueError(f"t is {t}: steps are counted from 1")
    rate /= 1 - beta1 ** t
    root = 1 / sqrt(1 - beta2 ** t)
    with nogil:
        if real is float:
            total = adam_step_f32(&theta[0], &first[0], &second[0], &gradient[0], length, <float> scale,
                                  <float> rate, <float> beta1, <float> beta2, <float> epsilon, <float> root,
                                  clear)
        else:
            total = adam_step_f64(&theta[0], &first[0], &second[0], &gradient[0], length, scale, rate, beta1,
                                  beta2, epsilon, root, clear)
    return total


def sgd_blocks(real[::1] theta, real[::1] accumulator, const int32_t[::1] blocks, Py_ssize_t block,
               double factor):
    """Compute ``theta_j -= factor * accumulator_j; accumulator_j = 0`` for the listed blocks only.

    Parameters
    ----------
    theta, accumulator : array (N,), float32 or float64
        Consecutive blocks, the last one ragged. Updated in place.
    blocks : array (c,), int32
        Blocks touched by arrivals; repeats have no effect.
    block : int
        Elements of a block.
    factor : float
        Rate times decoder scale.

    Returns
    -------
    float
        Squared norm of the change of theta.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t length = theta.shape[0]
    cdef double total
    if accumulator.shape[0] != length:
        raise ValueError("theta and accumulator must have the same length")
    with nogil:
        if real is float:
            total = sgd_blocks_f32(&theta[0], &accumulator[0], length, &blocks[0], blocks.shape[0], block,
                                   <float> factor)
        else:
            total = sgd_blocks_f64(&theta[0], &accumulator[0], length, &blocks[0], blocks.shape[0], block,
                                   factor)
    return total


cdef class Descent:
    """`sgd_blocks` of one θ and one gradient, for the blocks of many codewords in one call.

    Parameters
    ----------
    theta, gradient : ndarray, shape (N,), float32 or float64
    block : int

    Raises
    ------
    ValueError
        If shapes, order or types do not fit.
    """

    def __init__(self, theta, gradient, block):
        cdef int kind = number_of(theta.dtype)
        if not (is_writable(theta, kind, 1) and is_writable(gradient, kind, 1)
                and len(theta) == len(gradient)):
            raise ValueError("theta and gradient must be vectors of one type and length")
        if block < 1:
            raise ValueError(f"block is {block}: must be at least 1")
        self.arrays = theta, gradient
        self.theta, self.gradient, self.double = data_ptr(theta), data_ptr(gradient), kind == cnp.NPY_FLOAT64
        self.length, self.block = len(theta), block

    def step(self, list touched, double factor, double total):
        """Step the blocks of codewords, one after another.

        Parameters
        ----------
        touched : list of ndarray of int32, C-ordered
        factor : float
            Of the gradient in the step.
        total : float
            To which squared norms are added.

        Returns
        -------
        float
            The sum.

        Raises
        ------
        ValueError
            If shapes, order or types do not fit.
        """
        for indices in touched:
            total = self.take(indices, factor, total)
        return total

    cdef double take(self, indices, double factor, double total) except? -1:
        """Step the blocks of some codewords."""
        cdef Py_ssize_t count
        if not (is_c_contiguous(indices, cnp.NPY_INT32, 2) or is_c_contiguous(indices, cnp.NPY_INT32, 1)):
            raise ValueError("indices must be C-ordered arrays of int32")
        count = cnp.PyArray_SIZE(<cnp.ndarray> indices)
        if self.double:
            return total + sgd_blocks_f64(<double *> self.theta, <double *> self.gradient, self.length,
                                          <const int32_t *> data_ptr(indices), count, self.block, factor)
        return total + sgd_blocks_f32(<float *> self.theta, <float *> self.gradient, self.length,
                                      <const int32_t *> data_ptr(indices), count, self.block, <float> factor)

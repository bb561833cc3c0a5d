"""Mean loss of a batch and its derivative by the scores, in one pass."""

cimport numpy as cnp
from libc.stdint cimport int32_t

from pdcode.kernels.arrays cimport data_ptr, dim, is_c_contiguous, is_writable

cnp.import_array()


cdef int check(scores, targets, delta, int kind) except -1:
    """Check a batch of numpy's type `kind` of targets: not empty, of one shape; return the type of scores."""
    cdef int number = cnp.NPY_FLOAT64 if is_c_contiguous(scores, cnp.NPY_FLOAT64, 2) else cnp.NPY_FLOAT32
    if not is_c_contiguous(scores, number, 2) or not is_writable(delta, number, 2):
        raise ValueError("scores and delta must be C-ordered matrices of one type, float32 or float64")
    if dim(scores, 0) < 1 or dim(scores, 1) < 1:
        raise ValueError("scores must have at least one sample and one column")
    if dim(delta, 0) != dim(scores, 0) or dim(delta, 1) != dim(scores, 1):
        raise ValueError("scores and delta must have the same shape (B, C)")
    if kind == cnp.NPY_INT32:
        if not is_c_contiguous(targets, kind, 1) or dim(targets, 0) != dim(scores, 0):
            raise ValueError("labels must be int32, with one entry a sample")
    elif (not is_c_contiguous(targets, number, 2) or dim(targets, 0) != dim(scores, 0)
            or dim(targets, 1) != dim(scores, 1)):
        raise ValueError("scores, targets and delta must have the same shape (B, T), and type")
    return number


cdef int check_labels(const int32_t *labels, Py_ssize_t samples, Py_ssize_t bound) except -1:
    """Check that labels are in [0, bound)."""
    cdef Py_ssize_t s
    for s in range(samples):
        if not 0 <= labels[s] < bound:
            raise ValueError(f"label {labels[s]} of sample {s} is not in [0, {bound})")
    return 0


def softmax_loss(scores, labels, delta, double scale):
    """Compute the softmax cross-entropy and its derivative.

    Parameters
    ----------
    scores : array (B, C), float32 or float64
    labels : array (B,), int32
        In [0, C).
    delta : array (B, C)
        Becomes ``scale * (softmax(scores) - onehot(labels)) / B``. May be `scores` itself.
    scale : float

    Returns
    -------
    float
        Mean loss in nats, not scaled.

    Raises
    ------
    ValueError
        If the batch is empty, a label is out of range, or shapes, order or types do not fit.
    """
    cdef Py_ssize_t samples, columns
    cdef double loss
    cdef const void *outputs
    cdef void *out
    cdef int number = check(scores, labels, delta, cnp.NPY_INT32)
    cdef const int32_t *given = <const int32_t *> data_ptr(labels)
    samples, columns = dim(scores, 0), dim(scores, 1)
    check_labels(given, samples, columns)
    outputs, out = data_ptr(scores), data_ptr(delta)
    with nogil:
        if number == cnp.NPY_FLOAT64:
            loss = softmax_loss_f64(<const double *> outputs, given, <double *> out, samples, columns, scale)
        else:
            loss = softmax_loss_f32(<const float *> outputs, given, <float *> out, samples, columns, scale)
    return loss


def logistic_loss(scores, labels, delta, double scale):
    """Compute the logistic loss, ``log(1 + exp(z)) - label * z``, and its derivative.

    Parameters
    ----------
    scores : array (B, 1), float32 or float64
    labels : array (B,), int32
        0 or 1.
    delta : array (B, 1)
        Becomes ``scale * (sigmoid(scores) - labels) / B``. May be `scores` itself.
    scale : float

    Returns
    -------
    float
        Mean loss in nats, not scaled.

    Raises
    ------
    ValueError
        If the batch is empty, a label is not 0 or 1, or shapes, order or types do not fit.
    """
    cdef Py_ssize_t samples
    cdef double loss
    cdef const void *outputs
    cdef void *out
    cdef int number = check(scores, labels, delta, cnp.NPY_INT32)
    cdef const int32_t *given = <const int32_t *> data_ptr(labels)
    samples = dim(scores, 0)
    check_labels(given, samples, 2)
    if dim(scores, 1) != 1:
        raise ValueError("scores and delta must have shape (B, 1)")
    outputs, out = data_ptr(scores), data_ptr(delta)
    with nogil:
        if number == cnp.NPY_FLOAT64:
            loss = logistic_loss_f64(<const double *> outputs, given, <double *> out, samples, scale)
        else:
            loss = logistic_loss_f32(<const float *> outputs, given, <float *> out, samples, scale)
    return loss


ctypedef double (*loss_f32)(const float *, const float *, float *, Py_ssize_t, Py_ssize_t,
                            double) noexcept nogil
ctypedef double (*loss_f64)(const double *, const double *, double *, Py_ssize_t, Py_ssize_t,
                            double) noexcept nogil


cdef double of_targets(scores, targets, delta, double scale, loss_f32 single, loss_f64 wide) except? -1:
    """Compute a loss of real targets in the precision of the arrays."""
    cdef int number = check(scores, targets, delta, cnp.NPY_FLOAT64)
    cdef Py_ssize_t samples = dim(scores, 0), outputs = dim(scores, 1)
    cdef const void *given = data_ptr(scores)
    cdef const void *wanted = data_ptr(targets)
    cdef void *out = data_ptr(delta)
    cdef double loss
    with nogil:
        if number == cnp.NPY_FLOAT64:
            loss = wide(<const double *> given, <const double *> wanted, <double *> out, samples, outputs,
                        scale)
        else:
            loss = single(<const float *> given, <const float *> wanted, <float *> out, samples, outputs,
                          scale)
    return loss


def squared_loss(scores, targets, delta, double scale):
    """Compute half the mean over samples of ``|scores - targets|**2``, and its derivative.

    Parameters
    ----------
    scores, targets : array (B, T), float32 or float64
    delta : array (B, T)
        Becomes ``scale * (scores - targets) / B``. May be `scores` itself.
    scale : float

    Returns
    -------
    float
        Mean loss, not scaled.

    Raises
    ------
    ValueError
        If the batch is empty, or shapes, order or types do not fit.
    """
    return of_targets(scores, targets, delta, scale, squared_loss_f32, squared_loss_f64)


def poisson_loss(scores, targets, delta, double scale):
    """Compute half the mean over samples of the Poisson deviance, and its derivative.

    That is the sum over outputs of ``exp(z) - t * z + t * log(t) - t``, rates being the exponentials of the
    scores z. From z = 80 on exp(z) continues as its tangent, so that it does not overflow.

    Parameters
    ----------
    scores, targets : array (B, T), float32 or float64
        No target t is negative.
    delta : array (B, T)
        Becomes ``scale * (exp(min(scores, 80)) - targets) / B``. May be `scores` itself.
    scale : float

    Returns
    -------
    float
        Mean loss in nats, not scaled.

    Raises
    ------
    ValueError
        If the batch is empty, or shapes, order or types do not fit.
    """
    return of_targets(scores, targets, delta, scale, poisson_loss_f32, poisson_loss_f64)

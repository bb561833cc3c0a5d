"""Mean loss of a batch and its derivative by the scores, in one pass."""

from libc.stdint cimport int32_t

from pdcode.kernels.real cimport real


cdef int check(Py_ssize_t samples, Py_ssize_t classes, const int32_t[::1] labels, Py_ssize_t bound) except -1:
    """Check a batch: not empty, and as many labels as samples, all in [0, bound)."""
    cdef Py_ssize_t s
    if samples < 1 or classes < 1:
        raise ValueError("scores must have at least one sample and one column")
    if labels.shape[0] != samples:
        raise ValueError("labels must have one entry a sample")
    for s in range(samples):
        if not 0 <= labels[s] < bound:
            raise ValueError(f"label {labels[s]} of sample {s} is not in [0, {bound})")
    return 0


cdef int check_targets(const real[:, ::1] scores, const real[:, ::1] targets, real[:, ::1] delta) except -1:
    """Check a batch: not empty, and all arrays of one shape."""
    cdef Py_ssize_t samples = scores.shape[0], outputs = scores.shape[1]
    if samples < 1:
        raise ValueError("scores must have at least one sample")
    if (targets.shape[0] != samples or targets.shape[1] != outputs or delta.shape[0] != samples
            or delta.shape[1] != outputs):
        raise ValueError("scores, targets and delta must have the same shape (B, T)")
    return 0


def softmax_loss(const real[:, ::1] scores, const int32_t[::1] labels, real[:, ::1] delta, double scale):
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
        If the batch is empty, a label is out of range, or shapes, strides or types do not fit.
    """
    cdef Py_ssize_t samples = scores.shape[0], classes = scores.shape[1]
    cdef double loss
    check(samples, classes, labels, classes)
    if delta.shape[0] != samples or delta.shape[1] != classes:
        raise ValueError("scores and delta must have the same shape (B, C)")
    with nogil:
        if real is float:
            loss = softmax_loss_f32(&scores[0, 0], &labels[0], &delta[0, 0], samples, classes, scale)
        else:
            loss = softmax_loss_f64(&scores[0, 0], &labels[0], &delta[0, 0], samples, classes, scale)
    return loss


def logistic_loss(const real[:, ::1] scores, const int32_t[::1] labels, real[:, ::1] delta, double scale):
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
        If the batch is empty, a label is not 0 or 1, or shapes, strides or types do not fit.
    """
    cdef Py_ssize_t samples = scores.shape[0]
    cdef double loss
    check(samples, scores.shape[1], labels, 2)
    if scores.shape[1] != 1 or delta.shape[0] != samples or delta.shape[1] != 1:
        raise ValueError("scores and delta must have shape (B, 1)")
    with nogil:
        if real is float:
            loss = logistic_loss_f32(&scores[0, 0], &labels[0], &delta[0, 0], samples, scale)
        else:
            loss = logistic_loss_f64(&scores[0, 0], &labels[0], &delta[0, 0], samples, scale)
    return loss


def squared_loss(const real[:, ::1] scores, const real[:, ::1] targets, real[:, ::1] delta, double scale):
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
        If the batch is empty, or shapes, strides or types do not fit.
    """
    cdef Py_ssize_t samples = scores.shape[0], outputs = scores.shape[1]
    cdef double loss
    check_targets(scores, targets, delta)
    with nogil:
        if real is float:
            loss = squared_loss_f32(&scores[0, 0], &targets[0, 0], &delta[0, 0], samples, outputs, scale)
        else:
            loss = squared_loss_f64(&scores[0, 0], &targets[0, 0], &delta[0, 0], samples, outputs, scale)
    return loss


def poisson_loss(const real[:, ::1] scores, const real[:, ::1] targets, real[:, ::1] delta, double scale):
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
        If the batch is empty, or shapes, strides or types do not fit.
    """
    cdef Py_ssize_t samples = scores.shape[0], outputs = scores.shape[1]
    cdef double loss
    check_targets(scores, targets, delta)
    with nogil:
        if real is float:
            loss = poisson_loss_f32(&scores[0, 0], &targets[0, 0], &delta[0, 0], samples, outputs, scale)
        else:
            loss = poisson_loss_f64(&scores[0, 0], &targets[0, 0], &delta[0, 0], samples, outputs, scale)
    return loss

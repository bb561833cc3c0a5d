"""Mean loss of a batch and its derivative by the scores, in one pass.

Each loss returns its mean over samples, not scaled, in nats where it is a log-likelihood, and overwrites
`delta`, which may be `scores` itself, by `scale` times the derivative of the mean. Labels are in [0, C), or 0
and 1.
"""


cdef int check_labels(const int32_t *labels, Py_ssize_t samples, Py_ssize_t bound) except -1:
    """Check that labels are in [0, bound)."""
    cdef Py_ssize_t s
    for s in range(samples):
        if not 0 <= labels[s] < bound:
            raise ValueError(f"label {labels[s]} of sample {s} is not in [0, {bound})")
    return 0


@kernel
def softmax_loss(scores: real[B, C], labels: int32_t[B], delta: writeable(real[B, C]),
                 scale: double) -> double:
    """Compute the softmax cross-entropy; delta is ``scale * (softmax(scores) - onehot(labels)) / B``."""
    require(B >= 1 and C >= 1)
    check_labels(labels, B, C)
    return softmax_loss(scores, labels, delta, B, C, scale)


@kernel
def logistic_loss(scores: real[B, 1], labels: int32_t[B], delta: writeable(real[B, 1]),
                  scale: double) -> double:
    """Compute ``log(1 + exp(z)) - label * z``; delta is ``scale * (sigmoid(scores) - labels) / B``."""
    require(B >= 1)
    check_labels(labels, B, 2)
    return logistic_loss(scores, labels, delta, B, scale)


@kernel
def squared_loss(scores: real[B, T], targets: real[B, T], delta: writeable(real[B, T]),
                 scale: double) -> double:
    """Compute half of ``|scores - targets|**2``; delta is ``scale * (scores - targets) / B``."""
    require(B >= 1 and T >= 1)
    return squared_loss(scores, targets, delta, B, T, scale)


@kernel
def poisson_loss(scores: real[B, T], targets: real[B, T], delta: writeable(real[B, T]),
                 scale: double) -> double:
    """Compute half the Poisson deviance; delta is ``scale * (exp(min(scores, 80)) - targets) / B``.

    That is the sum over outputs of ``exp(z) - t * z + t * log(t) - t``, rates being the exponentials of the
    scores z. From z = 80 on exp(z) continues as its tangent, so that it does not overflow. No target t is
    negative.
    """
    require(B >= 1 and T >= 1)
    return poisson_loss(scores, targets, delta, B, T, scale)

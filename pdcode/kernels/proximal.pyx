"""Proximal operators of penalties on single weights, and the change that a step has made."""


@kernel
def shrink(weights: writeable(strided(real[R, C])), threshold: double, factor: double, low: double,
           high: double):
    """Compute ``weights = clip(factor * sign(weights) * max(abs(weights) - threshold, 0), low, high)``.

    With factor 1 and no bounds, which may be infinite, this is the proximal operator of ``threshold`` times
    the l1 norm, with factor 1 / (1 + c) an elastic net's, and with threshold 0 the projection to a box.
    Weights are side by side along either axis.
    """
    require(threshold >= 0)
    require(R == 0 or C == 0 or stride(weights, 0) == 1 or stride(weights, 1) == 1)
    shrink(weights, R, C, stride(weights, 0), stride(weights, 1), threshold, factor, low, high)


@kernel
def displace(before: writeable(real[N]), theta: real[N]) -> double:
    """Compute ``before = theta - before``; return the squared norm of the difference."""
    return displace(before, theta, N)

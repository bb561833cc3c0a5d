"""Activations of hidden units and their derivatives.

That of relu is 0 at 0; gelu is exact, z * Phi(z) with the normal distribution function Phi.
"""


cdef extern from "activation.h":
    enum: PDCODE_RELU, PDCODE_TANH, PDCODE_GELU

KINDS = {"relu": PDCODE_RELU, "tanh": PDCODE_TANH, "gelu": PDCODE_GELU}


@kernel
def forward(kind: int, z: rows(real[B, h]), a: writeable(rows(real[B, h]))):
    """Compute ``a = act(z)``; both may be the same."""
    require(PDCODE_RELU <= kind <= PDCODE_GELU)
    activation_forward(kind, z, stride(z), a, stride(a), B, h)


@kernel
def backward(kind: int, z: rows(real[B, h]), a: rows(real[B, h]), delta: writeable(rows(real[B, h]))):
    """Compute the errors before an activation, ``delta *= act'(z)``, given ``a = act(z)``."""
    require(PDCODE_RELU <= kind <= PDCODE_GELU)
    activation_backward(kind, z, stride(z), a, stride(a), delta, stride(delta), B, h)

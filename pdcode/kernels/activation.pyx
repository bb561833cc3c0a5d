"""Activations of hidden units and their derivatives."""

from pdcode.kernels.real cimport real, row_stride

RELU = PDCODE_RELU
TANH = PDCODE_TANH
GELU = PDCODE_GELU
KINDS = {"relu": RELU, "tanh": TANH, "gelu": GELU}


def forward(int kind, const real[:, :] z, real[:, :] out):
    """Compute ``out = act(z)``.

    Parameters
    ----------
    kind : int
        RELU, TANH or GELU (exact: z * Phi(z), Phi the normal distribution function).
    z : array (B, h), float32 or float64
    out : array (B, h)
        Each row contiguous, with any stride between rows, e.g. part of a matrix with a column of ones. May
        be `z` itself.

    Raises
    ------
    ValueError
        If kind is unknown or shapes, strides or types do not fit.
    """
    cdef Py_ssize_t stride = row_stride[real](z), out_stride = row_stride[real](out)
    if not PDCODE_RELU <= kind <= PDCODE_GELU:
        raise ValueError(f"kind is {kind}: must be RELU, TANH or GELU")
    if out.shape[0] != z.shape[0] or out.shape[1] != z.shape[1]:
        raise ValueError("z and out must have the same shape (B, h)")
    with nogil:
        if real is float:
            activation_forward_f32(kind, &z[0, 0], stride, &out[0, 0], out_stride, z.shape[0], z.shape[1])
        else:
            activation_forward_f64(kind, &z[0, 0], stride, &out[0, 0], out_stride, z.shape[0], z.shape[1])


def backward(int kind, const real[:, :] z, const real[:, :] a, real[:, :] delta):
    """Compute ``delta *= act'(z)`` in place.

    Parameters
    ----------
    kind : int
        RELU (derivative 0 at 0), TANH or GELU.
    z : array (B, h), float32 or float64
    a : array (B, h)
        ``act(z)``, from `forward`.
    delta : array (B, h)
        All three with contiguous rows, with any stride between rows.

    Raises
    ------
    ValueError
        If kind is unknown or shapes, strides or types do not fit.
    """
    cdef Py_ssize_t z_stride = row_stride[real](z), a_stride = row_stride[real](a)
    cdef Py_ssize_t stride = row_stride[real](delta)
    cdef Py_ssize_t samples = z.shape[0], units = z.shape[1]
    if not PDCODE_RELU <= kind <= PDCODE_GELU:
        raise ValueError(f"kind is {kind}: must be RELU, TANH or GELU")
    if a.shape[0] != samples or a.shape[1] != units or delta.shape[0] != samples or delta.shape[1] != units:
        raise ValueError("z, a and delta must have the same shape (B, h)")
    with nogil:
        if real is float:
            activation_backward_f32(kind, &z[0, 0], z_stride, &a[0, 0], a_stride, &delta[0, 0], stride,
                                    samples, units)
        else:
            activation_backward_f64(kind, &z[0, 0], z_stride, &a[0, 0], a_stride, &delta[0, 0], stride,
                                    samples, units)

"""Inputs of a layer less their running mean, and gradients by them carried back (`problems.layers`)."""


@kernel
def centre(inputs: real[B, w + 1], mean: writeable(real[w]), count: writeable(int64_t[1]), least: double,
           centred: writeable(real[B, w + 1]), carried: writeable(real[B, w + 1])):
    """Count a batch of inputs (a, 1) in their mean; compute (a - mean, 1), and the form carried back.

    That is (a - mean, 1 - mean·(a - mean)), by which a gradient has the bias of inputs that are not centred.
    Batches count alike until the share of the last one would be below `least`.
    """
    require(B >= 1)
    require(count[0] >= 0)
    centre(inputs, B, w, mean, count, least, centred, carried)


@kernel
def centre_columns(mean: real[w], gradient: writeable(real[k, w + 1])):
    """Make a gradient one by centred inputs: subtract the last column times the mean from the others."""
    centre_columns(mean, w, gradient, k)


@kernel
def centre_rows(mean: real[w], gradient: writeable(real[w + 1, k])):
    """Make a gradient one by centred inputs: subtract the last row times the mean from the others."""
    centre_rows(mean, w, gradient, k)


@kernel
def carry_columns(mean: real[w], gradient: writeable(real[k, w + 1])):
    """Subtract from the last column of a gradient by centred inputs the others times the mean."""
    carry_columns(mean, w, gradient, k)


@kernel
def carry_rows(mean: real[w], gradient: writeable(real[w + 1, k])):
    """Subtract from the last row of a gradient by centred inputs the others times the mean."""
    carry_rows(mean, w, gradient, k)

"""Detection of NaN, infinity, and magnitudes that no payload may have."""


@kernel
def all_finite(values: real[N]) -> bint:
    """Return whether all elements are finite."""
    return all_finite(values, N)


@kernel
def all_usable(values: real[N]) -> bint:
    """Return whether all magnitudes are below 2⁶⁰ (float32) or 2⁴⁸⁰ (float64), as in payloads."""
    return all_usable(values, N)

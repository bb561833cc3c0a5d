"""Detection of NaN and infinity."""


@kernel
def all_finite(values: real[N]) -> bint:
    """Return whether all elements are finite."""
    return all_finite(values, N)

"""Order statistics of payloads, element by element, read in place from their receive buffers."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

from pdcode.kernels.real cimport real


def middle_mean(const uint64_t[::1] addresses, Py_ssize_t low, Py_ssize_t high, real[::1] out):
    """Write the mean of the ranks `low` to `high` - 1 of the payloads' elements, at each place.

    Parameters
    ----------
    addresses : array (q,), uint64
        Address of each payload, from `combine.locate`. Unchecked: the caller keeps the payloads alive and as
        long as `out`. Their elements must be finite.
    low, high : int
        From 0 ≤ low < high ≤ q; q // 2 and q // 2 + 1, of an odd q, give the median.
    out : array (N,), float32 or float64
        Overwritten; must not overlap the payloads.

    Raises
    ------
    ValueError
        If the ranks do not fit.
    MemoryError
        If there is no room for 256 elements of each payload.
    """
    cdef Py_ssize_t vectors = addresses.shape[0]
    cdef void *room
    if not 0 <= low < high <= vectors:
        raise ValueError(f"ranks {low} to {high} of {vectors} payloads")
    room = malloc(vectors * ORDER_TILE * sizeof(real))
    if room == NULL:
        raise MemoryError()
    with nogil:
        if real is float:
            middle_mean_f32(&addresses[0], vectors, out.shape[0], low, high, room, &out[0])
        else:
            middle_mean_f64(&addresses[0], vectors, out.shape[0], low, high, room, &out[0])
    free(room)

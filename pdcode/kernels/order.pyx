"""Order statistics of payloads, element by element, read in place from their receive buffers."""


cdef extern from "order.h":
    enum: ORDER_TILE

TILE = ORDER_TILE
"""Elements of each payload for which `middle_mean` needs room."""


@kernel
def middle_mean(addresses: uint64_t[q], low: Py_ssize_t, high: Py_ssize_t, out: writeable(real[N]),
                room: writeable(real[q, tile])):
    """Write the mean of the ranks `low` to `high` - 1 of the payloads' elements, at each place.

    Ranks q // 2 and q // 2 + 1, of an odd q, give the median. Addresses, from `combine.locate`, are not
    checked: the caller keeps the payloads alive and as long as `out`, which must not overlap them. Their
    elements must be finite.
    """
    require(0 <= low < high <= q and tile == ORDER_TILE)
    middle_mean(addresses, q, N, low, high, room, out)

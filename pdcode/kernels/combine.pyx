"""Linear combinations of payloads, read in place from their receive buffers."""


@kernel
def locate(payload: real[r, N], addresses: writeable(uint64_t[q]), position: Py_ssize_t):
    """Write the addresses of a payload's rows: ``addresses[position + i] = address of payload[i]``."""
    require(0 <= position <= q - r)
    locate(payload, r, N, addresses, position)


@kernel
def combine(addresses: uint64_t[q], start: Py_ssize_t, matrix: real[q, k], out: writeable(rows(real[k, T]))):
    """Compute ``out[j] = sum_i matrix[i, j] * payload_i[start:start + T]``, the payloads given by address.

    Addresses, from `locate`, are not checked: the caller keeps the payloads alive and long enough. out must
    not overlap them. The result is bit-identical for any processor, column split and addresses.
    """
    require(start >= 0)
    combine(addresses, q, start, T, matrix, k, out, stride(out))

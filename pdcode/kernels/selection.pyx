"""Selection of elements of a vector, the largest or random ones, and their indices in few bits."""


@kernel
def largest(vector: real[N], chunk: Py_ssize_t, most: Py_ssize_t, out: writeable(int32_t[n]),
            values: writeable(real[S]), places: writeable(int32_t[S])):
    """Write the ascending indices of the `most` elements of largest magnitude in each chunk of a vector.

    Of equal magnitudes the first ones are taken: the result is a function of the vector alone. NaN counts as
    larger than infinity. The last chunk may be short: all its elements are taken, if there are fewer. With
    scratch (values, places) of at least 4 * most + 256, the vector is usually read once.
    """
    require(chunk >= 1 and most >= 1)
    require(n == N // chunk * min(most, chunk) + min(most, N % chunk))
    selection_largest(vector, N, chunk, most, out, values, places, S)


@kernel
def sample(bound: int32_t, out: writeable(int32_t[N]), seed: uint64_t, stream: uint64_t, worker: uint64_t,
           task: uint64_t, part: uint64_t, marks: writeable(uint64_t[M])):
    """Draw N distinct integers in [0, bound), ascending; all sets of as many are equally likely.

    Marks are scratch, a bit for each integer: zero, and zero afterwards.
    """
    require(N <= bound <= 64 * M)
    selection_sample(bound, out, N, [seed, stream], [part, worker, task], marks)


@kernel
def size(count: Py_ssize_t, bits: int) -> Py_ssize_t:
    """Return the bytes of `count` numbers of so many bits, packed by `pack`: at most three bytes more."""
    require(0 <= bits <= 31 and count >= 0)
    return selection_bytes(count, bits)


@kernel
def pack(numbers: int32_t[N], bits: int, out: writeable(uint8_t[bytes])):
    """Pack numbers from 0 to 2**bits - 1 into bits; higher bits are lost."""
    require(0 <= bits <= 31 and bytes == c_selection_bytes(N, bits))
    selection_pack(numbers, N, bits, out)


@kernel
def unpack(packed: uint8_t[bytes], bits: int, out: writeable(int32_t[N])):
    """Unpack what `pack` has packed."""
    require(0 <= bits <= 31 and bytes == c_selection_bytes(N, bits))
    selection_unpack(packed, N, bits, out)

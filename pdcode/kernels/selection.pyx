"""Selection of elements of a vector, the largest or random ones, and their indices in few bits."""

from libc.stdint cimport int32_t, uint8_t, uint64_t

from pdcode.kernels.real cimport real


def largest(const real[::1] vector, Py_ssize_t chunk, Py_ssize_t most, int32_t[::1] out, real[::1] values,
            int32_t[::1] places):
    """Find the elements of largest magnitude in each chunk of a vector.

    Of equal magnitudes the first ones are taken: the result is a function of the vector alone. NaN counts as
    larger than infinity.

    Parameters
    ----------
    vector : array (N,), float32 or float64
    chunk : int
        Elements of a chunk; the last one may be short.
    most : int
        Elements to take of each chunk; of a short one all, if it has fewer.
    out : array, int32
        Overwritten with their indices, ascending; as long as there are.
    values : array (S,), of vector's type
    places : array (S,), int32
        Scratch. With S of at least 4 * most + 256, the vector is usually read once.

    Raises
    ------
    ValueError
        If shapes, strides or types do not fit.
    """
    cdef Py_ssize_t length = vector.shape[0]
    if chunk < 1 or most < 1:
        raise ValueError(f"chunk and most are {chunk} and {most}: must be at least 1")
    cdef Py_ssize_t last = length % chunk
    cdef Py_ssize_t needed = length // chunk * min(most, chunk) + min(most, last)
    if out.shape[0] != needed:
        raise ValueError(f"out has {out.shape[0]} elements: must have {needed}")
    if places.shape[0] != values.shape[0]:
        raise ValueError("values and places must have the same length")
    with nogil:
        if real is float:
            selection_largest_f32(&vector[0], length, chunk, most, &out[0], &values[0], &places[0],
                                  values.shape[0])
        else:
            selection_largest_f64(&vector[0], length, chunk, most, &out[0], &values[0], &places[0],
                                  values.shape[0])


def sample(int32_t bound, int32_t[::1] out, uint64_t seed, uint64_t stream, uint64_t worker, uint64_t task,
           uint64_t part, uint64_t[::1] marks):
    """Draw distinct integers in [0, bound), ascending; all sets of as many are equally likely.

    Parameters
    ----------
    bound : int
    out : array (N,), int32
        Overwritten. N ≤ bound.
    seed, stream, worker, task, part : int
        Keys of the random numbers.
    marks : array (≥ bound / 64,), uint64
        Scratch: zero, and zero afterwards.

    Raises
    ------
    ValueError
        If N > bound, or `marks` is too short.
    OverflowError
        If a key is negative or does not fit 64 bits.
    """
    cdef uint64_t[2] key = [seed, stream]
    cdef uint64_t[3] place = [part, worker, task]
    if out.shape[0] > bound:
        raise ValueError(f"there are no {out.shape[0]} distinct integers below {bound}")
    if marks.shape[0] < (bound + 63) // 64:
        raise ValueError(f"marks has {marks.shape[0]} words: must have {(bound + 63) // 64}")
    with nogil:
        selection_sample(bound, &out[0], out.shape[0], key, place, &marks[0])


def size(Py_ssize_t count, int bits):
    """Return the bytes of `count` numbers of so many bits, packed by `pack`.

    They are those bits, and at most three bytes more.

    Raises
    ------
    ValueError
        If bits is not from 0 to 31, or count negative.
    """
    if not 0 <= bits <= 31 or count < 0:
        raise ValueError(f"count and bits are {count} and {bits}: not negative, at most 31 bits")
    return selection_bytes(count, bits)


def pack(const int32_t[::1] numbers, int bits, uint8_t[::1] out):
    """Pack numbers into bits.

    Parameters
    ----------
    numbers : array (N,), int32
        From 0 to 2**bits - 1; higher bits are lost.
    bits : int
        0 to 31.
    out : array (size(N, bits),), uint8
        Overwritten.

    Raises
    ------
    ValueError
        If the length does not fit.
    """
    if out.shape[0] != size(numbers.shape[0], bits):
        raise ValueError(f"out has {out.shape[0]} bytes: must have {size(numbers.shape[0], bits)}")
    with nogil:
        selection_pack(&numbers[0], numbers.shape[0], bits, &out[0])


def unpack(const uint8_t[::1] packed, int bits, int32_t[::1] out):
    """Unpack what `pack` has packed.

    Parameters
    ----------
    packed : array (size(N, bits),), uint8
    bits : int
    out : array (N,), int32
        Overwritten.

    Raises
    ------
    ValueError
        If the length does not fit.
    """
    if packed.shape[0] != size(out.shape[0], bits):
        raise ValueError(f"packed has {packed.shape[0]} bytes: must have {size(out.shape[0], bits)}")
    with nogil:
        selection_unpack(&packed[0], out.shape[0], bits, &out[0])

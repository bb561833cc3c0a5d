"""Selection of elements of a vector."""

from libc.stdint cimport int32_t

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

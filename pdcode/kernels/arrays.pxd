"""Access to numpy arrays that costs less than a memoryview; callers call import_array."""

cimport numpy as cnp


cdef inline bint is_c_contiguous(array, int kind, int dimensions) noexcept:
    """Return whether an object is an aligned, C-ordered array of this native type and dimension."""
    return (
        cnp.PyArray_Check(array) and cnp.PyArray_TYPE(<cnp.ndarray> array) == kind
        and cnp.PyArray_NDIM(<cnp.ndarray> array) == dimensions
        and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray> array)
    )


cdef inline bint is_writable(array, int kind, int dimensions) noexcept:
    """Return whether an object is such an array, and writeable."""
    return is_c_contiguous(array, kind, dimensions) and cnp.PyArray_ISWRITEABLE(<cnp.ndarray> array)


cdef inline bint is_strided(array, int kind, int dimensions) noexcept:
    """Return whether an object is an aligned array whose strides are whole numbers of elements."""
    cdef int axis
    if not (cnp.PyArray_Check(array) and cnp.PyArray_TYPE(<cnp.ndarray> array) == kind
            and cnp.PyArray_NDIM(<cnp.ndarray> array) == dimensions
            and cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray> array)):
        return False
    for axis in range(dimensions):
        if dim(array, axis) > 1 and cnp.PyArray_STRIDE(<cnp.ndarray> array, axis) % itemsize(array):
            return False
    return True


cdef inline bint has_rows(array, int kind, int dimensions) noexcept:
    """Return whether an object is such a matrix, each row contiguous."""
    return is_strided(array, kind, dimensions) and (
        stride(array, 1) == 1 or dim(array, 1) <= 1 or dim(array, 0) == 0)


cdef inline cnp.npy_intp itemsize(array) noexcept:
    """Return the bytes of an element."""
    return cnp.PyArray_ITEMSIZE(<cnp.ndarray> array)


cdef inline cnp.npy_intp dim(array, int axis) noexcept:
    """Return the size of an array along an axis."""
    return cnp.PyArray_DIM(<cnp.ndarray> array, axis)


cdef inline cnp.npy_intp stride(array, int axis) noexcept:
    """Return the elements from one index of an axis to the next."""
    return cnp.PyArray_STRIDE(<cnp.ndarray> array, axis) // itemsize(array)


cdef inline void *data_ptr(array) noexcept:
    """Return the memory of an array; NULL for None."""
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray> array)


cdef inline bint aligned(const void *data) noexcept:
    """Return whether data begin at a multiple of 8 bytes."""
    return <size_t> data % 8 == 0


cdef inline bint same_shape(first, second) noexcept:
    """Return whether two matrices have the same shape."""
    return dim(first, 0) == dim(second, 0) and dim(first, 1) == dim(second, 1)


cdef inline int kind_of(array) noexcept:
    """Return numpy's number of float64 for an array of that type, of float32 for all other objects."""
    if cnp.PyArray_Check(array) and cnp.PyArray_TYPE(<cnp.ndarray> array) == cnp.NPY_FLOAT64:
        return cnp.NPY_FLOAT64
    return cnp.NPY_FLOAT32


cdef inline int number_of(dtype) except -1:
    """Return numpy's number of float32 or float64, in this machine's order of bytes."""
    kind = cnp.dtype(dtype)
    if kind.num not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64) or not kind.isnative:
        raise ValueError(f"dtype is {dtype}: kernels exist for float32 and float64")
    return kind.num

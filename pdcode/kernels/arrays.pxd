"""Access to numpy arrays that costs less than a memoryview; callers call import_array."""

cimport numpy as cnp

from pdcode.kernels.real cimport row_stride


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


cdef inline cnp.npy_intp dim(array, int axis) noexcept:
    """Return the size of an array along an axis."""
    return cnp.PyArray_DIM(<cnp.ndarray> array, axis)


cdef inline void *data_ptr(array) noexcept:
    """Return the memory of an array."""
    return cnp.PyArray_DATA(<cnp.ndarray> array)


cdef inline bint same_shape(first, second) noexcept:
    """Return whether two matrices have the same shape."""
    return dim(first, 0) == dim(second, 0) and dim(first, 1) == dim(second, 1)


cdef inline int number_of(dtype) except -1:
    """Return numpy's number of float32 or float64, in this machine's order of bytes."""
    kind = cnp.dtype(dtype)
    if kind.num not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64) or not kind.isnative:
        raise ValueError(f"dtype is {dtype}: kernels exist for float32 and float64")
    return kind.num


cdef inline Py_ssize_t stride_of(matrix, int kind) except? -1:
    """Return the elements from one row of a matrix of numpy's type `kind` to the next; see `row_stride`."""
    if not cnp.PyArray_Check(matrix) or cnp.PyArray_TYPE(<cnp.ndarray> matrix) != kind or matrix.ndim != 2:
        raise ValueError("matrices must be of one type, float32 or float64")
    return row_stride[double](matrix) if kind == cnp.NPY_FLOAT64 else row_stride[float](matrix)

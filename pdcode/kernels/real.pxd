"""The two precisions of the kernels, and the stride check of matrices."""

ctypedef fused real:
    float
    double


cdef inline Py_ssize_t row_stride(const real[:, :] matrix) except? -1:
    """Return the elements from one row of a matrix to the next; rows must be contiguous."""
    if matrix.shape[1] > 1 and matrix.strides[1] != sizeof(real):
        raise ValueError("a row of the matrix must be contiguous: its inner stride is not one element")
    if matrix.shape[0] > 1 and matrix.strides[0] % <Py_ssize_t> sizeof(real):
        raise ValueError("the row stride of the matrix is not a whole number of elements")
    return matrix.strides[0] // <Py_ssize_t> sizeof(real)

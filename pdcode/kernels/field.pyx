"""Arithmetic modulo a prime p < 2⁶¹: matrix products, Lagrange's basis, and decoding of Reed–Solomon codes.

Arrays hold residues, uint64, from 0 to p - 1; neither that nor whether p is a prime is checked: others give
wrong numbers. 2³¹ - 1 and 2⁶¹ - 1 are reduced by shifts, other primes by a division for every 64 products.
"""

from libc.stdint cimport int64_t, uint64_t

LARGEST = 1 << 61  # bound of p


cdef int check(uint64_t p, bint fits) except -1:
    if not 3 <= p < <uint64_t>1 << 61:
        raise ValueError(f"p is {p}: it must be from 3 to 2^61 - 1")
    if not fits:
        raise ValueError("shapes do not fit")
    return 0


def product(const uint64_t[:, ::1] a, const uint64_t[:, ::1] b, uint64_t p, uint64_t[:, ::1] out):
    """Compute out = a @ b mod p, reading a few long rows of b once: to encode, and for Xᵀ r.

    Parameters
    ----------
    a, b : array (M, K) and (K, N), uint64
    p : int
    out : array (M, N), uint64
        Overwritten; must not overlap the others.

    Raises
    ------
    ValueError
        If shapes do not fit, or p is out of range.
    """
    cdef Py_ssize_t rows = a.shape[0], inner = a.shape[1], columns = b.shape[1]
    check(p, b.shape[0] == inner and out.shape[0] == rows and out.shape[1] == columns)
    if rows and inner and columns:
        with nogil:
            field_product(&a[0, 0], &b[0, 0], rows, inner, columns, p, &out[0, 0])
    else:
        out[:, :] = 0


def product_transposed(const uint64_t[:, ::1] a, const uint64_t[:, ::1] b, uint64_t p, uint64_t[:, ::1] out):
    """Compute out = a @ bᵀ mod p: inner products of rows.

    Parameters
    ----------
    a, b : array (M, K) and (N, K), uint64
    p : int
    out : array (M, N), uint64
        Overwritten; must not overlap the others.

    Raises
    ------
    ValueError
        If shapes do not fit, or p is out of range.
    """
    cdef Py_ssize_t rows = a.shape[0], inner = a.shape[1], columns = b.shape[0]
    check(p, b.shape[1] == inner and out.shape[0] == rows and out.shape[1] == columns)
    if rows and inner and columns:
        with nogil:
            field_product_transposed(&a[0, 0], &b[0, 0], rows, inner, columns, p, &out[0, 0])
    else:
        out[:, :] = 0


def multiply(const uint64_t[::1] a, const uint64_t[::1] b, uint64_t p, uint64_t[::1] out):
    """Compute out = a · b mod p, element by element.

    Parameters
    ----------
    a, b : array (N,), uint64
    p : int
    out : array (N,), uint64
        Overwritten; may be one of the others.

    Raises
    ------
    ValueError
        If lengths differ, or p is out of range.
    """
    cdef Py_ssize_t length = a.shape[0]
    check(p, b.shape[0] == length and out.shape[0] == length)
    if length:
        with nogil:
            field_multiply(&a[0], &b[0], length, p, &out[0])


def basis(const uint64_t[::1] points, const uint64_t[::1] targets, uint64_t p, uint64_t[:, ::1] out,
          uint64_t[::1] weights):
    """Compute the polynomials of Lagrange's basis at targets: out[t, i] = Π_{j ≠ i} (t - x_j) / (x_i - x_j).

    Parameters
    ----------
    points, targets : array (n,) and (m,), uint64
        Distinct points x, and where to evaluate, which may be points, too.
    p : int
    out : array (m, n), uint64
        Overwritten.
    weights : array (n,), uint64
        Overwritten: Π_{j ≠ i} 1 / (x_i - x_j).

    Raises
    ------
    ValueError
        If shapes do not fit, or p is out of range.
    """
    cdef Py_ssize_t count = points.shape[0], rows = targets.shape[0]
    check(p, count > 0 and rows > 0 and out.shape[0] == rows and out.shape[1] == weights.shape[0] == count)
    with nogil:
        field_basis(&points[0], count, &targets[0], rows, p, &weights[0], &out[0, 0])


def errors(const uint64_t[::1] points, const uint64_t[::1] word, Py_ssize_t dimension, uint64_t p,
           uint64_t[::1] room, int64_t[::1] wrong):
    """Find the wrong values of a polynomial, in O(n²).

    Gao, "A new algorithm for decoding Reed–Solomon codes", in "Communications, Information and Network
    Security", Kluwer 2003.

    Parameters
    ----------
    points, word : array (n,), uint64
        Distinct points, and the values there.
    dimension : int
        Number of coefficients k of the polynomial, from 1 to n.
    p : int
    room : array (5n + 5,), uint64
        Overwritten.
    wrong : array (n,), int64
        Its first elements become the places of the wrong values, ascending.

    Returns
    -------
    int
        How many are wrong, at most (n - k) / 2; -1 if no polynomial agrees with all others.

    Raises
    ------
    ValueError
        If shapes do not fit, or k or p are out of range.
    """
    cdef Py_ssize_t count = points.shape[0], found
    check(p, word.shape[0] == wrong.shape[0] == count and room.shape[0] >= 5 * count + 5)
    if not 1 <= dimension <= count:
        raise ValueError(f"a polynomial of {dimension} coefficients by {count} values")
    with nogil:
        found = field_errors(&points[0], &word[0], count, dimension, p, &room[0], &wrong[0])
    return found

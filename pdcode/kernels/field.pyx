"""Arithmetic modulo a prime p < 2⁶¹: matrix products, Lagrange's basis, and decoding of Reed–Solomon codes.

Arrays hold residues, from 0 to p - 1; neither that nor whether p is a prime is checked: others give wrong
numbers. 2³¹ - 1 and 2⁶¹ - 1 are reduced by shifts, other primes by a division for every 64 products. An array
that is overwritten must not overlap the rest, but for `multiply`.
"""

LARGEST = 1 << 61  # bound of p


@kernel
def product(a: uint64_t[M, K], b: uint64_t[K, N], p: uint64_t, out: writeable(uint64_t[M, N])):
    """Compute out = a @ b mod p, reading a few long rows of b once: to encode, and for Xᵀ r."""
    require(3 <= p < 1 << 61)
    field_product(a, b, M, K, N, p, out)


@kernel
def product_transposed(a: uint64_t[M, K], b: uint64_t[N, K], p: uint64_t, out: writeable(uint64_t[M, N])):
    """Compute out = a @ bᵀ mod p: inner products of rows."""
    require(3 <= p < 1 << 61)
    field_product_transposed(a, b, M, K, N, p, out)


@kernel
def multiply(a: uint64_t[N], b: uint64_t[N], p: uint64_t, out: writeable(uint64_t[N])):
    """Compute out = a · b mod p, element by element; out may be one of the others."""
    require(3 <= p < 1 << 61)
    field_multiply(a, b, N, p, out)


@kernel
def basis(points: uint64_t[n], targets: uint64_t[m], p: uint64_t, out: writeable(uint64_t[m, n]),
          weights: writeable(uint64_t[n])):
    """Compute the polynomials of Lagrange's basis at targets: out[t, i] = Π_{j ≠ i} (t - x_j) / (x_i - x_j).

    Points x are distinct; targets may be points, too. Weights become Π_{j ≠ i} 1 / (x_i - x_j).
    """
    require(3 <= p < 1 << 61 and n >= 1 and m >= 1)
    field_basis(points, n, targets, m, p, weights, out)


@kernel
def errors(points: uint64_t[n], word: uint64_t[n], dimension: Py_ssize_t, p: uint64_t,
           room: writeable(uint64_t[s]), wrong: writeable(int64_t[n])) -> Py_ssize_t:
    """Find the wrong values of a polynomial of so many coefficients k, given at distinct points, in O(n²).

    Gao, "A new algorithm for decoding Reed–Solomon codes", in "Communications, Information and Network
    Security", Kluwer 2003. The first elements of `wrong` become the places of the wrong values, ascending;
    room needs 5n + 5 numbers. Returns how many are wrong, at most (n - k) / 2; -1 if no polynomial agrees
    with all others.
    """
    require(3 <= p < 1 << 61 and 1 <= dimension <= n and s >= 5 * n + 5)
    return field_errors(points, word, n, dimension, p, room, wrong)

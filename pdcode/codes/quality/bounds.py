"""Lower bounds on the coherence μ of n lines in R^k, with and without a limit w on the weight."""

from math import inf, sqrt


def welch(n: int, k: int) -> float:
    """Return Welch's bound √((n-k)/(k(n-1))), reached exactly by equiangular tight frames.

    Welch, IEEE Trans. Inf. Theory 1974.
    """
    return sqrt((n - k) / (k * (n - 1))) if n > k else 0.0


def orthoplex(n: int, k: int) -> float:
    """Return the orthoplex bound 1/√k for n > k(k+1)/2, else 0 (does not apply).

    Rankin 1955; Conway, Hardin, Sloane 1996.
    """
    return 1 / sqrt(k) if 2 * n > k * (k + 1) else 0.0


def levenshtein(n: int, k: int) -> float:
    """Return Levenshtein's bound (1983, real case) √((3n-k²-2k)/((k+2)(n-k))) for n > k(k+1)/2, else 0."""
    return sqrt((3 * n - k * k - 2 * k) / ((k + 2) * (n - k))) if 2 * n > k * (k + 1) and n > k else 0.0


def bukh_cox(n: int, k: int) -> float:
    """Return Bukh and Cox's bound, real case: c(c+1) / (2n + n(c-1)√(c+2) - c(c+1)), c = n - k.

    "Nearly orthogonal vectors and small antipodal spherical codes", Israel J. Math. 2020; the best bound for
    n near k.
    """
    c = n - k
    return c * (c + 1) / (2 * n + n * (c - 1) * sqrt(c + 2) - c * (c + 1)) if c > 0 and k > 1 else 0.0


def weight_limited(n: int, k: int, w: int) -> float:
    """Return the bound (n-k)/(nw-k) for rows of at most w nonzeros."""
    return (n - k) / (n * w - k) if n > k else 0.0


def weight_regular(n: int, k: int, w: int) -> float:
    """Return the bound √((n-k)/(w(nw-k))) for weight w, if each block is in equally many rows."""
    return sqrt((n - k) / (w * (n * w - k))) if n > k else 0.0


def max_flat_rows(k: int, w: int) -> float:
    """Return an upper bound on the number of rows of w entries ±1/√w with inner products at most 1/w.

    It is k(k-1)/(w-1), reached by full nets. For odd w it is (w+1)/w times that, reached by simplices on the
    lines of AG(2, 3). Let x = √w g. The sum over a ≠ b of (Σ_i x_ia x_ib)² is that over i, i' of (x_i·x_i')²
    - s, where s blocks are in both supports: w² - w for i = i', else at most 0 for even s and 1 - s for odd
    s, hence at most -s(s-1)/(w-1), or -s(s-1)/w if w is odd. This sum is not negative, so n(w²-w) is at least
    that fraction of Σ s(s-1) = Σ m(m-1), where m rows contain both blocks a and b; and the mean of m is
    n(w²-w)/(k²-k).
    """
    if w == 1:
        return inf
    return k * (k - 1) / (w - 1) if w % 2 == 0 else k * (k - 1) * (w + 1) / (w * (w - 1))


def weight_flat(n: int, k: int, w: int) -> float:
    """Return the bound for rows of w entries ±1/√w: 1/w for n > k, 2/w for n > `max_flat_rows`.

    Inner products are multiples of 1/w, and not all zero for n > k.
    """
    return 0.0 if n <= k else 1 / w if n <= max_flat_rows(k, w) else min(2 / w, 1.0)


def bounds(n: int, k: int, weight: int, regular: bool, flat: bool) -> dict[str, float]:
    """Compute all bounds that hold for a code: name → lower bound on μ, 0 if a bound does not apply.

    The last two are included only for a `regular` code (each block is in equally many rows) and for a `flat`
    one (all nonzeros have the magnitude 1/√w).
    """
    values = {
        "welch": welch(n, k),
        "orthoplex": orthoplex(n, k),
        "levenshtein": levenshtein(n, k),
        "bukh-cox": bukh_cox(n, k),
        "weight": weight_limited(n, k, weight),
    }
    if regular:
        values["weight-regular"] = weight_regular(n, k, weight)
    if flat:
        values["weight-flat"] = weight_flat(n, k, weight)
    return values

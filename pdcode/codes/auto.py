"""The best code that fits: `design("auto", …)`."""

from __future__ import annotations

from math import inf, log1p, log2
from typing import Any, NamedTuple

import numpy as np

from .code import Code
from .registry import FAMILIES
from .sizes import Shape, fitted

MEASURED = 5  # designs that are made and compared
MARGIN = 24  # further blocks that a design may have before they are cut
USUAL_WEIGHT = 4  # of section 7's default code; of equally good codes the one nearest to it is taken
ALIKE = 1.5  # ratio of the information between codewords up to which the flatness of the frame decides
POOR = 0.6  # coherence from which on random rows may be better
LARGE = 1 << 30  # multiplications of a Gram matrix from which on no code is measured


class Candidate(NamedTuple):
    """A design that may be fitted to the wanted size."""

    coherence: float  # of the whole design: what it has at best when it is fitted
    changed: int  # how it is fitted: 0 not at all, 1 rows cut, 2 blocks cut, 3 rows added
    distance: float  # of the weight from the usual one, in powers of 2
    special: bool  # whether it is another than the usual family, the net
    family: str
    options: dict[str, Any]
    size: tuple[int, int, int]


def _candidate(family: str, shape: Shape, n: int, k: int, designed: int) -> Candidate:
    rows = n if designed == k and fitted(shape, n) == n else _whole_rows(shape, n, k, designed)
    coherence = FAMILIES[family].coherence(rows, designed, shape.weight)
    if n > k and not coherence:  # unknown, or of one basis that is to be filled up: as of random rows
        coherence = min(1.0, np.sqrt(2 * log2(n) / designed))
    changed = 2 if designed > k else 0 if rows == n else 1 if rows > n else 3
    distance = abs(log2(shape.weight / USUAL_WEIGHT))
    size = rows, designed, shape.weight
    return Candidate(round(float(coherence or 0.0), 12), changed, distance, family != "net", family, {}, size)


def _whole_rows(shape: Shape, n: int, k: int, designed: int) -> int:
    """Rows of the design before it is fitted; where blocks are cut, rounds to spare, as rows are lost."""
    wanted = n if designed == k else -(-2 * n // k) * designed
    return int(shape.rows if shape.exact else min(shape.rows, max(wanted, shape.least)))


def candidates(n: int, k: int, limit: int) -> list[Candidate]:
    """Designs of at most this weight, the most promising first.

    In the order of the coherence of the whole design; of equals those that need less fitting, then those of a
    weight near the usual one.
    """
    found = [
        _candidate(name, shape, n, k, designed)
        for name, family in FAMILIES.items()
        if family.shapes is not None
        for designed in range(k, min(2 * k, k + MARGIN + 1))
        for shape in family.shapes(designed)
        if shape.weight <= limit and (shape.weight > 1 or (name == "uncoded" and designed == k))
    ]
    return sorted(found, key=lambda candidate: (*candidate[:5], candidate.size))


def _sure(found: list[Candidate]) -> list[Candidate]:
    """Return the best whose coherence needs no measuring."""
    return [next(candidate for candidate in found if candidate.changed < 2)]


def _surely_best(candidate: Candidate, n: int, k: int) -> bool:
    """Whether the first candidate needs no comparison: orthonormal, or tight with the least coherence."""
    family = FAMILIES[candidate.family]
    whole = family.period is None or n % family.period(k) == 0
    tight = family.tight and whole and family.coherence(*candidate.size) is not None
    return candidate.changed == 0 and (tight or (n <= k and candidate.coherence == 0))


def _shortlist(found: list[Candidate], n: int, k: int, limit: int) -> list[Candidate]:
    """Return the few designs that are made and compared.

    Of a family and way of fitting only the best is taken, none that is far from what is sure, and random rows
    only where no design is good.
    """
    (sure,) = _sure(found)
    chosen: dict[tuple[str, int], Candidate] = {(sure.family, sure.changed): sure}
    for candidate in found:
        if len(chosen) < MEASURED and candidate.coherence <= ALIKE * sure.coherence:
            chosen.setdefault((candidate.family, candidate.changed), candidate)
    if sure.coherence < POOR:
        return list(chosen.values())
    usual = limit if limit < k else min(USUAL_WEIGHT, k)
    gaussian = {"entries": "gaussian"}
    chance = [
        Candidate(1.0, 0, 0.0, True, "random", options, (n, k, weight))
        for options, weight in (({}, usual), (gaussian, usual), (gaussian, limit))
    ]
    return [*chosen.values(), *chance[: 3 if limit > usual else 2]]


class Quality(NamedTuple):
    """What codes are compared by."""

    deficient: bool  # rank less than k, for n ≥ k
    information: float  # largest between two codewords, -½ ln(1 - μ²) nats
    flatness: float  # n²/(k ‖GᵀG‖²), Frobenius norm: 1 for a tight frame (Benedetto and Fickus 2003)
    distance: float  # of the weight from the usual one


def _quality(code: Code, coherence: float | None) -> Quality:
    """Measure a code; a coherence that is known is taken over."""
    n, k = len(code), code.blocks
    measured = code.coherence if coherence is None else coherence
    information = inf if measured > 1 - 1e-9 else -0.5 * log1p(-(measured**2))
    frame = code.frame
    flatness = n * n / (k * float((frame * frame).sum()))
    distance = abs(log2(code.weight / USUAL_WEIGHT))
    return Quality(n >= k and not _spans(frame), round(information, 9), round(flatness, 9), distance)


def _spans(frame: np.ndarray) -> bool:
    """Whether all eigenvalues are above 1e-9 times their mean, by Cholesky's factorisation."""
    k = len(frame)
    try:
        np.linalg.cholesky(frame - 1e-9 * np.trace(frame) / k * np.eye(k))
    except np.linalg.LinAlgError:
        return False
    return True


def _best(made: list[tuple[Quality, Code]]) -> Code:
    """Of the codes between whose words there is little information the flattest; see `choose`."""
    whole = [each for each in made if not each[0].deficient] or made
    limit = ALIKE * min(quality.information for quality, _ in whole) + 1e-9
    alike = [each for each in whole if each[0].information <= limit]
    return min(alike, key=lambda each: (-each[0].flatness, each[0].information, each[0].distance))[1]


def choose(n: int, k: int, weight: int | None, seed: int) -> Code:
    """Design the best code of n rows over k blocks.

    The designs of all families of weight ≤ w are considered, with their rows cut, up to `MARGIN` blocks cut,
    or rows added, and random rows. The most promising are made. Of those of full rank (for n ≥ k) whose
    largest information between two codewords, -½ ln(1 - μ²), is at most `ALIKE` times the least, the one
    whose frame is the flattest is taken: the tight one where there is one; of equals the least coherent, then
    the one whose weight is nearest to 4. Where none has full rank, random rows in which all blocks occur
    alike and the ring of pairs are made too. Of codes that are too large to be measured so, the one of least
    coherence is taken whose closed form is known; if that has not full rank, the next that has. It never
    fails.

    Parameters
    ----------
    n, k : int
        Rows and blocks.
    weight : int or None
        Limit on the weight; none: k.
    seed : int
        Key of everything that is random.

    Returns
    -------
    Code
        Its family, size, seed and options make it again; its notes say what was done.
    """
    limit = min(weight or k, k)
    found = candidates(n, k, limit)
    if _surely_best(found[0], n, k):
        code = _made(found[0], n, k, seed)
    elif n * k * max(n, k) > LARGE:
        code = _first(_shortlist(found, n, k, limit), n, k, limit, seed)
    else:
        made = [_measured(candidate, n, k, seed) for candidate in _shortlist(found, n, k, limit)]
        if all(quality.deficient for quality, _ in made):
            made += [_measured(candidate, n, k, seed) for candidate in _spanning(n, k, limit)]
        code = _best(made)
    notes = (f"auto: {code.family} of weight {code.weight}", *code.notes)
    return Code(code.indices, code.values, k, code.family, seed, code.options, notes)


def _made(candidate: Candidate, n: int, k: int, seed: int) -> Code:
    from .design import design

    if candidate.changed:
        return design(candidate.family, n, k, None, seed, whole=list(candidate.size), **candidate.options)
    return design(candidate.family, n, k, candidate.size[2], seed, **candidate.options)


def _measured(candidate: Candidate, n: int, k: int, seed: int) -> tuple[Quality, Code]:
    code, known = _made(candidate, n, k, seed), FAMILIES[candidate.family].coherence
    return _quality(code, None if candidate.changed else known(*candidate.size)), code


def _spanning(n: int, k: int, limit: int) -> list[Candidate]:
    """Codes of full rank for n ≥ k: random rows in which all blocks occur alike, nearly surely; the ring."""
    if min(k, limit) < 2:
        return [Candidate(1.0, 0, 0.0, True, "uncoded", {}, (n, k, 1))]
    even = Candidate(1.0, 0, 0.0, True, "random", {"balanced": True}, (n, k, min(USUAL_WEIGHT, limit)))
    return [even, Candidate(1.0, 0, 0.0, True, "pairs", {}, (n, k, 2))]


def _first(shortlist: list[Candidate], n: int, k: int, limit: int, seed: int) -> Code:
    """The first that has full rank, beginning with the one whose coherence is known."""
    (sure,) = _sure(shortlist)
    first = sure if sure.coherence < POOR else shortlist[-1]
    others = sorted((one for one in shortlist if one is not first), key=lambda one: one.size[0] < n)
    for candidate in [first, *others, *_spanning(n, k, limit)]:  # those with enough rows of their own first
        code = _made(candidate, n, k, seed)
        if n < k or _spans(code.frame):
            break
    return code

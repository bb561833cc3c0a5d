"""Signed edges of a regular graph on the blocks."""

import numpy as np

from ..codes import keyed
from ..codes.family import Family, Size
from ..util.errors import InputError, expected
from ..util.memory import ensure_fits

KINDS = ("random", "circulant")
BYTES_PER_EDGE = 400  # bytes that an edge takes while edges are switched


def default_degree(rows: int, blocks: int) -> int:
    """Return the least degree with an edge for each row, or the complete graph's."""
    degree = max(2, -(-2 * rows // blocks))
    degree += degree * blocks % 2
    return min(degree, blocks - 1)


def nearest_degrees(vertices: int, degree: int) -> list[int]:
    """Return the two degrees ≥ 2 nearest to a degree that regular graphs on these vertices can have."""
    wanted = min(max(degree, 2), vertices - 1)
    possible = [d for d in range(max(2, wanted - 2), min(wanted + 3, vertices)) if d * vertices % 2 == 0]
    return sorted(sorted(possible, key=lambda d: abs(d - wanted))[:2])


def regular_graph(vertices: int, degree: int, seed: int, kind: str = "random") -> np.ndarray:
    """List the edges of a regular graph, shape (vertices·degree/2, 2), int64; the edges of a ring come first.

    The degree is one of `nearest_degrees`. A `kind` of ``circulant`` has the edges {a, a + s} for s = 1, 2,
    …; ``random`` switches all edges but the ring's, which is asymptotically a random regular graph (Robinson
    and Wormald 1994).
    """
    size = BYTES_PER_EDGE * vertices * degree // 2
    ensure_fits(f"degree = {degree}", f"a graph on {vertices} vertices", size)
    edges = circulant(vertices, degree)
    return switched(edges, vertices, seed) if kind == "random" else edges


def circulant(blocks: int, degree: int) -> np.ndarray:
    """List the edges {a, a + s modulo k}, s = 1, 2, …, and k/2 for odd degrees; shape (k·degree/2, 2)."""
    step, a = np.ogrid[1 : degree // 2 + 1, :blocks]
    edges = np.stack(np.broadcast_arrays(a, (a + step) % blocks), axis=-1).reshape(-1, 2)
    if degree % 2:
        half = np.arange(blocks // 2)
        edges = np.concatenate([edges, np.stack([half, half + blocks // 2], axis=1)])
    return edges


def switched(edges: np.ndarray, fixed: int, seed: int) -> np.ndarray:
    """Randomise a regular graph by switches {a, b}, {c, d} → {a, d}, {c, b} that keep it simple.

    The first `fixed` edges stay. Ten switches per edge are tried (Rao, Jana, Bandyopadhyay, Sankhya 1996).
    """
    free = len(edges) - fixed
    if free < 2:
        return edges
    graph = [(int(a), int(b)) for a, b in edges]
    present = {frozenset(edge) for edge in graph}
    draws = keyed.uniforms(seed, keyed.SUPPORTS, 0, (10 * free, 2))
    flips = keyed.uniforms(seed, keyed.SUPPORTS, 1, (10 * free,)) < 0.5
    chosen = fixed + (draws * free).astype(np.int64)
    for (e, f), flip in zip(chosen.tolist(), flips.tolist(), strict=True):
        (a, b), (c, d) = graph[e], graph[f][::-1] if flip else graph[f]
        new = frozenset((a, d)), frozenset((c, b))
        if a in (c, d) or b in (c, d) or present.intersection(new):
            continue
        present -= {frozenset((a, b)), frozenset((c, d))}
        present.update(new)
        graph[e], graph[f] = (a, d), (c, b)
    return np.array(graph, np.int64)


def graph(
    rows: int, blocks: int, weight: int, seed: int, degree: int | None = None, kind: str = "random"
) -> tuple[np.ndarray, np.ndarray]:
    """Make rows (e_a ± e_b)/√2, one for each edge {a, b} of a regular graph; w = 2, coherence ½.

    The edges have random signs, and then come again with opposite signs; all n = k·degree rows together are
    tight. The first k edges are the ring 0, 1, …, k-1, with signs such that n ≥ k rows have rank k (see
    `pairs`). `degree` is the number of edges at each block, 2 … k-1, even if k is odd; by default the least
    with an edge per row. `kind` is the kind of the `regular_graph`.
    """
    if kind not in KINDS:
        raise InputError(f"kind: {expected(kind, KINDS)}")
    per_block = default_degree(rows, blocks) if degree is None else degree
    close = nearest_degrees(blocks, per_block if isinstance(per_block, int) else 2)
    if not isinstance(per_block, int) or per_block not in close:
        raise InputError(
            f"degree = {per_block!r}: no regular graph on {blocks} blocks has it; "
            f"nearest: {' or '.join(map(str, close))}"
        )
    if rows > per_block * blocks:
        raise InputError(
            f"workers = {rows}: a graph of degree {per_block} on {blocks} blocks has at most "
            f"{per_block * blocks} rows"
        )
    edges = regular_graph(blocks, per_block, seed, kind)
    signs = keyed.signs(seed, keyed.SIGNS, 0, (len(edges),))
    if np.count_nonzero(signs[:blocks] > 0) % 2 == 0:
        signs[blocks - 1] = -signs[blocks - 1]
    second = np.concatenate([signs, -signs])
    values = np.stack([np.ones(len(second)), second], axis=1) / np.sqrt(2.0)
    return np.concatenate([edges, edges])[:rows], values[:rows]


GRAPH = Family(
    "graph",
    "signed pairs along the edges of a regular graph",
    graph,
    lambda blocks, weight: [Size(2, blocks * (blocks - 1), blocks)] if blocks > 2 else [],
    options=frozenset({"degree", "kind"}),
    period=lambda blocks: 1,
    coherence=lambda rows, blocks, weight: 0.5,
    tight=False,
)

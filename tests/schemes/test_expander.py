"""Codes of regular graphs: the graph, the bounds that the papers prove for every pattern of stragglers."""

import numpy as np
import pytest
from patterns import Rank0, make, subsets

GRAPHS = [(5, 4), (6, 3), (8, 2), (8, 3), (8, 4), (9, 4), (8, 7)]
EDGES = [(6, 3), (9, 3), (10, 4), (8, 2), (10, 2)]


def options(degree: int, *others: str) -> list[str]:
    return [f"scheme.options.degree={degree}", *others]


def connected(adjacency: np.ndarray) -> bool:
    steps = np.linalg.matrix_power(np.eye(len(adjacency)) + (adjacency > 0), len(adjacency))
    return bool((steps > 0).all())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "degree"), [*GRAPHS, (60, 3), (41, 6)])
def test_the_graph_is_regular_connected_and_keyed(n: int, degree: int, seed: int) -> None:
    adjacency = make("expander", n, *options(degree, f"seed={seed}")).matrix * degree
    np.testing.assert_allclose(adjacency, np.round(adjacency))
    np.testing.assert_array_equal(adjacency, adjacency.T)
    assert (np.count_nonzero(adjacency, axis=1) == degree).all()
    assert not np.diag(adjacency).any()
    assert connected(adjacency)
    other = make("expander", n, *options(degree, f"seed={seed + 9}")).matrix * degree
    assert (other != adjacency).any() == (2 < degree < n - 1)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("n", "degree"), GRAPHS)
def test_the_error_is_within_the_spectral_bound(n: int, degree: int, seed: int) -> None:
    """Raviv et al.: (λ/d)² ns/(n - s) for every pattern, by the weights n/(n - s); optimal ones do better."""
    matrix = make("expander", n, *options(degree, f"seed={seed}")).matrix
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert eigenvalues[-1] == pytest.approx(1)  # of the vector of ones
    ratio = np.abs(eigenvalues[:-1]).max()
    rank0 = Rank0(matrix)
    for arrived in subsets(n, range(1, n + 1)):
        late = n - len(arrived)
        theirs = ((matrix[list(arrived)].sum(axis=0) * n / len(arrived) - 1) ** 2).sum()
        ours = ((rank0.decode(arrived) - 1) ** 2).sum()
        assert ours <= theirs + 1e-9
        assert theirs <= ratio**2 * n * late / len(arrived) + 1e-9


@pytest.mark.parametrize(("n", "degree"), [(8, 3), (9, 4), (8, 7)])
def test_all_workers_together_are_exact(n: int, degree: int) -> None:
    rank0 = Rank0(make("expander", n, *options(degree)).matrix)
    np.testing.assert_allclose(rank0.decode(range(n)), 1, rtol=0, atol=1e-12)
    assert rank0.target.decodable


@pytest.mark.parametrize(("n", "degree"), EDGES)
def test_workers_at_edges_have_two_shards_and_each_shard_is_at_as_many_workers(n: int, degree: int) -> None:
    matrix = make("expander", n, *options(degree, "scheme.options.worker=edge")).matrix
    assert matrix.shape == (n, 2 * n // degree)
    assert (matrix.sum(axis=1) == 2).all()
    assert (matrix.sum(axis=0) == degree).all()
    assert len(np.unique(matrix, axis=0)) == n


@pytest.mark.parametrize(("n", "degree"), EDGES)
def test_optimal_decoding_is_as_the_components_of_the_graph_say(n: int, degree: int) -> None:
    """Glasgow and Wootters: with the edges that arrived, a shard counts 1 ± (|L| - |R|)/(|L| + |R|) in a
    component with sides L and R, less on the larger side, and exactly 1 in one that is not bipartite."""
    matrix = make("expander", n, *options(degree, "scheme.options.worker=edge")).matrix
    ends = [tuple(int(vertex) for vertex in np.flatnonzero(row)) for row in matrix]
    rank0 = Rank0(matrix)
    for arrived in subsets(n, range(1, n + 1)):
        wanted = shares([ends[worker] for worker in arrived], matrix.shape[1])
        np.testing.assert_allclose(rank0.decode(arrived), wanted, rtol=0, atol=1e-9)


def shares(edges: list[tuple[int, int]], vertices: int) -> np.ndarray:
    """What each vertex counts in optimal decoding of a graph with these edges."""
    found, side = np.full(vertices, np.nan), dict[int, int]()
    for start in range(vertices):
        if start in side:
            continue
        component, odd = [start], False
        side[start] = 0
        for vertex in component:  # grows meanwhile
            for a, b in edges:
                if vertex not in (a, b):
                    continue
                other = b if vertex == a else a
                if other not in side:
                    side[other] = 1 - side[vertex]
                    component.append(other)
                odd |= side[other] == side[vertex]
        excess = len(component) - 2 * sum(side[vertex] for vertex in component)  # of side 0 over side 1
        for vertex in component:
            lean = excess / len(component) * (-1) ** side[vertex]
            found[vertex] = 1.0 if odd else 1 - lean
    return found

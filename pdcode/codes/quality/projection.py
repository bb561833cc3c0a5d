"""Gram-Schmidt orthogonalisation of vectors in their order of arrival, for many orders at once."""

from typing import NamedTuple

import numpy as np

PANEL = 32  # number of vectors projected by one matrix product
DEPENDENT = 1e-9  # relative norm of the new part below which a vector counts as dependent on earlier ones


class Steps(NamedTuple):
    """Contributions of each arrival; float64 arrays of shape (orders, arrivals)."""

    innovation: np.ndarray  # squared norm of the part orthogonal to all earlier vectors; 0 if dependent
    gain: np.ndarray  # squared norm of the metric's product with the new direction; 0 if dependent


def orthogonalise(vectors: np.ndarray, metric: np.ndarray | None = None) -> Steps:
    """Orthogonalise vectors in their order, and overwrite them with the basis (zero for a dependent vector).

    Classical Gram-Schmidt with each projection made twice (Giraud, Langou, Rozložník, Computers and
    Mathematics with Applications 2005), in panels so that most of the work is matrix products.

    Parameters
    ----------
    vectors : ndarray of float64, shape (orders, arrivals, d)
    metric : ndarray of float64, shape (d, e), optional
        B in the gain ‖qᵀB‖² of a new direction q. By default the identity: gains are 1 or 0, and their sum is
        the rank.
    """
    orders, arrivals, d = vectors.shape
    sizes = np.sqrt(np.einsum("mqd,mqd->mq", vectors, vectors))
    innovation = np.zeros((orders, arrivals))
    rank = np.zeros(orders, np.int64)
    for start in range(0, arrivals, PANEL):
        if (rank == d).all():
            vectors[:, start:] = 0
            break
        panel, old = vectors[:, start : start + PANEL], vectors[:, :start]
        for _ in range(2 if start else 0):
            panel -= (panel @ old.swapaxes(1, 2)) @ old
        for i in range(panel.shape[1]):
            new, own = panel[:, i], panel[:, :i]
            for _ in range(2 if i else 0):
                new -= np.matmul(np.matmul(own, new[:, :, None]).swapaxes(1, 2), own)[:, 0]
            norm = np.sqrt(np.einsum("md,md->m", new, new))
            grown = (norm > DEPENDENT * sizes[:, start + i]) & (rank < d)
            innovation[:, start + i] = np.where(grown, norm * norm, 0.0)
            new *= np.divide(1.0, norm, out=np.zeros(orders), where=grown)[:, None]
            rank += grown
    if metric is None:
        return Steps(innovation, (innovation > 0).astype(np.float64))
    return Steps(innovation, np.square(vectors @ metric).sum(axis=2))

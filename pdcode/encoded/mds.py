"""MDS-coded products: the gradient of a linear model from any k workers, in each of two rounds.

Lee, Lam, Pedarsani, Papailiopoulos and Ramchandran, "Speeding up distributed machine learning using codes",
IEEE Trans. Information Theory 2018: a matrix is cut into k blocks of rows, each of n workers stores one
combination of them, and a product is decoded from the k fastest. The gradient of linear regression takes X θ,
then Xᵀ of the residual; other losses of scores differ only in the computation at rank 0 between the rounds.
The paper allows any MDS code; the real codes here are our choice.

Rows k·i … k·i + k - 1 are group i, and each worker has one combination of each group, instead of one of k
blocks of successive rows: the code is the same, and rows that arrive later need no new code.
"""

from functools import cached_property
from typing import Literal

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from ..config import Config, Positive
from ..util.errors import InputError
from .coded_products import CodedProducts
from .product_state import ProductCode
from .real_code import chebyshev_points


class MDS(CodedProducts):
    """Two MDS-coded products: each round ends with the results of any k workers."""

    name = "mds"
    summary = "gradients of linear models by two coded products, each decoded from any k workers"

    class Options(CodedProducts.Options):
        """Keys of ``[scheme] options``."""

        #: number of blocks k; any k results are enough; none: three quarters of the workers
        blocks: Positive | None = None
        #: the code: "orthonormal": random orthonormal columns; "systematic": the same code, with uncoded
        #: blocks at k workers; "chebyshev": values of Chebyshev polynomials, for few workers
        generator: Literal["orthonormal", "systematic", "chebyshev"] = "orthonormal"

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        blocks, workers = config.scheme.options.blocks, config.workers.count
        if blocks is not None and blocks > workers:
            raise InputError(f"scheme.options.blocks: {blocks} are more than the {workers} workers")

    @cached_property
    def code(self) -> ProductCode:
        n, k = self.workers, self.options.blocks or max(1, 3 * self.workers // 4)
        return ProductCode(generator(self.options.generator, n, k, self.config.seed), k)


def generator(kind: str, n: int, k: int, seed: int) -> np.ndarray:
    """Return G, shape (n, k), whose rows are independent, any k of them; `seed` draws random columns."""
    if kind == "chebyshev":
        return chebvander(chebyshev_points(n), k - 1)
    matrix: np.ndarray = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, k)))[0]
    if kind == "systematic":
        matrix = np.linalg.solve(matrix[:k].T, matrix.T).T
        matrix[:k] = np.eye(k)
    return matrix

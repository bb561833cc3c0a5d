"""Byzantine-resilient descent by data encoding: exact gradients of linear models with t Byzantine workers.

Data, Song and Diggavi, "Data encoding for Byzantine-resilient distributed optimization", IEEE Trans.
Information Theory 2021: X and Xᵀ are encoded by a basis of the null space of F, a Vandermonde matrix of 2t
rows, so that each encoded row combines q = m - 2t rows. Errors of up to t of the m workers in a product are
located and excluded, whatever these workers send; t = ⌊(m - 1) / 2⌋ is the largest possible number.
Stragglers are erasures, which cost half as much as errors. Proximal descent, coordinate descent, and rows
that arrive later are from the paper, too. Chebyshev points, an orthonormal basis, and the method that locates
errors (`real_code`) are our choice.
"""

from functools import cached_property

from ..config import Config, Count
from ..util.errors import InputError
from .coded_products import CodedProducts
from .product_state import ProductCode
from .real_code import RealCode, barycentric_weights, chebyshev_points


class Byzantine(CodedProducts):
    """Two coded products, with redundancy that identifies Byzantine workers."""

    name = "byzantine"
    summary = "exact gradients of linear models by coded products, with Byzantine workers"

    class Options(CodedProducts.Options):
        """Keys of ``[scheme] options``."""

        liars: Count = 1  #: largest number t of Byzantine workers
        stragglers: Count = 0  #: number s of workers that are not waited for

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        options, workers = config.scheme.options, config.workers.count
        blocks = workers - 2 * options.liars - options.stragglers
        if blocks < 1:
            most = (workers - 1 - options.stragglers) // 2
            limit = f"at most {most} liars" if most >= 0 else f"at most {workers - 1} stragglers"
            raise InputError(
                f"scheme.options.liars: {options.liars}, and {options.stragglers} stragglers, need more than "
                f"{2 * options.liars + options.stragglers} workers; with {workers} there may be {limit}"
            )

    @cached_property
    def code(self) -> ProductCode:
        liars, needed = self.options.liars, self.workers - self.options.stragglers
        points = chebyshev_points(self.workers)
        code = RealCode(points, needed - 2 * liars, barycentric_weights(points))
        return ProductCode(code.generator(), needed, code if liars else None, liars)

"""Which rows of the code a task gets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import codes
from .codes import Code
from .config import Config
from .errors import InputError
from .fleet.base import Codewords
from .problems.partition import Blocks


class Assignment:
    """Rows and codewords of tasks.

    ``static``: worker i has the rows i·r … i·r + r - 1 for ever, modulo the rows of the code. ``rotate``: the
    c-th task of the run, whoever gets it, takes rows c·r … c·r + r - 1 of an endless code: the design,
    redrawn under a keyed random permutation of blocks and dither each time it is used up. Tasks that are in
    flight together then have disjoint rows, and a worker meets all directions in the course of its tasks. The
    row number of a task tells its codewords, so a trace needs to store no more.

    Parameters
    ----------
    designs : dict
        The code of each distinct block count k > 1.
    rows : int
        Codewords per task, r.
    rotate : bool
        As above.
    seed : int
        Key of the redraws.
    dtype : dtype
        Of codeword values.
    """

    def __init__(self, designs: dict[int, Code], rows: int, rotate: bool, seed: int, dtype: np.dtype) -> None:
        self.designs, self.rows, self.rotate, self.seed, self.dtype = (
            designs,
            rows,
            rotate,
            seed,
            np.dtype(dtype),
        )
        self._next = 0
        self._drawn: dict[int, tuple[int, np.ndarray, np.ndarray]] = {}
        self._usable: dict[int, int] = {}  # rows of an epoch, a multiple of r
        self._whole = np.zeros((1, 1), np.int32), np.ones((1, 1), self.dtype)
        for k, code in designs.items():
            count = len(code.indices)
            if count < rows:
                raise InputError(
                    f"code.rows_per_task: {rows} codewords a task are more than the {count} rows of the code"
                )
            self._usable[k] = count - count % rows
            self._draw(k, 0)

    def row(self, worker: int) -> int:
        """Number of the first row of the next task of a worker."""
        if not self.rotate:
            return worker * self.rows
        row = self._next
        self._next += self.rows
        return row

    def codewords(self, row: int) -> Codewords:
        """Codewords of a task.

        Parameters
        ----------
        row : int
            As `row` gave it.

        Returns
        -------
        dict
            For each block count k the indices (int32) and values (the payload's dtype) of shape (r, w); for
            k = 1, a layer that is sent whole, the codeword [1]. They stay as they are.
        """
        words = {k: self._rows(k, row) for k in self.designs}
        words[1] = self._whole
        return words

    def _rows(self, k: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, first = divmod(row, self._usable[k])
        if not self.rotate:
            epoch = 0
        if self._drawn[k][0] != epoch:
            self._draw(k, epoch)
        _, indices, values = self._drawn[k]
        return indices[first : first + self.rows], values[first : first + self.rows]

    def _draw(self, k: int, epoch: int) -> None:
        code = self.designs[k].dithered(self.seed, epoch) if epoch else self.designs[k]
        self._drawn[k] = (
            epoch,
            np.ascontiguousarray(code.indices),
            np.ascontiguousarray(code.values, self.dtype),
        )


def create(config: Config, layers: Sequence[Blocks], workers: int) -> Assignment:
    """Design the codes that the layers need and assign their rows.

    Parameters
    ----------
    config : Config
        Of the run.
    layers : sequence of Blocks
        Partition of each layer.
    workers : int
        Number of workers n.

    Returns
    -------
    Assignment

    Raises
    ------
    InputError
        If the design is impossible.
    """
    table = config.code
    designs = {}
    for k in sorted({layer.count for layer in layers} - {1}):
        if table.rows_per_task > k:
            raise InputError(
                f"code.rows_per_task: {table.rows_per_task} codewords are more than the {k} blocks of a "
                "layer; blocks = 1 sends it whole"
            )
        rows = table.rows or (
            codes.fitting_rows(table.family, table.rows_per_task, k)
            if table.rotate
            else workers * table.rows_per_task
        )
        try:
            designs[k] = codes.design(
                table.family, workers=rows, blocks=k, weight=table.weight, seed=config.seed
            )
        except InputError as error:
            raise InputError(
                f"code.family: no '{table.family}' of {rows} rows over {k} blocks: {error}"
            ) from None
    return Assignment(designs, table.rows_per_task, table.rotate, config.seed, np.dtype(config.problem.dtype))

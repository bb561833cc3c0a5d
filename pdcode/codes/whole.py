"""Fitting a design to another size: rows cut or added, blocks cut."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..util.errors import InputError
from . import keyed
from .code import Code

EMPTY_COPIES = 100  # without a row, after which a design is given up


def size(value: Any) -> tuple[int, int, int]:
    """Check the option ``whole``: [n, k, w] of the design that is fitted."""
    if not (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in value)
    ):
        raise InputError(f"whole = {value!r}: not [workers, blocks, weight] of a design")
    return value[0], value[1], value[2]


def _cut(code: Code, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the blocks from `blocks` on; rows have norm 1 again, those that lose half of it are left out."""
    kept = np.where(code.indices < blocks, code.values, 0.0)
    energy = (kept * kept).sum(axis=1)
    stay = energy > 0.5 + 1e-9
    values = kept[stay] / np.sqrt(energy[stay, None])
    indices = np.where(values != 0, code.indices[stay], 0)
    if indices.shape[1] > blocks:  # dense: so narrow a code has room for its blocks alone
        dense = np.zeros((len(values), blocks))
        np.add.at(dense, (np.arange(len(values))[:, None], indices), values)
        indices, values = np.broadcast_to(np.arange(blocks, dtype=np.int32), dense.shape), dense
    return indices, values


def fit(
    code: Code, rows: int, blocks: int, seed: int, rounds: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Cut a code to k blocks, then cut or fill it up to n rows.

    Further rows are those of copies of the code that are redrawn by keyed signed permutations of its blocks
    (`Code.dithered`, epochs 1, 2, …).

    Parameters
    ----------
    code : Code
        n' rows over k' blocks, k ≤ k' < 2k.
    rows, blocks : int
        n and k.
    seed : int
        Key of the copies and of the choice of rows.
    rounds : bool
        Whether the rows come in rounds that are tight, so that the first rows are the best to keep. Of other
        codes rows are drawn at random: their first ones may leave out whole blocks.

    Returns
    -------
    indices, values : ndarray
        Of n rows of norm 1.
    notes : list of str
        What was done.

    Raises
    ------
    InputError
        If k' is not in that range, or nothing is left of the code.
    """
    whole = f"({len(code)}, {code.blocks}, {code.weight})"
    if not blocks <= code.blocks < 2 * blocks:
        raise InputError(
            f"whole: blocks = {code.blocks} cannot be cut to {blocks}; nearest: "
            f"{min(max(code.blocks, blocks), 2 * blocks - 1)}"
        )
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    made, own, copies = 0, None, 0
    while made < rows:
        drawn = code.dithered(seed, copies) if copies else code
        parts.append(_cut(drawn, blocks) if blocks < code.blocks else (drawn.indices, drawn.values))
        made += len(parts[-1][0])
        own = made if own is None else own
        copies += 1
        if copies == EMPTY_COPIES and made == 0:
            raise InputError(f"whole: {whole} cut to {blocks} blocks leaves no row")
    assert own is not None
    notes = []
    if blocks < code.blocks:
        notes.append(f"{code.family} {whole} without its last {code.blocks - blocks} blocks: {own} rows left")
    indices = np.concatenate([part[0] for part in parts])
    values = np.concatenate([part[1] for part in parts])
    if rows < own:
        which = "the first" if rounds else "random"
        notes.append(f"{which} {rows} of the {own} rows of {code.family} {whole}: not tight")
        if not rounds:
            drawn_rows = np.argsort(keyed.uniforms(seed, keyed.SUPPORTS, 0, (own,)), kind="stable")
            picked = np.sort(drawn_rows[:rows])
            return indices[picked], values[picked], notes
    if rows > own:
        notes.append(
            f"{rows - own} rows added to {code.family} {whole}, of {copies - 1} redrawn copies of it"
        )
    return indices[:rows], values[:rows], notes

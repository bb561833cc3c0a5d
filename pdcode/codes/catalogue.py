"""Catalogue of codes with claimed properties, checked by `pdcode codes list --verify`."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, NamedTuple

from .code import Code
from .design import design


class CatalogueEntry(NamedTuple):
    """A code of a family, with its claimed properties."""

    family: str
    workers: int  # n
    blocks: int  # k
    weight: int  # w
    options: Mapping[str, Any]
    coherence: float | None  # coherence μ; None: no closed form
    tight: bool | None  # whether GᵀG = (n/k) I; None: no claim


def _entries(
    family: str, *sizes: tuple[int, int, int, float | None], tight: bool | None = True, **options: Any
) -> list[CatalogueEntry]:
    return [CatalogueEntry(family, n, k, w, options, coherence, tight) for n, k, w, coherence in sizes]


ENTRIES: list[CatalogueEntry] = [
    *_entries("uncoded", (16, 16, 1, 0.0), (32, 16, 1, 1.0)),
    *_entries("repetition", (32, 16, 1, 1.0)),
    *_entries("pairs", (32, 16, 2, 0.5)),
    *_entries("random", (128, 64, 4, None), tight=None),
    *_entries("random", (128, 64, 4, None), tight=None, entries="gaussian"),
    *_entries(
        "net",
        (16, 16, 4, 0.0),
        (80, 16, 4, 1 / 4),  # all lines of AG(2, 4)
        (128, 64, 8, 1 / 8),
        (1344, 64, 4, 1 / 4),  # all lines of AG(3, 4)
        (640, 80, 4, 1 / 4),  # integers modulo 20
        (1600, 80, 4, 1 / 4),  # GF(4) × GF(5)
        (40, 20, 3, 1 / 3),  # conference matrices of order 4, integers modulo 5
        (486, 54, 5, 1 / 5),  # conference matrices of order 6, GF(9)
        (2028, 156, 12, 1 / 12),  # Paley's Hadamard matrices
        (240, 240, 15, 0.0),  # products of conference matrices
        (4600, 460, 20, 1 / 20),
        (10_000, 1000, 8, 1 / 8),
    ),
    *_entries("graph", (48, 16, 2, 0.5), tight=False, degree=6),
    *_entries("graph", (96, 16, 2, 0.5), degree=6),
    *_entries("graph", (96, 16, 2, 0.5), degree=6, kind="circulant"),
    *_entries(
        "steiner",
        (16, 6, 3, 1 / 3),
        (64, 28, 7, 1 / 7),
        (144, 66, 11, 1 / 11),
        (256, 120, 15, 1 / 15),
        (28, 7, 3, 1 / 3),
        (120, 35, 7, 1 / 7),
        (496, 155, 15, 1 / 15),
        (780, 247, 19, 1 / 19),
        (4000, 775, 31, 1 / 31),  # lines of AG(3, 5)
        (4992, 806, 31, 1 / 31),  # lines of PG(3, 5)
    ),
    *_entries(
        "simplex-lines",
        (28, 7, 3, 1 / 3),
        (48, 9, 3, 1 / 3),
        (104, 13, 3, 1 / 3),
        (448, 49, 7, 1 / 7),
        (1584, 121, 11, 1 / 11),
    ),
    *_entries("tremain", (10, 5, 4, 1 / 3), (36, 15, 8, 1 / 5), (136, 51, 16, 1 / 9), (528, 187, 32, 1 / 17)),
    *_entries(
        "haar-simplex",
        (4, 3, 2, 1 / 3),
        (8, 7, 3, 1 / 7),
        (11, 10, 4, 1 / 10),
        (16, 15, 4, 1 / 15),
        (64, 63, 6, 1 / 63),
    ),
    *_entries("icosahedron", (6, 3, 2, 1 / sqrt(5.0)), (24, 12, 2, 1 / sqrt(5.0))),
    *_entries("dk", (12, 4, 2, 0.5), (20, 5, 2, 0.5), (240, 16, 2, 0.5)),
    *_entries("e8", (120, 8, 8, 0.5), (240, 16, 8, 0.5)),
    *_entries(
        "kerdock", (12, 4, 4, 1 / 2), (144, 16, 16, 1 / 4), (2112, 64, 64, 1 / 8), (1280, 256, 256, 1 / 16)
    ),
    *_entries("hadamard", (20, 20, 20, 0.0), (92, 96, 96, 0.0), tight=None),
    *_entries("hadamard", (40, 20, 20, None)),
    *_entries("energy", (64, 32, 4, None), tight=None),
]


def verify(entry: CatalogueEntry) -> tuple[Code, float, float]:
    """Make a code, and return it with the errors of its claimed coherence and tightness.

    The first error is |measured - claimed| coherence, the second is 1 - A/B of the frame bounds; each is 0
    without a claim.
    """
    code = design(entry.family, entry.workers, entry.blocks, entry.weight, **entry.options)
    coherence = 0.0 if entry.coherence is None else abs(code.coherence - entry.coherence)
    return code, coherence, 1 - code.tightness if entry.tight else 0.0

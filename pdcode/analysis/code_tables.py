"""What `pdcode codes` prints: the families, the catalogue as it was checked, and all about one code."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import isinf
from typing import TYPE_CHECKING

import numpy as np

from ..codes import catalogue
from ..codes.code import Code
from ..codes.quality import NOISE, Quality
from ..codes.registry import FAMILIES, Family
from .formats import number, percent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ABOUT = {
    "uncoded": "a block a row, in turn",
    "repetition": "each block in n/k rows",
    "pairs": "signed pairs of neighbours on a ring of blocks",
    "random": "random supports with signs or Gaussian entries",
    "net": "an orthogonal matrix on each line of an affine or modular net; tight; the default",
    "graph": "signed pairs along the edges of a regular graph",
    "steiner": "equiangular tight frame of a Steiner system; meets the Welch bound",
    "simplex-lines": "a regular simplex on each line of a Steiner system; tight",
    "tremain": "equiangular tight frame of a Steiner triple system; meets the Welch bound",
    "haar-simplex": "regular simplex in Haar wavelets; meets the Welch bound",
    "icosahedron": "the diagonals of an icosahedron on every 3 blocks",
    "dk": "roots of the lattice D_k",
    "e8": "roots of the lattice E8 on every 8 blocks",
    "kerdock": "mutually unbiased bases of a Kerdock set; meets the orthoplex bound",
    "hadamard": "rows of Hadamard matrices, dense",
    "optimized": "least coherence by optimisation, supports given or free, k ≤ 64",
    "energy": "one own block, the others drawn by block energies; decode by mmse",
    "auto": "the best of these that fits, padded or trimmed",
}
TOLERANCE = 1e-12  # of claims
SAMPLES = (4, 8, 9, 16, 64, 256)  # blocks for which the sizes of a family with many are listed
SHOWN, LARGEST = 4, 1000  # sizes, and blocks
USUAL = 4  # weight; of several over so many blocks the size nearest to it is listed
QUARTERS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)  # arrivals in units of k


def table(*columns: str, left: Iterable[str] = (), wrap: Iterable[str] = ()) -> Table:
    """A table without lines, its columns flush right but for those in `left`."""
    from rich.table import Table

    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        justify = "left" if column in left else "right"
        made.add_column(column, justify=justify, no_wrap=column not in wrap)  # type: ignore[arg-type]
    return made


def families(target: Console | None = None) -> None:
    """Print a line or two for each family: what it is, sizes with their coherence, default weight."""
    left = ("family", "what it is", "sizes (n, k, w) and coherence")
    made = table(*left, "default w", left=left, wrap=left[1:])
    for name, family in FAMILIES.items():
        made.add_row(name, ABOUT[name], sizes(name, family), default_weight(family))
    made.add_row("auto", ABOUT["auto"], "any n, any k, w at most as asked", "any")
    _printed(target, [made])


def default_weight(family: Family) -> str:
    """The weight of a code for which none is asked, as a text."""
    if family.weight is None:
        return "its own"
    usual = {family.weight(2 * k, k) for k in (16, 64)}
    return str(usual.pop()) if len(usual) == 1 else "k"


def sizes(name: str, family: Family) -> str:
    """Some sizes of a family with the coherence that it claims."""
    if family.shapes is None or name == "uncoded":
        free = "n a multiple of k" if name == "repetition" else "any n"
        weight = "any w ≤ k" if family.any_weight else f"w = {default_weight(family)}"
        return f"{free}, any k, {weight}"
    found: list[str] = []
    for k in range(2, LARGEST):
        shapes = [shape for shape in family.shapes(k) if shape.weight > 1]
        if not shapes or not (k in SAMPLES or all(shape.exact for shape in shapes)):
            continue
        size = min(shapes, key=lambda each: abs(each.weight - USUAL))
        n = 2 * k if isinf(size.rows) else int(size.rows)
        claim = family.coherence(n, k, size.weight)
        least = f"≥{size.least}" if size.least > 1 else "any n"
        rows = least if isinf(size.rows) else f"{n}" if size.exact else f"≤{n}"
        found.append(f"({rows},{k},{size.weight})" + (f" {fraction(claim)}" if claim else ""))
        if len(found) > SHOWN:
            break
    return ", ".join(found[:SHOWN]) + (" …" if len(found) > SHOWN else "")


def fraction(value: float) -> str:
    """A coherence as 1/m where it is that, else with four digits."""
    near = Fraction(value).limit_denominator(10_000)
    exact = abs(float(near) - value) < TOLERANCE and near.numerator == 1
    return str(near) if exact else f"{value:.4f}"


def verified() -> Iterator[tuple[str, bool]]:
    """Check the catalogue; yield a line for each entry, and whether it holds."""
    yield (
        f"{'family':16}{'(n, k, w)':>18}{'claimed':>11}{'measured':>11}{'difference':>12}"
        f"{'tightness':>11}{'error':>9}{'seconds':>9}",
        True,
    )
    for entry in catalogue.ENTRIES:
        start_s = time.perf_counter()
        code, coherence, tightness = catalogue.verify(entry)
        spent_s = time.perf_counter() - start_s
        holds = coherence <= TOLERANCE and abs(tightness) <= TOLERANCE
        claimed = entry.coherence is not None
        difference = f"{coherence:.0e}" if claimed else "–"
        size = f"({entry.workers}, {entry.blocks}, {entry.weight})"
        yield (
            f"{entry.family:16}{size:>18}{fraction(entry.coherence or 0.0) if claimed else '–':>11}"
            f"{fraction(code.coherence):>11}{difference:>12}{code.tightness:>11.6f}"
            f"{f'{abs(tightness):.0e}' if entry.tight else '–':>9}{spent_s:>9.2f}"
            + ("" if holds else "  WRONG"),
            holds,
        )


def show(code: Code, quality: Quality, title: str = "", target: Console | None = None) -> None:
    """Print all about one code."""
    name = (
        f"{code.family}: {len(code)} rows over {code.blocks} blocks, weight {code.weight}, seed {code.seed}"
    )
    about = table("", " ", left=("", " "), wrap=(" ",))
    about.show_header = False
    for topic, text in facts(code, quality):
        about.add_row(topic, text)
    legend = (
        "Captured: share of the energy of isotropic blocks after so many random arrivals; adjoint: exact; "
        f"least squares: {exactness(quality)}. Information: joint, of q random arrivals, a payload's noise "
        f"having {NOISE:g} of its variance; nats for each element of a block. Arrivals for 90 %, 99 %: "
        "where the mean gets there; for all: their mean."
    )
    _printed(target, [about, bounds(quality), arrivals(code, quality), legend], title + name)


def facts(code: Code, quality: Quality) -> Iterator[tuple[str, str]]:
    """What is said in a line each."""
    low, high = quality.frame_bounds
    yield "coherence", f"{quality.coherence:.6g}"
    yield "frame bounds", f"{low:.6g} … {high:.6g}, tightness {quality.tightness:.6g}"
    yield "spark", str(quality.spark)
    yield "worst pair", f"mutual information {number(quality.worst_pair)} nats"
    needed = (
        f"{name} not reached"
        if isinf(mean)
        else f"{name} {mean:.1f}{f' ± {error:.1f}' if error >= 0.05 else ''} = {mean / code.blocks:.3f} k"
        for name, (mean, error) in zip(("90 %:", "99 %:", "all:"), quality.needed, strict=True)
    )
    yield "arrivals for", ", ".join(needed)
    options = ", ".join(f"{key} = {_short(value)}" for key, value in code.options.items())
    if options:
        yield "options", options
    for note in code.notes:
        yield "note", note


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def bounds(quality: Quality) -> Table:
    """Each bound on the coherence beside what is reached."""
    made = table("lower bound", "coherence", "above it by", left=("lower bound",))
    for name, bound in sorted(quality.bounds.items(), key=lambda item: -item[1]):
        if bound > 0:
            more = 100 * (quality.coherence / bound - 1)
            made.add_row(name, f"{bound:.6f}", "reached" if abs(more) < 1e-8 else f"{more:.2f} %")
        else:
            made.add_row(name, "none", "")
    return made


def arrivals(code: Code, quality: Quality) -> Table:
    """Captured energy and information at some numbers of arrivals."""
    made = table("arrivals", "of k", "captured: least squares", "adjoint", "information")
    last = len(quality.joint) - 1
    for q in sorted({min(max(round(part * code.blocks), 1), last) for part in QUARTERS}):
        mean, error = (float(array[q]) for array in quality.least_squares)
        spread = f" ± {100 * error:.1f}" if error >= 0.0005 else ""
        made.add_row(
            str(q), f"{q / code.blocks:.2f}", f"{percent(mean, 1)}{spread} %",
            f"{percent(float(quality.adjoint.mean[q]), 1)} %", f"{quality.joint[q]:.2f}",
        )  # fmt: skip
    return made


def exactness(quality: Quality) -> str:
    """How the curve of least squares was found."""
    if np.any(quality.least_squares.standard_error):
        return f"sampled over {quality.draws} orders, ± its standard error"
    return f"the same in all of {quality.draws} orders, or exact"


def _printed(target: Console | None, parts: Iterable[Table | str], title: str = "") -> None:
    """Print parts under a title, without the blanks that rich fills lines up with."""
    from rich.console import Console
    from rich.padding import Padding

    target = target or Console(highlight=False, markup=False, emoji=False)
    with target.capture() as capture:
        if title:
            target.print(title, style="bold", soft_wrap=True)
        for part in parts:
            style = "dim" if isinstance(part, str) else None
            target.print(Padding(part, (0, 0, 1, 2 if title else 0), expand=False), style=style)
    for line in capture.get().splitlines():
        target.file.write(line.rstrip() + "\n")

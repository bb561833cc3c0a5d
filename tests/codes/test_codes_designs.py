"""Designs of closed form: what the catalogue claims, weights, ranges of sizes, the same rows every time."""

import numpy as np
import pytest

from pdcode import codes
from pdcode.codes import catalogue, registry
from pdcode.config import kinds
from pdcode.util.errors import InputError

EXACT = catalogue.ENTRIES
CLOSED = [name for name in codes.FAMILIES if name not in ("random", "energy")]


@pytest.mark.parametrize("entry", EXACT, ids=lambda entry: f"{entry.family}-{entry.workers}-{entry.blocks}")
def test_catalogue(entry):
    code, coherence_error, tightness_error = catalogue.verify(entry)
    assert (len(code), code.blocks, code.weight) == (entry.workers, entry.blocks, entry.weight)
    assert coherence_error < 1e-12
    assert tightness_error < 1e-12
    np.testing.assert_allclose((code.values**2).sum(axis=1), 1, atol=1e-14)
    again = catalogue.verify(entry)[0]
    np.testing.assert_array_equal(again.indices, code.indices)
    np.testing.assert_array_equal(again.values, code.values)
    if entry.tight:
        assert code.notes == ()
        assert code.frame_bounds == pytest.approx((len(code) / code.blocks,) * 2)
    closed = registry.families()[entry.family].coherence(entry.workers, entry.blocks, entry.weight)
    assert closed == entry.coherence or closed == pytest.approx(entry.coherence)


def test_catalogue_covers_every_family():
    assert {entry.family for entry in catalogue.ENTRIES} == set(codes.FAMILIES)


@pytest.mark.parametrize("family", CLOSED)
def test_every_size_in_a_range(family):
    """Coherence is the closed form, whole codes are tight, for all k up to 40 and several n."""
    record = registry.families()[family]
    sizes = 0
    for k in range(1, 41):
        for size in {size for w in (None, *range(1, k + 1)) for size in record.sizes(k, w)}:
            for n in {size.near(n) for n in (k, 2 * k, 3 * k + 1, 12 * k)}:
                if n > 500:
                    continue
                sizes += 1
                code = codes.design(family, n, k, size.weight, seed=1)
                assert code.weight == size.weight
                assert (np.count_nonzero(code.matrix, axis=1) <= size.weight).all()
                claim = record.coherence(n, k, size.weight)
                assert claim is None or code.coherence == pytest.approx(claim, abs=1e-12), (n, k)
                if record.tight and (record.period is None or n % record.period(k) == 0):
                    assert code.tightness == pytest.approx(1, abs=1e-12), (n, k)
                    assert code.notes == ()
    assert sizes > 1


@pytest.mark.parametrize(
    ("family", "n", "k"),
    [("steiner", 64, 28), ("tremain", 36, 15), ("haar-simplex", 16, 15), ("icosahedron", 6, 3)],
)
def test_equiangular_tight_frames_reach_the_welch_bound(family, n, k):
    code = codes.design(family, n, k)
    gram = np.abs(code.matrix @ code.matrix.T)[~np.eye(n, dtype=bool)]
    np.testing.assert_allclose(gram, code.bounds["welch"], atol=1e-12)


def test_other_bounds_that_are_reached():
    for family, n, k in (("e8", 120, 8), ("dk", 12, 4)):
        code = codes.design(family, n, k)
        assert code.coherence == pytest.approx(code.bounds["levenshtein"], abs=1e-12)
    dk = codes.design("dk", 240, 16)
    assert len(dk) == 2 * 16 * 15 / 2  # the most that flat rows of weight w can be: 2k(k-1)/w


@pytest.mark.parametrize(("family", "k"), [("e8", 8), ("e8", 24), ("dk", 6), ("dk", 16), ("kerdock", 16)])
def test_rounds_are_orthonormal_bases(family, k):
    n = int(registry.families()[family].sizes(k, None)[0].most)
    for basis in codes.design(family, n, k).matrix.reshape(-1, k, k):
        np.testing.assert_allclose(basis @ basis.T, np.eye(k), atol=1e-13)


def test_e8_lines_are_roots():
    code = codes.design("e8", 120, 8)
    roots = np.sqrt(2) * code.matrix
    gram = roots @ roots.T
    np.testing.assert_allclose(gram, np.round(gram), atol=1e-12)  # an even lattice's shortest vectors
    assert len(np.unique(np.round(np.abs(gram), 6))) == 3
    assert np.linalg.matrix_rank(code.matrix[:8]) == 8


@pytest.mark.parametrize("k", [1, 2, 5, 6, 11, 40, 63, 100])
def test_haar_simplex_for_any_number_of_blocks(k):
    code = codes.design("haar-simplex", k + 1, k)
    gram = code.matrix @ code.matrix.T
    np.testing.assert_allclose(gram, (1 + 1 / k) * np.eye(k + 1) - 1 / k, atol=1e-12)
    assert code.weight == int(np.ceil(np.log2(k + 1)))


@pytest.mark.parametrize("family", codes.FAMILIES)
@pytest.mark.parametrize("k", [3, 4, 7, 16, 28])
def test_fitting_rows_are_whole(family, k):
    record = registry.families()[family]
    for least in (1, k, k + 1, 3 * k - 1):
        n = codes.fitting_rows(family, least, k)
        assert n >= max(least, k)
        sizes = record.sizes_of_weight(k, None)
        if not any(size.near(n) == n for size in sizes):  # no such blocks, or not so many rows
            with pytest.raises(InputError, match="nearest: workers = "):
                codes.design(family, n, k)
            continue
        code = codes.design(family, n, k)
        assert code.notes == ()
        assert code.tightness == pytest.approx(1) or not record.tight
    if record.period is None and (sizes := record.sizes_of_weight(k, None)):
        assert codes.fitting_rows(family, 1, k) == sizes[0].most


TWINS = """
import numpy as np
from pdcode.codes import Family, Size
TWINS = Family(
    "NAME", "each block twice", lambda n, k, w, seed: (np.arange(n)[:, None] % k, np.ones((n, 1))),
    lambda k, w: [Size(1, 2 * k, 2 * k)],
)
"""


def test_a_family_of_a_plugin_is_one_record(monkeypatch, tmp_path):
    monkeypatch.setitem(kinds.KINDS, "families", {**kinds.KINDS["families"]})

    def plugin(name, more=""):
        path = tmp_path / f"{len([*tmp_path.iterdir()])}.py"
        path.write_text(TWINS.replace("NAME", name) + more)
        kinds.load_plugin(str(path))

    with pytest.raises(InputError, match="ZeroDivisionError"):
        plugin("twins", "1 / 0")
    with pytest.raises(InputError, match=r"family: expected one of uncoded, .*, auto .got 'twins'"):
        codes.design("twins", 8, 4)
    plugin("twins")
    assert codes.design("twins", 8, 4).tightness == 1
    with pytest.raises(InputError, match=r"workers = 9, blocks = 4: .*; nearest: workers = 8, blocks = 4"):
        codes.design("twins", 9, 4)
    for name in ("twins", "net"):
        with pytest.raises(InputError, match=f"'{name}' of families is already defined in"):
            plugin(name)
    with pytest.raises(InputError, match="'auto' is no family"):
        plugin("auto")

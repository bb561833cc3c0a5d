"""The Code object: coherence, bounds, information, files."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes
from pdcode.codes import code as code_module
from pdcode.codes.quality import bounds
from pdcode.util.errors import InputError

FAMILIES = ["uncoded", "repetition", "pairs", "random", "net"]


@st.composite
def any_code(draw):
    k = 4 * draw(st.integers(1, 4))
    rounds = draw(st.integers(1, 1 if k == 4 else 2))
    return codes.design(draw(st.sampled_from(FAMILIES)), rounds * k, k, seed=draw(st.integers(0, 99)))


@given(any_code())
def test_coherence_dense_and_sparse_agree(code):
    gram = np.abs(code.matrix @ code.matrix.T)
    np.fill_diagonal(gram, 0)
    assert code.coherence == pytest.approx(gram.max(), abs=1e-15)
    copy = codes.Code(code.indices.copy(), code.values.copy(), code.blocks, code.family)
    limit, code_module.DENSE = code_module.DENSE, 0
    try:
        assert copy.coherence == pytest.approx(code.coherence, abs=1e-15)
    finally:
        code_module.DENSE = limit


@given(any_code())
def test_frame_bounds_and_lower_bounds(code):
    spectrum = np.linalg.svd(code.matrix, compute_uv=False) ** 2
    low, high = code.frame_bounds
    assert low == pytest.approx(spectrum[-1], abs=1e-12)
    assert high == pytest.approx(spectrum[0])
    assert code.tightness == low / high
    assert set(code.bounds) >= {"welch", "orthoplex", "levenshtein", "bukh-cox", "weight"}
    assert all(0 <= bound <= code.coherence + 1e-12 for bound in code.bounds.values())


def test_bounds_are_reached_where_they_are_known_to_be():
    assert bounds.welch(16, 6) == pytest.approx(
        1 / 3
    )  # equiangular tight frame of the Steiner system S(2, 2, 4)
    assert bounds.orthoplex(11, 4) == 0.5
    assert bounds.orthoplex(10, 4) == 0
    assert bounds.levenshtein(12, 4) == pytest.approx(0.5)  # roots of D4
    assert bounds.levenshtein(120, 8) == pytest.approx(0.5)  # roots of E8
    assert bounds.bukh_cox(6, 4) == pytest.approx(1 / 3)  # Fickus, Jasper, Mixon 2018
    for k in range(2, 9):
        assert bounds.bukh_cox(k + 1, k) == pytest.approx(1 / k)  # the simplex
    pairs = codes.design("pairs", 8, 4)
    assert pairs.bounds["weight-flat"] == pytest.approx(pairs.coherence) == pytest.approx(0.5)
    assert "weight-regular" in pairs.bounds
    assert "weight-regular" not in codes.design("pairs", 9, 4).bounds
    assert set(codes.design("uncoded", 4, 4).bounds.values()) == {0.0}


@given(st.integers(2, 30), st.integers(2, 10), st.data())
def test_weight_bounds_hold_for_any_entries(n, k, data):
    w = data.draw(st.integers(1, k))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = np.zeros((n, k))
    for row in rows:
        row[rng.choice(k, w, replace=False)] = rng.normal(size=w)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gram = np.abs(rows @ rows.T) - np.eye(n)
    assert (
        gram.max() >= max(bounds.weight_limited(n, k, w), bounds.bukh_cox(n, k), bounds.welch(n, k)) - 1e-12
    )


@given(any_code(), st.integers(-50, 50), st.integers(1, 12))
def test_rows_wrap_around(code, start, count):
    indices, values = code.rows(start, count)
    picked = np.arange(start, start + count) % len(code)
    np.testing.assert_array_equal(indices, code.indices[picked])
    np.testing.assert_array_equal(values, code.values[picked])


def test_code_is_read_only():
    code = codes.design("net", 16, 16)
    with pytest.raises(ValueError, match="read-only"):
        code.values[0, 0] = 2
    assert repr(code) == "Code(net, n=16, k=16, w=4, seed=0)"


@pytest.mark.parametrize("family", FAMILIES)
def test_file_round_trip(family, tmp_path):
    code = codes.design(family, 16, 8, seed=3)
    if family == "net":
        code = codes.design("net", 17, 8, 2, seed=3, dither=False).dithered(5, 6).dithered(7, 8)
    path = tmp_path / "code.h5"
    code.save(path)
    with h5py.File(tmp_path / "trace.h5", "w") as file:
        code.save(file.create_group("code/8"))
        same = [codes.Code.load(path), codes.Code.load(file["code/8"])]
        np.testing.assert_array_equal(file["code/8/matrix"], code.matrix)
    for other in same:
        np.testing.assert_array_equal(other.indices, code.indices)
        np.testing.assert_array_equal(other.values, code.values)
        assert other.indices.dtype == np.int32
        assert other.values.dtype == np.float64
        names = ("blocks", "family", "seed", "options", "notes", "weight")
        assert [getattr(other, name) for name in names] == [getattr(code, name) for name in names]


def test_load_refuses_other_files(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match=r"other\.h5: / is not a code of pdcode"):
        codes.Code.load(tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("supports", np.full((16, 2), 8)),
        ("supports", np.zeros((16, 3))),
        ("values", np.full((16, 2), np.nan)),
    ],
)
def test_load_refuses_codewords_that_are_none(tmp_path, name, value):
    codes.design("net", 16, 8, 2).save(tmp_path / "code.h5")
    with h5py.File(tmp_path / "code.h5", "r+") as file:
        del file[name]
        file[name] = value
    with pytest.raises(InputError, match=r"code\.h5: /: damaged: "):
        codes.Code.load(tmp_path / "code.h5")


@given(any_code())
def test_information_of_isotropic_blocks(code):
    result = codes.information(code)
    np.testing.assert_array_equal(result, codes.information(code.matrix))
    gram = np.clip((code.matrix @ code.matrix.T) ** 2, 0, 1)
    apart = gram < 1 - 1e-9
    np.testing.assert_allclose(result[apart], -0.5 * np.log(1 - gram[apart]), atol=1e-12)
    assert np.isposinf(result[~apart]).all()
    assert not apart.diagonal().any()


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32))
def test_information_of_correlated_blocks(n, k, seed):
    rng = np.random.default_rng(seed)
    rows, root = rng.normal(size=(n, k)), rng.normal(size=(k, k))
    sigma = root @ root.T + 0.1 * np.eye(k)
    result = codes.information(rows, sigma)
    cov = rows @ sigma @ rows.T
    for i in range(n):
        for j in range(n):
            if i != j and k > 1:  # h(y_i) + h(y_j) - h(y_i, y_j)
                expected = codes.joint_information(rows[[i]], sigma) + codes.joint_information(
                    rows[[j]], sigma
                )
                expected -= codes.joint_information(rows[[i, j]], sigma)
                assert result[i, j] == pytest.approx(expected, abs=1e-6)
    noise = 0.3
    expected = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * (cov + noise * np.eye(n)))[1]
    assert codes.joint_information(rows, sigma, noise) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    plain = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * cov)[1] if n <= k else -np.inf
    assert codes.joint_information(rows, sigma) == pytest.approx(plain, rel=1e-6, abs=1e-6)


def test_information_at_the_edges():
    flat = codes.information([[1.0, 0.0], [0.0, 1.0]], np.diag([1.0, 0.0]))
    np.testing.assert_array_equal(flat, [[np.inf, 0], [0, 0]])  # the second payload is always 0
    assert codes.joint_information(codes.design("net", 16, 8, 2)) == -np.inf
    orthonormal = codes.joint_information(codes.design("net", 8, 8, 2))
    assert orthonormal == pytest.approx(4 * np.log(2 * np.pi * np.e))
    with pytest.raises(InputError, match="covariance"):
        codes.information(np.eye(3), np.eye(2))
    with pytest.raises(InputError, match="covariance"):
        codes.information(np.eye(2), [[1, 2], [3, 4]])
    with pytest.raises(InputError, match="noise = -1"):
        codes.joint_information(np.eye(2), noise=-1)
    with pytest.raises(InputError, match="matrix"):
        codes.information(np.ones(3))

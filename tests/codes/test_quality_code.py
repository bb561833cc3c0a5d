"""Codes as they are measured and kept: sparse algebra, files, information of arrivals, the summary."""

import h5py
import numpy as np
import pytest
import traces
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes
from pdcode.codes import code as code_module
from pdcode.codes.summary import affordable_draws
from pdcode.trace.reader import TraceReader
from pdcode.util.errors import InputError


@given(st.integers(1, 40), st.integers(2, 30), st.data())
def test_sparse_and_dense_algebra_agree(n, k, data):
    w = data.draw(st.integers(1, k))
    code = codes.design("random", n, k, w, seed=data.draw(st.integers(0, 99)))
    gram = np.abs(code.matrix @ code.matrix.T)
    np.fill_diagonal(gram, 0)
    spectrum = np.linalg.eigvalsh(code.matrix.T @ code.matrix)
    before = code_module.DENSE, code_module.SPARSE_COST, code_module.GRAM_PANEL
    code_module.GRAM_PANEL = data.draw(st.sampled_from([1, 64, 1 << 20]))
    try:
        for limits in ((1 << 30, 30), (0, 0)):  # dense, sparse
            code_module.DENSE, code_module.SPARSE_COST = limits
            copy = codes.Code(code.indices, code.values, k, code.family)
            assert copy.coherence == pytest.approx(gram.max(), abs=1e-14)
            low, high = copy.frame_bounds
            assert low == pytest.approx(max(spectrum[0], 0), abs=1e-12)
            assert high == pytest.approx(spectrum[-1], abs=1e-12)
    finally:
        code_module.DENSE, code_module.SPARSE_COST, code_module.GRAM_PANEL = before


def test_ten_thousand_rows_by_sparse_products():
    code = codes.design("net", 10_000, 1000, 8)
    assert code.coherence == pytest.approx(0.125, abs=1e-15)
    assert code.frame_bounds == pytest.approx((10, 10), abs=1e-12)


def test_a_code_and_the_codes_of_a_trace_are_read(tmp_path):
    code = codes.design("net", 16, 8, 2, seed=3, dither=False)
    code.save(tmp_path / "new" / "code.h5")
    [(name, same)] = codes.Code.load_all(tmp_path / "new" / "code.h5").items()
    assert name == "/"
    assert same.options == {"dither": False}
    np.testing.assert_array_equal(same.matrix, code.matrix)

    trace = traces.simulate(tmp_path / "trace.h5", seconds=0.1)
    found = codes.Code.load_all(tmp_path / "trace.h5")
    assert set(found) == {f"/code/{k}" for k in trace.code}
    for k, matrix in TraceReader(tmp_path / "trace.h5").code.items():
        read = found[f"/code/{k}"]
        np.testing.assert_array_equal(read.matrix, matrix)
        about = trace.code_attributes[k]
        assert (read.family, read.weight, read.seed) == (about["family"], about["weight"], about["seed"])
        assert read.coherence == pytest.approx(about["coherence"], abs=1e-15)


def test_options_of_any_kind_are_saved(tmp_path):
    code = codes.design("net", 8, 8, 2)
    odd = codes.Code(
        code.indices, code.values, 8, "energy", 1, {"energies": np.ones(2), "n": np.int64(3)}, ("a note",)
    )
    odd.save(tmp_path / "odd.h5")
    read = codes.Code.load(tmp_path / "odd.h5")
    assert read.options == {"energies": [1.0, 1.0], "n": 3}
    assert read.notes == ("a note",)
    assert read.seed == 1


def test_files_that_hold_no_code_are_refused(tmp_path):
    (tmp_path / "text").write_text("no")
    with pytest.raises(InputError, match="text: not a pdcode"):
        codes.Code.load_all(tmp_path / "text")
    with pytest.raises(InputError, match="no such file"):
        codes.Code.load_all(tmp_path / "nothing.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match=r"other\.h5: holds no code: neither a code nor a trace"):
        codes.Code.load_all(tmp_path / "other.h5")
    code = codes.design("net", 8, 8, 2)
    with pytest.raises(InputError, match="cannot write there"):
        code.save(tmp_path / "text" / "code.h5")


@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**32), st.sampled_from([0.0, 1e-12, 0.2]))
def test_information_of_the_first_arrivals(n, k, seed, noise):
    random = np.random.default_rng(seed)
    rows, root = random.normal(size=(n, k)), random.normal(size=(k, k))
    sigma = root @ root.T + 0.1 * np.eye(k)
    found = codes.arrival_information(rows, sigma, noise)
    assert found.shape == (n + 1,)
    assert found[0] == 0
    for q in range(1, min(n, n if noise == 0.2 else k) + 1):
        expected = codes.joint_information(rows[:q], sigma, noise)
        assert found[q] == pytest.approx(expected, rel=1e-6, abs=1e-5)
    if n > k and noise == 0:
        assert np.isneginf(found[k + 1 :]).all()


def test_energies_are_a_diagonal_covariance():
    rows, energies = codes.design("net", 16, 8, 2).matrix[:6], 1 / np.arange(1.0, 9)
    np.testing.assert_array_equal(
        codes.information(rows, energies), codes.information(rows, np.diag(energies))
    )
    assert codes.joint_information(rows, energies) == codes.joint_information(rows, np.diag(energies))
    with pytest.raises(InputError, match="not positive semidefinite; its least eigenvalue is -1"):
        codes.information(rows, -energies)
    with pytest.raises(InputError, match="noise = nan: not a finite number"):
        codes.joint_information(rows, noise=np.nan)


@pytest.mark.parametrize(
    "arguments", [("net", 32, 16, 4), ("repetition", 16, 8), ("uncoded", 4, 8), ("uncoded", 1, 1)]
)
def test_the_summary_agrees_with_its_parts(arguments):
    code = codes.design(*arguments)
    found = codes.quality(code)
    assert found.coherence == code.coherence
    assert found.bounds == code.bounds
    assert found.spark.upper == codes.spark(code, code.coherence).upper
    information = codes.information(code)
    np.fill_diagonal(information, 0)
    assert found.worst_pair == pytest.approx(information.max(), abs=1e-12)
    curve = codes.captured_energy(code, draws=found.draws)
    np.testing.assert_array_equal(found.least_squares.mean, curve.mean)
    for mine, other in zip(found.needed, codes.arrivals_needed(code, draws=found.draws), strict=True):
        assert mine == pytest.approx(other, abs=1e-9)
    whole = codes.joint_information(code, noise=0.01)
    assert found.joint[-1] == pytest.approx(whole, abs=1e-6)


def test_large_codes_are_sampled_less():
    assert affordable_draws(codes.design("net", 16, 16, 4), 16) == 200
    assert affordable_draws(codes.design("net", 10_000, 1000, 8), 2000) == 4

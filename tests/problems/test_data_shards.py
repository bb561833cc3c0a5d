"""Splits, standardisation, shards, and HDF5 files in slices."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import problems
from pdcode.problems.matrix import Csr
from pdcode.problems.samples import Statistics
from pdcode.problems.scaling import moments, scales
from pdcode.util.errors import InputError

DATA = ["digits", "breast-cancer", "diabetes"]


def table(**keys):
    return problems.as_table({"dtype": "float64"} | keys)


def same(one, two):
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, two.arrays()[name], err_msg=name)
    assert np.array_equal(one.common.values, two.common.values)
    assert one.arrays().keys() == two.arrays().keys()


@pytest.mark.parametrize("data", DATA)
def test_split_is_deterministic_and_complete(data):
    whole = problems.load(table(data=data, test_fraction=0, shards="contiguous", standardise=False))
    one, two = (problems.load(table(data=data, standardise=False)) for _ in range(2))
    same(one, two)
    assert len(one.test_x) == round(0.2 * len(whole.x))
    both = np.vstack([one.x, one.test_x])
    np.testing.assert_array_equal(np.unique(both, axis=0), np.unique(whole.x, axis=0))
    assert len(both) == len(whole.x)
    assert not np.array_equal(one.x, problems.load(table(data=data, split_seed=1, standardise=False)).x)


def test_standardise_uses_the_training_rows_alone():
    plain, scaled = (problems.load(table(standardise=flag)) for flag in (False, True))
    x = plain.x[:, :-1]
    deviation = x.std(axis=0)
    deviation[deviation == 0] = 1
    np.testing.assert_allclose(scaled.x[:, :-1], (x - x.mean(axis=0)) / deviation, atol=1e-9)
    np.testing.assert_allclose(
        scaled.test_x[:, :-1], (plain.test_x[:, :-1] - x.mean(axis=0)) / deviation, atol=1e-9
    )
    assert (scaled.x[:, -1] == 1).all()


def test_moments_do_not_depend_on_the_chunks():
    x = np.random.default_rng(0).standard_normal((100, 4)) * [1, 1e-3, 1e3, 0] + [1e6, 0, 1, 0.1]
    for size in (1, 7, 100):
        found = moments((x[start : start + size] for start in range(0, 100, size)), 4)
        np.testing.assert_allclose(found.mean, x.mean(axis=0))
        np.testing.assert_allclose(found.deviation[:3], x[:, :3].std(axis=0), rtol=1e-8)
        np.testing.assert_allclose(found.farthest, np.abs(x - found.mean).max(axis=0), rtol=1e-8)
        assert found.deviation[3] == 0
        assert scales(True, found)[1][3] == scales("guarded", found)[1][3] == 1


def guarded(x, varied):
    """The scales by the definition, column by column."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    common = np.mean(deviation[varied] ** 2) if varied.any() else 0.0
    scale = np.ones(len(mean))
    for j in np.flatnonzero(varied):
        between = np.sqrt((deviation[j] ** 2 + common) / 2)
        scale[j] = max(min(between, 4 * deviation[j]), np.abs(x[:, j] - mean[j]).max() / 8)
    return np.where(
        varied, scale * np.sqrt(np.mean((deviation / scale)[varied] ** 2)) if varied.any() else 1, 1
    )


@given(
    st.integers(0, 2**32), st.lists(st.sampled_from([0.0, 1e-3, 0.3, 1.0, 40.0, 1e4]), min_size=1, max_size=6)
)
def test_guarded_scales_are_those_of_the_definition(seed, sizes):
    random = np.random.default_rng(seed)
    x = random.standard_normal((50, len(sizes))) * sizes + random.standard_normal(len(sizes))
    x[random.integers(50), 0] += 20 * sizes[0]  # a rare value
    varied = np.array(sizes) > 0
    mean, scale = scales("guarded", moments([x], len(sizes)))
    np.testing.assert_allclose(mean, x.mean(axis=0))
    np.testing.assert_allclose(scale, guarded(x, varied), rtol=1e-6)
    if varied.any():
        scaled = ((x - mean) / scale)[:, varied]
        assert np.mean(scaled**2) == pytest.approx(1.0)
        np.testing.assert_allclose(
            scales("guarded", moments([7 * x], len(sizes)))[1][varied], 7 * scale[varied]
        )


def test_guarded_inputs_are_those_of_an_array_and_of_hdf5(tmp_path):
    plain = problems.load(table(standardise=False))
    scaled = problems.load(table())
    mean, scale = (scaled.facts[name] for name in ("mean", "deviation"))
    np.testing.assert_allclose(scaled.x[:, :-1], (plain.x[:, :-1] - mean) / scale)
    np.testing.assert_allclose(scaled.test_x[:, :-1], (plain.test_x[:, :-1] - mean) / scale)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = plain.x[:, :-1], plain.y
    keys = {
        "data": str(tmp_path / "a.h5"),
        "shards": "contiguous",
        "test_fraction": 0,
    }
    sliced = problems.load_source(table(**keys))
    assert sliced.sliced
    np.testing.assert_allclose(sliced.dataset.facts["deviation"], scale)


@pytest.mark.parametrize("how", ["shuffled", "contiguous"])
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_shards_deal_out_every_row_once(how, density):
    data = problems.load(table(data="synthetic", samples=103, density=density, shards=how))
    shards = [data.shard(worker, 7, how) for worker in range(7)]
    assert {shard.rows for shard in shards} <= {data.rows // 7, data.rows // 7 + 1}
    assert all(len(shard.test_x) == 0 and shard.test_x.shape[1] == 21 for shard in shards)
    order = np.arange(data.rows)
    if how == "shuffled":
        order = np.concatenate([order[worker::7] for worker in range(7)])
    dense = [shard.x.toarray() if isinstance(shard.x, Csr) else shard.x for shard in shards]
    np.testing.assert_array_equal(
        np.vstack(dense), (data.x.toarray() if isinstance(data.x, Csr) else data.x)[order]
    )
    np.testing.assert_array_equal(np.concatenate([shard.y for shard in shards]), data.y[order])


@pytest.mark.parametrize(
    "keys", [{}, {"data": "diabetes", "standardise_targets": True}, {"data": "synthetic", "density": 0.2}]
)
def test_shards_travel_as_plain_arrays(keys):
    source = problems.load_source(table(**keys))
    assert not source.sliced
    whole = problems.load(table(**keys))
    assert source.rows == whole.rows
    for worker in range(3):
        arrays = source.shard(worker, 3)
        assert all(array.dtype.kind in "iuf" and array.flags.c_contiguous for array in arrays.values())
        same(problems.receive(table(**keys), arrays, worker, 3), whole.shard(worker, 3))
    same(problems.Dataset.from_arrays(whole.arrays()), whole)


def test_rank_0_keeps_at_most_the_rows_of_its_evaluation():
    source = problems.load_source(table(evaluate=100))
    assert source.dataset.rows == len(source.dataset.test_x) == 100
    assert source.rows == 1438
    assert len(source.shard(0, 1)["y"]) == 1438


def test_more_workers_than_rows_are_refused():
    source = problems.load_source(table(data="synthetic", samples=10, shards="shuffled"))
    with pytest.raises(InputError, match=r"workers\.count: 9 workers are more than the 8 training rows"):
        source.shard(0, 9)


@pytest.mark.parametrize(("shards", "workers"), [("replicated", 3), ("auto", 9)])
def test_replicated_rows_are_all_with_every_worker(shards, workers):
    keys = table(data="synthetic", samples=10, shards=shards)
    source, whole = problems.load_source(keys), problems.load(keys)
    assert source.total_rows(workers) == 8 * workers
    got = problems.receive(keys, source.shard(1, workers), 1, workers)
    np.testing.assert_array_equal(got.x, whole.x)
    np.testing.assert_array_equal(got.y, whole.y)
    assert problems.load_source(table(data="synthetic", samples=10)).total_rows(8) == 8


@pytest.fixture(params=[(4,), (2, 2)], ids=["flat", "images"])
def file(request, tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as out:
        out["in/x"] = random.standard_normal((500, *request.param)) * 3 + 1
        out["label"] = 3 + np.arange(500) % 4
        out["real"] = random.standard_normal((500, 2))
    return path


@pytest.mark.parametrize("targets", ["label", "real"])
@pytest.mark.parametrize("standardise", [False, True])
def test_hdf5_slices_equal_shards_of_the_whole(file, targets, standardise):
    scaled = {"standardise": standardise, "standardise_targets": standardise}
    keys = table(data=str(file), inputs="in/x", targets=targets, evaluate=64, **scaled)
    whole, source = problems.load(keys), problems.load_source(keys)
    assert source.sliced
    assert source.rows == whole.rows == 400
    assert whole.x.shape == (400, 5)
    for worker in range(3):
        got = problems.receive(keys, source.shard(worker, 3), worker, 3)
        expected = whole.shard(worker, 3, "contiguous")
        np.testing.assert_allclose(got.x, expected.x, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(got.y, expected.y, rtol=1e-12, atol=1e-12)
        assert np.array_equal(got.common.values, whole.common.values)
        assert got.common.loss_unit == pytest.approx(whole.common.loss_unit)
        assert len(got.test_x) == 0
    kept = source.dataset
    assert kept.rows == len(kept.test_x) == 64
    distance = np.abs(whole.x[:, None] - kept.x).sum(axis=2)
    assert (distance.min(axis=0) < 1e-9).all()
    assert len(set(distance.argmin(axis=0))) == 64
    assert (np.abs(whole.test_x[:, None] - kept.test_x).sum(axis=2).min(axis=0) < 1e-9).all()
    problem = problems.Problem.from_dataset(keys, kept, 2)
    assert np.isfinite(problem.loss(problem.initial(0)))


def test_each_worker_reads_only_its_rows(file, monkeypatch):
    keys = table(data=str(file), inputs="in/x", targets="label")
    source = problems.load_source(keys)
    read = []
    plain = h5py.Dataset.__getitem__

    def spy(self, rows, **options):
        if rows.stop:
            read.append((rows.start, rows.stop))
        return plain(self, rows, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    for worker in range(4):
        read.clear()
        arrays = source.shard(worker, 4)
        assert not read
        problems.receive(keys, arrays, worker, 4)
        assert min(start for start, _ in read) >= worker * 125 - 30
        assert max(stop for _, stop in read) <= (worker + 1) * 125 + 30


def test_shuffled_hdf5_is_loaded_by_rank_0(file):
    keys = table(data=str(file), inputs="in/x", targets="label", shards="shuffled")
    source = problems.load_source(keys)
    assert not source.sliced
    same(problems.receive(keys, source.shard(1, 3), 1, 3), problems.load(keys).shard(1, 3))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "problem.inputs: no 'x' in"),
        ({"inputs": "in"}, "problem.inputs: 'in' in .* is a group, which holds x"),
        ({"inputs": "in/x"}, "problem.targets: no 'y' in"),
        ({"inputs": "label", "targets": "label"}, "problem.inputs: 'label' in"),
        ({"inputs": "in/x", "targets": "real", "kind": "softmax"}, "problem.targets: labels"),
    ],
)
def test_unfit_hdf5_is_refused(file, keys, message):
    for read in (problems.load, problems.load_source):
        with pytest.raises(InputError, match=message):
            read(table(data=str(file), **keys))


def test_nan_in_a_slice_is_refused(file):
    with h5py.File(file, "r+") as out:
        out["in/x"][499] = np.nan
    keys = table(data=str(file), inputs="in/x", targets="label", test_fraction=0)
    common = Statistics(np.arange(3, 7))
    assert problems.hdf5.load_slice(keys, 0, 2, common).rows == 250
    with pytest.raises(InputError, match=r"problem\.inputs: 'in/x' in .* NaN"):
        problems.hdf5.load_slice(keys, 1, 2, common)

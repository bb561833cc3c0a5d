"""Traces as xarray reads them, without pdcode and with it."""

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import traces
import xarray as xr

from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import DIMENSIONS, OPTIONAL
from pdcode.util.errors import InputError

SWMR = {"driver_kwds": {"swmr": True}}  # for running and killed runs


def opened(path: Path, group: str, **options: object) -> xr.Dataset:
    with xr.open_dataset(path, engine="h5netcdf", group=group, **options) as dataset:
        return dataset.load()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return traces.simulate(tmp_path_factory.mktemp("xarray") / "a.h5", seconds=0.3, tables=OPTIONAL).path


@pytest.mark.parametrize("table", DIMENSIONS)
def test_a_table_is_the_same_with_and_without_pdcode(path: Path, table: str) -> None:
    alone, ours = opened(path, table), TraceReader(path, correct_clocks=False).to_xarray(table)
    text = [
        key for key in alone.data_vars if alone[key].dtype.kind == "S"
    ]  # faults: text is bytes in the file
    xr.testing.assert_identical(alone.drop_vars(text), ours.drop_vars(text))
    assert set(ours.dims) == {DIMENSIONS[table]}
    assert ours.sizes[DIMENSIONS[table]] == getattr(TraceReader(path), table).rows
    assert all(variable.attrs.keys() == {"units", "description"} for variable in ours.variables.values())


def test_updates_and_progress_have_the_version_as_coordinate(path: Path) -> None:
    trace = TraceReader(path)
    progress, updates = (opened(trace.path, name) for name in ("progress", "updates"))
    version = int(progress["version"][2])
    assert progress["loss"].sel(version=version) == trace.progress["loss"][2]
    assert updates["t_ns"].sel(version=version) == trace.updates["t_ns"][version - 1]


def test_codes_and_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    writer = traces.writer(path)
    writer.close(np.arange(5.0), {"velocity": np.ones(5), "steps": np.array([3])})
    code, checkpoint = opened(path, "code/16"), opened(path, "checkpoint")
    assert code["matrix"].sizes == {"row": 32, "block": 16}
    assert code["supports"].sizes == code["values"].sizes == {"row": 32, "entry": 2}
    np.testing.assert_array_equal(code["matrix"], traces.code().matrix)
    assert checkpoint["theta"].dims == checkpoint["velocity"].dims == ("parameter",)
    np.testing.assert_array_equal(checkpoint["theta"], np.arange(5.0))
    assert checkpoint["steps"].sizes == {"size_1": 1}
    assert TraceReader(path).checkpoint.keys() == {"theta", "velocity", "steps"}


def test_a_run_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    writer = traces.writer(path)
    for rows in (0, 3, 5000):
        for task in range(rows):
            writer.arrival(*traces.row(task=task))
            writer.update(task + 1, 10 * task, 1, 0.5, 0.1, 0, -1, 0, 0)
        writer.flush(0)
        dataset = opened(path, "arrivals", **SWMR)
        assert dataset.sizes == {"arrival": rows + 3 * (rows == 5000)}
        np.testing.assert_array_equal(dataset["task"], TraceReader(path).arrivals["task"])
    assert opened(path, "faults", **SWMR).sizes == {"fault": 0}
    writer.close()
    assert opened(path, "arrivals").sizes == {"arrival": 5003}


def test_a_killed_run(tmp_path: Path) -> None:
    path, killed = tmp_path / "a.h5", tmp_path / "killed.h5"
    writer = traces.writer(path)
    for task in range(7):
        writer.arrival(*traces.row(task=task))
    writer.flush(0)
    shutil.copy(path, killed)  # as a kill leaves it: open for writing
    writer.close()
    assert opened(killed, "arrivals", **SWMR)["task"].values.tolist() == list(range(7))
    assert TraceReader(killed).to_xarray("arrivals").sizes == {"arrival": 7}


def test_all_of_a_trace_is_a_tree(path: Path) -> None:
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        assert {
            "/", "/arrivals", "/updates", "/progress", "/faults", "/workers", "/code/16", "/checkpoint",
        } <= {*tree.groups}  # fmt: skip
        assert tree.attrs["schema"] == "pdcode-trace"


def test_every_axis_has_one_dimension(path: Path) -> None:
    """As other readers of HDF5 check them: each axis names a dimension scale of the axis's length."""

    def check(name: str, dataset: h5py.HLObject) -> None:
        if isinstance(dataset, h5py.Dataset) and not dataset.is_scale:
            for axis, dimension in enumerate(dataset.dims):
                assert len(dimension) == 1, name
                scale = dimension[0]
                assert scale.is_scale
                assert scale.maxshape == (None,) or len(scale) == dataset.shape[axis], name

    with h5py.File(path) as file:
        file.visititems(check)


def test_messages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = TraceReader(path)
    with pytest.raises(InputError, match="table: expected one of arrivals"):
        trace.to_xarray("arrival")
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(InputError, match=r"to_xarray needs xarray: .* -m pip install xarray"):
        trace.to_xarray("arrivals")

"""Named dimensions of a trace's datasets: HDF5's dimension scales, as netCDF-4 uses them.

With them xarray and netCDF read a trace without pdcode. A dimension is a dataset: the column of that name,
which becomes the coordinate, or a dataset without data. Dimensions cannot be added in HDF5's SWMR mode and
need not grow in it: the length of an unlimited dimension is the length of its longest dataset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py

WITHOUT_DATA = "This is a netCDF dimension but not a netCDF variable.%10d"  # netCDF-4's name for such a scale


def make(group: h5py.Group, name: str, length: int | None = None) -> h5py.Dataset:
    """Return the dataset of a dimension, made of the column of that name if there is one.

    A dimension without a column has `length`, or is unlimited.
    """
    if name not in group:
        shape, most = ((0,), (None,)) if length is None else ((length,), None)
        group.create_dataset(name, shape, ">f4", maxshape=most).make_scale(WITHOUT_DATA % shape)
    elif not group[name].is_scale:
        group[name].make_scale(name)
    return group[name]


def attach(dataset: h5py.Dataset, *dimensions: h5py.Dataset) -> None:
    """Attach dimensions to the axes of a dataset; a coordinate is its own dimension."""
    import h5py

    for axis, dimension in enumerate(dimensions):
        if dimension != dataset:
            h5py.h5ds.attach_scale(dataset.id, dimension.id, axis)

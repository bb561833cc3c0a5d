"""Tables of a trace as data frames of other libraries, imported on use."""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..util.errors import InputError
from ..util.packages import pip_install
from .schema import Column


def to_pandas(columns: Mapping[str, np.ndarray], schema: Mapping[str, Column]) -> Any:
    """Return columns as a pandas DataFrame; see `Trace.to_pandas`."""
    frame = import_optional("pandas").DataFrame(dict(columns))
    frame.attrs["units"] = {key: column.units for key, column in schema.items() if key in columns}
    return frame


def to_xarray(columns: Mapping[str, np.ndarray], schema: Mapping[str, Column], dimension: str) -> Any:
    """Return columns along a dimension as an xarray Dataset; see `Trace.to_xarray`."""
    about = {key: {"units": schema[key].units, "description": schema[key].description} for key in schema}
    variables = {key: (dimension, values, about.get(key)) for key, values in columns.items()}
    return import_optional("xarray").Dataset(variables)


def import_optional(name: str) -> Any:
    """Import a library of the extra `frames`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"to_{name} needs {name}: {pip_install(name)}") from error

"""Export of a table to Parquet or CSV."""

import json
from typing import Any

from ..trace.reader import COLUMNS
from ..util.errors import escape
from .request import Format, Request, clock_error_ns


def write(request: Request) -> str:
    """Write a table; arrivals have a column more, the bound on the error of the worker's clock."""
    import pyarrow

    trace, table = request.trace, getattr(request.trace, request.table)
    arrays, schema = dict(table), COLUMNS[request.table]
    about = {key: {"units": schema[key].units, "description": schema[key].description} for key in arrays}
    if request.table == "arrivals":
        arrays["clock_error_ns"] = clock_error_ns(trace)[arrays["worker"]]
        about["clock_error_ns"] = {"units": "ns", "description": "bound on the error of the worker's times"}
    fields = [
        pyarrow.field(key, pyarrow.from_numpy_dtype(values.dtype) if values.dtype.kind != "U" else "string")
        .with_metadata(about[key])
        for key, values in arrays.items()
    ]  # fmt: skip
    attributes = json.dumps({"note": request.note, **trace.attributes}, default=str)
    made = pyarrow.table(list(arrays.values()), pyarrow.schema(fields, {"pdcode": attributes}))
    write_table(made, request, request.to == "csv")
    return f"{made.num_rows:,} rows of {request.table}"


def write_table(made: Any, request: Request, as_csv: bool) -> None:
    """Write a table of pyarrow as CSV, whose texts have no control characters, or Parquet."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    if as_csv:
        made = made.flatten()
        for place, field in enumerate(made.schema):
            if field.type == pyarrow.string():
                texts = [each and escape(each) for each in made[place].to_pylist()]
                made = made.set_column(place, field, pyarrow.array(texts, field.type))
        pyarrow.csv.write_csv(made, request.path)
    else:
        pyarrow.parquet.write_table(made, request.path, compression="zstd")


PARQUET = Format("parquet", "a table with units and attributes", write, ".parquet", "pyarrow", "table")
CSV = Format("csv", "a table as text", write, ".csv", "pyarrow", "table")

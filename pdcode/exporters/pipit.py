"""Export to the columns of Pipit: `Trace.from_csv` reads the CSV, `Trace` takes the frame of Parquet."""

from typing import Any

import numpy as np

from ..util.errors import InputError
from . import events, tables
from .request import Format, Request, clock_error_ns

TYPES = "Enter", "Leave", "Instant", "Instant"


def write(request: Request) -> str:
    """Write events by time, with their attributes as a struct, or in CSV as columns; return a description."""
    import pyarrow

    if request.path.suffix not in (".csv", ".parquet"):
        raise InputError(f"-o {request.path}: expected a name that ends in .csv or .parquet")
    found, _, text = events.events(request)
    found = found[np.argsort(found["t_ns"], kind="stable")]
    message = found["kind"] >= events.SEND
    names = np.where(message, len(events.REGIONS) + found["kind"] - events.SEND, found["region"])
    ends = found["location"], found["peer"]
    receiver, sender = (np.where(found["kind"] == kind, *ends) for kind in (events.RECEIVE, events.SEND))
    attributes = pyarrow.StructArray.from_arrays(  # without nulls, which would make floats of all in pandas
        [
            np.where(message, receiver, -1),
            np.where(message, sender, -1),
            found["bytes"],
            found["message"] & 1,
        ],
        ["receiver", "sender", "msg_length", "msg_tag"],
    )
    errors = np.concatenate(([0], clock_error_ns(request.trace)))
    made = pyarrow.table(
        {
            "Timestamp (ns)": found["t_ns"],
            "Event Type": _texts(found["kind"], TYPES),
            "Name": _texts(names, (*events.REGIONS, "MpiSend", "MpiRecv")),
            "Thread": np.zeros(len(found), np.int32),
            "Process": found["location"],
            "Attributes": attributes,
            "Clock Error (ns)": errors[found["location"]],
        },
        metadata={"pdcode": f"{request.note}; {text}"},
    )
    tables.write_table(made, request, request.path.suffix == ".csv")
    return text


def _texts(numbers: np.ndarray, texts: tuple[str, ...]) -> Any:
    """Return texts by their numbers, as a categorical column of pandas."""
    import pyarrow

    return pyarrow.DictionaryArray.from_arrays(pyarrow.array(numbers.astype(np.int32)), list(texts))


ABOUT = "CSV or Parquet with the columns of Pipit's events"
PIPIT = Format("pipit", ABOUT, write, library="pyarrow", takes="events")

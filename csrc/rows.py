"""Rows of the trace in Cython: a field, and an assignment, for each column of pdcode/trace/schema.py.

In pdcode/kernels/records.pyx a line of `each_column` stands for all columns of the table that it names.
"""

import re
from pathlib import Path
from runpy import run_path

SCHEMA = run_path(str(Path(__file__).parents[1] / "pdcode" / "trace" / "schema.py"))
TYPES = {"<i4": "int32_t", "<i8": "int64_t", "<f8": "double", "|u1": "uint8_t"}
FIELD = re.compile(r"^( +)int64_t each_column  # of (\w+).*\n", re.M)
VALUE = re.compile(r"^( +)row\.each_column = 0  # of (\w+).*\n", re.M)


def expand(source: str) -> str:
    """Replace the lines of `each_column` of a module."""
    source = FIELD.sub(lambda line: fields(line[1], SCHEMA[line[2]]), source)
    return VALUE.sub(lambda line: values(line[1], SCHEMA[line[2]]), source)


def fields(indent, columns) -> str:
    """Declare a field for each column."""
    return "".join(f"{indent}{TYPES[each.dtype]} {name}\n" for name, each in columns.items())


def values(indent, columns) -> str:
    """Assign each column's value: an attribute of the reply, or an argument of the column's name."""
    of_reply = columns is SCHEMA["ARRIVALS"]
    sources = {
        name: f"reply.{each.attribute or name}" if of_reply and not each.given else name
        for name, each in columns.items()
    }
    return "".join(f"{indent}row.{name} = {source}\n" for name, source in sources.items())

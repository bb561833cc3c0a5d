"""Export to TensorBoard: scalars by update, as an event file in a folder."""

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from . import series
from .request import Request


def write(request: Request) -> str:
    """Write scalars, and the exactness of clocks as a text; return a description."""
    began = request.trace.segments["begun_ns"][:1].tolist() or [0]
    found, writer = series.scalars(request.trace), EventFileWriter(str(request.path))

    def add(t_ns: float, version: int, value: Summary.Value) -> None:
        writer.add_event(
            Event(wall_time=1e-9 * (began[0] + t_ns), step=version, summary=Summary(value=[value]))
        )

    plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    note = TensorProto(dtype=DT_STRING, string_val=[request.note.encode()])
    add(0, 0, Summary.Value(tag="note", metadata=plugin, tensor=note))
    for tag, points in found.items():
        for t_ns, version, value in points.tolist():
            add(t_ns, int(version), Summary.Value(tag=tag, simple_value=value))
    writer.close()
    return f"{len(found)} scalars of at most {series.POINTS:,} points"

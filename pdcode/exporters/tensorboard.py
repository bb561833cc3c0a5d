"""Export to TensorBoard: scalars by update, as an event file in a folder."""

from . import series
from .request import Format, Request


def write(request: Request) -> str:
    """Write scalars, and the exactness of clocks as a text; return a description."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.summary.writer.record_writer import RecordWriter

    began = request.trace.segments["begun_ns"][:1].tolist() or [0]
    found = series.scalars(request.trace)
    with (request.path / "events.out.tfevents.0.pdcode").open("wb") as file:
        writer = RecordWriter(file)  # the package's writer of events writes in a thread, which may fail alone

        def add(t_ns: float, **fields: object) -> None:
            writer.write(Event(wall_time=1e-9 * (began[0] + t_ns), **fields).SerializeToString())

        plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        note = TensorProto(dtype=DT_STRING, string_val=[request.note.encode()])
        add(0, file_version="brain.Event:2")
        add(0, summary=Summary(value=[Summary.Value(tag="note", metadata=plugin, tensor=note)]))
        for tag, points in found.items():
            for t_ns, version, value in points.tolist():
                scalar = Summary.Value(tag=tag, simple_value=value)
                add(t_ns, step=int(version), summary=Summary(value=[scalar]))
    return f"{len(found)} scalars of at most {series.POINTS:,} points"


TENSORBOARD = Format("tensorboard", "a folder of scalars", write, library="tensorboard", folder=True)

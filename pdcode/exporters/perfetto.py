"""Export to Perfetto: a track for rank 0 and for each worker, with nested slices, flows and counters."""

from typing import Any

from . import events, series
from .request import Format, Request, clock_error_ns

RUN, FIRST = 1, 2  # tracks of the run and of rank 0


def write(request: Request) -> str:
    """Write a file of packets; return a description."""
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackDescriptor, TrackEvent
    from perfetto.trace_builder.proto_builder import TraceProtoBuilder

    instant = TrackEvent.TYPE_INSTANT
    kinds = TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END, instant, instant
    trace, names = request.trace, events.locations(request)
    found, _, text = events.events(request)
    counters = series.scalars(trace)
    errors, builder = [0, *clock_error_ns(trace).tolist()], TraceProtoBuilder()
    run = builder.add_packet().track_descriptor
    run.uuid, run.name, run.description = RUN, request.name, f"{request.note}; {text}"
    run.child_ordering = TrackDescriptor.EXPLICIT
    for place, name in enumerate([*names, *counters]):
        track = builder.add_packet().track_descriptor
        track.uuid, track.parent_uuid, track.name, track.sibling_order_rank = FIRST + place, RUN, name, place
        if place < len(names):
            track.description = f"clock error at most {errors[place]} ns"
        else:
            track.counter.SetInParent()
    with request.path.open("wb") as file:

        def add(t_ns: int, kind: int, track: int) -> Any:
            nonlocal builder
            if len(builder.trace.packet) >= events.CHUNK:
                file.write(builder.serialize())
                builder = TraceProtoBuilder()
            packet = builder.add_packet()
            packet.timestamp, packet.trusted_packet_sequence_id = t_ns, 1
            packet.track_event.type, packet.track_event.track_uuid = kind, track
            return packet.track_event

        for location, t_ns, kind, region, _, size, message in events.in_turn(found):
            event = add(t_ns, kinds[kind], FIRST + location)
            if kind == events.ENTER:
                event.name = events.REGIONS[region]
            elif kind != events.LEAVE:
                what = "task" if message & 1 else "payload"
                event.name = f"{what} {'sent' if kind == events.SEND else 'received'}"
                flows = event.flow_ids if kind == events.SEND else event.terminating_flow_ids
                flows.append(message + 1)
                note = event.debug_annotations.add()
                note.name, note.uint_value = "bytes", size
        for place, points in enumerate(counters.values(), FIRST + len(names)):
            for t_ns, _, value in points.tolist():
                add(int(t_ns), TrackEvent.TYPE_COUNTER, place).double_counter_value = value
        file.write(builder.serialize())
    return f"{len(names)} tracks and {len(counters)} counters, {text}"


PERFETTO = Format("perfetto", "a timeline for ui.perfetto.dev", write, ".pftrace", "perfetto", "events")

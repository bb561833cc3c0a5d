"""Export to OTF2: a location for rank 0 and for each worker, with nested regions and messages."""

from . import events
from .request import Format, Request, clock_error_ns

CHUNK = 1 << 18  # bytes of the two buffers of each location, the fewest that OTF2 takes


def write(request: Request) -> str:
    """Write an archive into a folder; return a description."""
    import otf2
    from _otf2 import Error
    from otf2 import GroupType, LocationType, Paradigm, RegionRole, Type

    trace = request.trace
    found, _, text = events.events(request)
    hosts = dict(zip(trace.workers["rank"].tolist(), trace.workers["host"].tolist(), strict=True))
    errors = [0, *clock_error_ns(trace).tolist()]
    chunks = {"chunk_size_events": CHUNK, "chunk_size_definitions": CHUNK}
    archive = otf2.writer.Writer(str(request.path), timer_resolution=1_000_000_000, **chunks)
    try:
        definitions, places, nodes = archive.definitions, [], {}
        root = definitions.system_tree_node(f"{request.note}; {text}", class_name="machine")
        for rank, name in enumerate(events.locations(request)):
            host = hosts.get(rank, "unknown host" if rank else "rank 0's host")
            if host not in nodes:
                nodes[host] = definitions.system_tree_node(host, class_name="node", parent=root)
            group = definitions.location_group(name, system_tree_parent=nodes[host])
            places.append(definitions.location(name, type=LocationType.CPU_THREAD, group=group))
            definitions.location_property(places[-1], "clock_error_ns", Type.UINT64, errors[rank])
        mpi = {"paradigm": Paradigm.MPI, "members": places}
        definitions.group("ranks", group_type=GroupType.COMM_LOCATIONS, **mpi)
        world = definitions.comm(
            "star", group=definitions.group("star", group_type=GroupType.COMM_GROUP, **mpi)
        )
        regions = [definitions.region(name, region_role=RegionRole.TASK) for name in events.REGIONS]
        writers = [archive.event_writer_from_location(place) for place in places]
        for location, t_ns, kind, region, peer, size, message in events.in_turn(found):
            writer = writers[location]
            if kind == events.ENTER:
                writer.enter(t_ns, regions[region])
            elif kind == events.LEAVE:
                writer.leave(t_ns, regions[region])
            else:
                send_or_receive = writer.mpi_send if kind == events.SEND else writer.mpi_recv
                send_or_receive(t_ns, peer, world, message & 1, size)
        archive.close()
    except BaseException as error:
        archive._handle = None  # else its files would be written when it is collected
        if isinstance(error, Error):  # a full disk, which OTF2 itself reports
            raise OSError(f"OTF2: {error}") from None
        raise
    return f"{len(places)} locations, {text}"


OTF2 = Format("otf2", "a folder for Vampir and Scalasca", write, ".otf2", "otf2", "events", folder=True)

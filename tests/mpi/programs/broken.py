"""Worker 0 answers its tasks with broken replies; rank 0 prints what it makes of each."""

import numpy as np
from mpi4py import MPI

from pdcode.mpi.fleet import MPIFleet, Ranks
from pdcode.mpi.link import Entry, MPILink
from pdcode.mpi.process import REPLY, job
from pdcode.transport.base import Arrival
from pdcode.transport.events import Event, Stray
from pdcode.transport.layout import HEADER, Layout
from pdcode.transport.messages import Order
from pdcode.transport.units import Blocks

CASES = (
    "good", "long", "good", "short", "nothing", "version", "row", "round", "part", "bytes", "times", "delay",
    "nan", "flood", "good", "worker", "other task", "good",
)  # fmt: skip
PLACES = {"worker": 0, "round": 1, "part": 1, "bytes": 2, "other task": 3, "version": 4, "row": 5, "times": 6}
VALUES = {"worker": 7, "round": 256, "part": 1, "bytes": 3, "other task": 99, "times": 1 << 61}

SOUND = "good", "flood", "worker", "other task"

layout = Layout([Blocks(0, "output", 1, 4, 4, 0)], [1], [1], "float32")
with job() as comm:
    if comm.rank == 0:
        fleet = MPIFleet(Ranks(comm), [layout])
        fleet.start()
        theta = np.zeros(16, np.float32).view(np.uint8)
        for task, case in enumerate(CASES):
            fleet.dispatch(0, task, 30 + task, Order(40 + task, [layout.uncoded], [theta]))
            events = list[Event]()
            while not (arrivals := [each for each in events if isinstance(each, Arrival)]):
                events += fleet.events(1_000_000_000)
            (arrival,) = arrivals
            assert (arrival.worker, arrival.task, arrival.version) == (0, task, 30 + task)
            assert arrival.row == 40 + task
            assert arrival.finite == (arrival.payloads[0][0, 0] == task and case in SOUND)
            strays = sum(isinstance(each, Stray) for each in events)
            print(case, "used" if arrival.finite else arrival.fault, strays, sep=": ")
        fleet.shutdown(0)
        fleet.close()
    else:
        link = MPILink(Entry(comm))
        (reply,) = link.connect([layout])
        for case in CASES:
            task = link.next_task()
            reply.payload[:] = np.nan if case == "nan" else task.task
            reply.write_header(0, task)
            good, fields = reply.message.copy(), list(HEADER.unpack_from(reply.header))
            if case in PLACES:
                fields[PLACES[case]] = VALUES.get(case, fields[PLACES[case]] + 1)
            elif case == "delay":
                fields[9] = -(1 << 62)
            HEADER.pack_into(reply.header, 0, *fields)
            sent = {"long": np.resize(reply.message, 4000), "short": reply.message[:-4], "nothing": good[:0]}
            for _ in range(200 if case == "flood" else 1):
                comm.Send((sent.get(case, reply.message), MPI.BYTE), 0, REPLY)
            if case in ("worker", "other task"):
                comm.Send((good, MPI.BYTE), 0, REPLY)
        assert link.next_task() is None
        link.leave()

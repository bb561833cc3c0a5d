"""Updates whose first payloads are added up by their senders (``reduce.kind = "allreduce"``).

A worker announces a payload to rank 0 by a short message. Once rank 0's policy steps, rank 0 sends the
*members* of the update, the workers with its payloads, their list. They are idle. Each sends the others their
segments of its payload, averages the range that it owns (`owners`), and sends the mean to the others,
and to rank 0. Then rank 0 steps θ. Its next task refers a member to the mean, and has the mean for others.

If a member dies, or the exchange takes too long, rank 0 asks all members to answer, and those that do make
the update without the others. A member that has lost part of a mean by a death gets it from rank 0, as its
task refers to it. Messages of each attempt have tags of their own.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import numpy as np

from ..mpi.deaths import all_complete, dead_ranks, failed_ranks, reraise_unless_proc_failed
from ..mpi.exchange import LogLink
from ..mpi.fleet import MPIFleet, Ranks
from ..mpi.initialise import MPI
from ..mpi.link import Entry
from ..mpi.process import ANSWER, MEMBERS, PEER, REPLY
from ..transport.base import Computed
from ..transport.layout import HEADER, Layout, buffer
from ..transport.messages import Reply
from ..transport.sums import REQUEST_BYTES, Mean, announcement
from ..util import clocks
from .owners import Owners, assigned
from .states import FirstState

CHECK_NS = 100_000_000  # between looks for dead members
ANSWER_NS = 1_000_000_000  # for members to answer
LONGEST_S, LEAST_BANDWIDTH = 5.0, 1e6  # of an exchange: time without bytes, and bytes per second
LEAVE_NS = 1_000_000_000  # for the last exchange to end at a worker
TAGS = 16  # first tag of exchanges
ATTEMPTS = ((MPI.COMM_WORLD.Get_attr(MPI.TAG_UB) or 32767) - TAGS) // 2  # with different tags


def tags(attempt: int) -> tuple[int, int]:
    """Return the tags of payloads and of means in an attempt."""
    first = TAGS + 2 * (attempt % ATTEMPTS)
    return first, first + 1


class FirstFleet(MPIFleet):
    """Rank 0's side: replies are announcements, and the members of an update average their payloads.

    `state` has them do so at each of its steps.
    """

    def _reply_layouts(self, layouts: Sequence[Layout]) -> Sequence[Layout]:
        return [announcement(layout) for layout in layouts]

    def __init__(self, ranks: Ranks, layouts: Sequence[Layout], state: FirstState) -> None:
        super().__init__(ranks, layouts)
        self._state, state.average = state, self._average
        self._attempt = 0
        self._lists: list[tuple[MPI.Request, np.ndarray]] = []  # sends of lists of members, in flight
        self._kept: list[object] = []  # requests and buffers of failed attempts

    def savable(self) -> bool:
        return self._state.is_between_updates

    def _average(self, mean: Mean, members: Sequence[int], version: int) -> Collection[int]:
        """Have members average their payloads, again without those that fail; return the latter."""
        present, limit_s = list(members), LONGEST_S + mean.message.nbytes / LEAST_BANDWIDTH
        while present and not self._exchanges(mean, present, version, limit_s):
            present, limit_s = self._answering(present), 2 * limit_s
        return [worker for worker in members if worker not in present]

    def _send_members(self, receivers: Sequence[int], version: int, members: Sequence[int]) -> None:
        """Send workers the list of members; an empty one asks for an answer."""
        message = np.array([self._attempt, version, len(members), *members])
        self._lists = [sent for sent in self._lists if not all_complete([sent[0]])]
        for worker in receivers:
            self._lists.append((self._comm.Isend(message, self._ranks[worker], MEMBERS), message))
            self.bytes_down += message.nbytes

    def _exchanges(self, mean: Mean, members: Sequence[int], version: int, limit_s: float) -> bool:
        """Have members average their payloads; return whether all have done so in time."""
        self._attempt += 1
        _, tag = tags(self._attempt)
        ranks = [self._ranks[worker] for worker in assigned(members, len(mean.segments))]
        needed = {self._ranks[worker] for worker in members}
        inboxes, requests = [each.copy() for each in mean.segments], list[MPI.Request]()
        until_ns, done, dead = clocks.now_ns() + round(1e9 * limit_s), False, set[int]()
        try:
            for inbox, rank in zip(inboxes, ranks, strict=True):
                requests.append(self._comm.Irecv(inbox, rank, tag))
            self._send_members(members, version, members)
            test = partial(MPI.Request.Testall, requests)
            while not (dead or done) and clocks.now_ns() < until_ns:
                done = self._poller.wait(test, CHECK_NS)
                dead = set() if done else dead_ranks(self._comm) & needed
        except MPI.Exception as error:
            dead, done = failed_ranks(error, self._comm), False
        self._record_dead(dead)
        if not done:
            self._kept.append((requests, inboxes))
            return False
        for segment, inbox in zip(mean.segments, inboxes, strict=True):
            segment[:] = inbox
        self.bytes_up += sum(map(len, inboxes))
        return True

    def _answering(self, members: Sequence[int]) -> list[int]:
        """Return the members that answer in time; all leave their exchange."""
        self._attempt += 1
        answers, answered = dict[int, MPI.Request](), set[int]()
        for worker in members:
            try:
                inbox = np.zeros(1, np.int64)
                answers[worker] = self._comm.Irecv(inbox, self._ranks[worker], ANSWER)
                self._kept.append((answers[worker], inbox))
                self._send_members([worker], 0, ())
            except MPI.Exception as error:
                self._record_failures(error)
                answers.pop(worker, None)

        def complete() -> bool:
            for worker, request in list(answers.items()):
                try:
                    if request.Test():
                        answered.add(worker)
                        del answers[worker]
                except MPI.Exception as error:
                    self._record_failures(error)
                    del answers[worker]
            return not answers

        self._poller.wait(complete, ANSWER_NS)
        return [worker for worker in members if worker in answered]


class FirstLink(LogLink):
    """A worker's side: it announces its payloads, and exchanges them with the other members of an update."""

    can_leave = False

    def __init__(self, entry: Entry, make_owners: Callable[[Layout], Owners]) -> None:
        super().__init__(entry)
        self._make_owners = make_owners
        self._poller.longest_s = 50e-6  # others wait for this rank to take part

    def _allocate(self, layouts: Sequence[Layout]) -> list[Reply]:
        super()._allocate(layouts)
        (layout,) = layouts
        self.owners = self._make_owners(layout)
        ranges = len(self.owners.owners)
        self._own, self._mean = Mean(layout, 0, ranges), Mean(layout, 0, ranges)
        short = announcement(layout)
        self._announcement = Reply(short, buffer(short.buffer_bytes)[0])
        self._list = np.zeros(3 + self._comm.size, np.int64)  # attempt, version and members of an exchange
        self._receive_list = self._comm.Recv_init(self._list, 0, MEMBERS)
        self._receive_list.Start()
        self._post_forward()
        self._exchange: Iterator[None] = iter(())
        self._kept: list[tuple[list[MPI.Request], object]] = []  # of exchanges: requests and buffers
        self._means: dict[int, np.ndarray] = {}  # message with the mean of the last exchange, by update
        self._has_mean = False  # whether the last task has referred to that mean
        return [self._own.reply]

    @property
    def stateful(self) -> dict[str, object]:
        return {"owners": self.owners}

    def _post_forward(self) -> None:
        """Post the receive of a mean that rank 0 forwards."""
        self._forwarded = np.empty(self._format.message_bytes, np.uint8)
        self._receive_forwarded = self._comm.Irecv(self._forwarded, 0, PEER)

    def reply(self, computed: Computed) -> None:
        _, loss, t_start_ns, t_compute_ns, delay_ns = computed
        self.owners.resolve(self._has_mean)
        self._has_mean = False
        task, reply, now_ns = self._task, self._announcement, clocks.now_ns()
        reply.payload[0] = 0.0 if self._own.reply.read() else math.nan
        reply.write_header(self.worker, task, t_start_ns, t_compute_ns, now_ns, delay_ns, loss)
        self._post_receive()
        self._sent.append(self._comm.Isend((reply.message, MPI.BYTE), 0, REPLY))

    def _message_arrived(self) -> bool:
        self._advance()
        return super()._message_arrived()

    def _payload(self, worker: int, task: int) -> np.ndarray:
        def arrived() -> bool:
            self._advance()
            return task in self._means

        self._poller.wait(arrived)
        self._has_mean = True
        return self._means[task]

    def _advance(self) -> bool:
        """Advance the exchange as far as possible without waiting; return whether it has ended."""
        if self._receive_list.Test():
            attempt, version, count, *members = self._list.tolist()
            self._receive_list.Start()
            self.owners.resolve(False)
            self._exchange = self._attend(attempt, version, members[:count])
        if self._receive_forwarded.Test():
            _, _, _, version, *_ = HEADER.unpack_from(self._forwarded.data)
            self._means[version] = self._forwarded
            self._post_forward()
        try:
            return next(self._exchange, self) is self
        except MPI.Exception as error:  # rank 0 will ask for an answer, or forward the mean
            reraise_unless_proc_failed(error)
            self._exchange = iter(())
            return True

    def _attend(self, attempt: int, version: int, members: Sequence[int]) -> Iterator[None]:
        """Take part in an exchange; yield while others have to proceed."""
        comm, own, mean, me = self._comm, self._own, self._mean, self.worker
        self._means.clear()
        self._kept = [kept for kept in self._kept if not all_complete(kept[0])]
        if not members:
            answer = np.array([attempt])
            self._kept.append(([comm.Isend(answer, 0, ANSWER)], answer))
            return
        scatter, gather = tags(attempt)
        own.divide()
        owners, others = assigned(members, len(own.segments)), [each for each in members if each != me]
        mine = [number for number, owner in enumerate(owners) if owner == me]
        theirs = [(number, 1 + owner) for number, owner in enumerate(owners) if owner != me]  # with ranks
        sent, means = [each.copy() for each in own.segments], [each.copy() for each in mean.segments]
        inbox = {(worker, number): np.empty_like(sent[number]) for number in mine for worker in others}
        requests = list[MPI.Request]()
        self._kept.append((requests, (sent, means, inbox)))
        arriving = [comm.Irecv(inbox[place], 1 + place[0], scatter) for place in inbox]
        requests += arriving
        gathered = [comm.Irecv(means[number], rank, gather) for number, rank in theirs]
        requests += gathered
        requests += [comm.Isend(sent[number], rank, scatter) for number, rank in theirs]
        while not MPI.Request.Testall(arriving):
            yield
        for number in mine:
            segments = (inbox.get((worker, number), sent[number]) for worker in members)
            payloads = (self.owners.owners[number].read(each[REQUEST_BYTES:]) for each in segments)
            means[number][REQUEST_BYTES:] = self.owners.average(
                me, number, payloads, len(members), self._task.codewords, version
            )
            ranks = [0, *(1 + worker for worker in others)]
            requests += [comm.Isend(means[number], rank, gather) for rank in ranks]
        while not MPI.Request.Testall(gathered):
            yield
        for segment, each in zip(mean.segments, means, strict=True):
            segment[:] = each
        mean.assemble()
        sections = self._task.message[HEADER.size : HEADER.size + self._format.codeword_bytes]
        self._means[version] = self._format.message(members[0], version, sections, mean.reply.body)
        while not all_complete(requests):
            yield

    def leave(self) -> None:
        super().leave()
        if self.detached:
            return
        self._poller.wait(self._advance, LEAVE_NS)
        for request in (self._receive_list, self._receive_forwarded):
            request.Cancel()
            request.Wait()

"""Log that replicas of θ follow: the payloads that rank 0 has used, and its steps.

An entry is a head of 16 bytes. In the entry of a payload, the head is followed by the codewords, unless they
are worker-selected, and by the reply without its header, padded to a multiple of 8 bytes. A *reference* is a
head alone: it stands for a payload that comes from its worker, in a message of the header of the reply, the
codewords, and the reply without its header.
"""

import struct
from collections.abc import Callable

import numpy as np

from .layout import HEADER, Layout

STEP_HEAD = struct.Struct("<qd")
"""Head of a step's entry: kind, and damping."""
HEAD = struct.Struct("<qq")
"""Head of a payload's entry: kind, and a number that identifies the payload by task and worker."""
ARRIVAL, STEP, REFERENCE = 0, 1, 2
WORKER_BITS = 16
FORWARDED = 1
"""Flag of a payload's message to another worker that rank 0 has sent in place of the payload's worker."""


class LogFormat:
    """Lengths of a payload's entry in a log, and of its parts, in bytes."""

    def __init__(self, layout: Layout) -> None:
        self.codeword_bytes = 0 if layout.worker_selected else layout.codeword_bytes
        # Codewords, and the reply without its header:
        self.content_bytes = self.codeword_bytes + layout.reply_bytes - layout.header_bytes
        self.entry_bytes = padded(HEAD.size + self.content_bytes)
        self.message_bytes = HEADER.size + self.content_bytes  # of the payload's message to another worker

    def message(self, worker: int, task: int, *content: np.ndarray, flags: int = 0) -> np.ndarray:
        """Return a payload's message to another worker, uint8; its content may be in several arrays."""
        header = HEADER.pack(worker, flags, 0, task, 0, 0, 0, 0, 0, 0, 0.0)
        return np.concatenate([np.frombuffer(header, np.uint8), *content])

    def forwarded(self, entry: np.ndarray) -> np.ndarray:
        """Return the message of a payload, by its entry in the log, as rank 0 sends it."""
        _, number = HEAD.unpack_from(entry.data)
        content = entry[HEAD.size : HEAD.size + self.content_bytes]
        return self.message(*worker_and_task(number), content, flags=FORWARDED)

    def restore(
        self, log: np.ndarray, payload: Callable[[int, int], np.ndarray], room: Callable[[int], np.ndarray]
    ) -> int:
        """Replace the references of a log (uint8) by entries; return the length of the result in bytes.

        `payload(worker, task)` returns the message that the worker has sent. `room(size)` returns an array of
        at least `size` bytes for the result.
        """
        starts, at = [], 0
        sizes = {ARRIVAL: self.entry_bytes, STEP: STEP_HEAD.size, REFERENCE: HEAD.size}
        while at < len(log):
            kind = log.item(at)
            if kind == REFERENCE:
                starts.append(at)
            at += sizes[kind]
        size = len(log) + len(starts) * (self.entry_bytes - HEAD.size)
        result, done, end = room(size), 0, 0
        for at in starts:
            _, number = HEAD.unpack_from(log.data, at)
            content = payload(*worker_and_task(number))[HEADER.size :]
            copied = at + HEAD.size - done
            result[end : end + copied] = log[done : done + copied]
            result[end + at - done] = ARRIVAL
            end += copied
            result[end : end + self.content_bytes] = content
            done, end = at + HEAD.size, padded(end + self.content_bytes)
        result[end:size] = log[done:]
        return size


def encode_excluded(excluded: np.ndarray) -> np.ndarray:
    """Return the section of a task before the log if payloads are exchanged: the excluded workers, uint8."""
    return np.append(len(excluded), excluded).astype(np.int64).view(np.uint8)


def excluded_bytes(workers: int) -> int:
    """Return the maximum length in bytes of the section of excluded workers."""
    return 8 + 8 * workers


def read_excluded(body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split the body of a task into the excluded workers, int64, and the log."""
    end = 8 + 8 * int(body[:8].view(np.int64)[0])
    return body[8:end].view(np.int64), body[end:]


def entry_head(kind: int, worker: int, task: int) -> bytes:
    """Return the head of a payload's entry."""
    return HEAD.pack(kind, task << WORKER_BITS | worker)


def worker_and_task(number: int) -> tuple[int, int]:
    """Return worker and task of a payload, from the number in its head."""
    return number & (1 << WORKER_BITS) - 1, number >> WORKER_BITS


def padded(size: int) -> int:
    """Round a number of bytes up to a multiple of 8."""
    return -(-size // 8) * 8

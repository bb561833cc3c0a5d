"""Log by which replicas follow rank 0: the payloads that it has used, and its steps.

An entry is a head of 16 bytes, followed for a payload by the codewords, unless workers choose them, and by
the reply without its header, up to a multiple of 8 bytes. A *reference* is the head alone, where a payload
comes from its worker: a message of the header of its reply, the codewords, and the reply without its header.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from .layout import HEADER, Layout

STEP_HEAD = struct.Struct("<qd")
"""Kind of an entry, and the step's damping."""
HEAD = struct.Struct("<qq")
"""Kind of an entry, and which payload it is: its task, shifted, and its worker."""
ARRIVAL, STEP, REFERENCE = 0, 1, 2
WORKER_BITS = 16
FLAGS = slice(2, 4)  # field of the header
FORWARDED = 1
"""Flag of a message to another worker that rank 0 has sent, where it may not have come from its worker."""


class LogFormat:
    """Sizes of entries.

    Parameters
    ----------
    layout : Layout
        Of the messages.

    Attributes
    ----------
    words_bytes : int
        Length of the codewords in an entry.
    content_bytes : int
        Length of an entry without its head: codewords, and the reply without its header.
    whole_bytes : int
        Length of a payload's entry.
    message_bytes : int
        Length of a payload's message to another worker.
    """

    def __init__(self, layout: Layout) -> None:
        self.words_bytes = 0 if layout.chosen else layout.codeword_bytes
        self.content_bytes = self.words_bytes + layout.reply_bytes - layout.header_bytes
        self.whole_bytes = padded(HEAD.size + self.content_bytes)
        self.message_bytes = HEADER.size + self.content_bytes

    def message(self, worker: int, task: int, words: np.ndarray, body: np.ndarray) -> np.ndarray:
        """Return the message to another worker of codewords and a reply without its header, uint8."""
        message, start = np.empty(self.message_bytes, np.uint8), HEADER.size + self.words_bytes
        HEADER.pack_into(message.data, 0, worker, 0, 0, task, 0, 0, 0, 0, 0, 0, 0.0)
        message[HEADER.size : start] = words
        message[start:] = body
        return message

    def forwarded(self, entry: np.ndarray) -> np.ndarray:
        """Return the message of a payload that is an entry of the log, as rank 0 sends it."""
        _, number = HEAD.unpack_from(entry.data)
        content = entry[HEAD.size : HEAD.size + self.content_bytes]
        message = self.message(*owner(number), content[: self.words_bytes], content[self.words_bytes :])
        message[FLAGS].view(np.uint16)[0] = FORWARDED
        return message

    def restore(
        self, log: np.ndarray, payload: Callable[[int, int], np.ndarray], room: Callable[[int], np.ndarray]
    ) -> int:
        """Replace the references of a log by the entries for which they stand.

        Parameters
        ----------
        log : ndarray of uint8
        payload : callable
            ``payload(worker, task)`` returns the message that the worker has sent.
        room : callable
            ``room(bytes)`` returns an array of at least so many bytes for the whole log.

        Returns
        -------
        int
            Length of the whole log.
        """
        starts, at = [], 0
        sizes = {ARRIVAL: self.whole_bytes, STEP: STEP_HEAD.size, REFERENCE: HEAD.size}
        while at < len(log):
            kind = log.item(at)
            if kind == REFERENCE:
                starts.append(at)
            at += sizes[kind]
        size = len(log) + len(starts) * (self.whole_bytes - HEAD.size)
        whole, done, end = room(size), 0, 0
        for at in starts:
            _, number = HEAD.unpack_from(log.data, at)
            content = payload(*owner(number))[HEADER.size :]
            copied = at + HEAD.size - done
            whole[end : end + copied] = log[done : done + copied]
            whole[end + at - done] = ARRIVAL
            end += copied
            whole[end : end + self.content_bytes] = content
            done, end = at + HEAD.size, padded(end + self.content_bytes)
        whole[end:size] = log[done:]
        return size


def notice_of(muted: np.ndarray) -> np.ndarray:
    """Return what precedes the log if payloads are exchanged, uint8: the number of muted workers, and who."""
    return np.append(len(muted), muted).astype(np.int64).view(np.uint8)


def notice_bytes(workers: int) -> int:
    """Return the bytes of the longest notice."""
    return 8 + 8 * workers


def read_notice(body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the muted workers, int64, and what follows them in a task's body."""
    end = 8 + 8 * int(body[:8].view(np.int64)[0])
    return body[8:end].view(np.int64), body[end:]


def head_of(kind: int, worker: int, task: int) -> bytes:
    """Return the head of a payload's entry."""
    return HEAD.pack(kind, task << WORKER_BITS | worker)


def owner(number: int) -> tuple[int, int]:
    """Return worker and task of a payload, of the number in its head."""
    return number & (1 << WORKER_BITS) - 1, number >> WORKER_BITS


def padded(size: int) -> int:
    """Round a number of bytes up to a multiple of 8."""
    return -(-size // 8) * 8

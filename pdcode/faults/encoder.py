"""An encoder with injected faults of payloads, on both clocks."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..transport.messages import Reply, Task
from ..util.stateful import load_state, state_of
from .base import ActiveFaults, Keys

# Keys of mini-batches beyond the keys of tasks: the first one, and their number for each version of θ.
FIRST_KEY, KEYS_PER_VERSION = 1 << 40, 1 << 10


class FaultyEncoder:
    """Wrapper of a worker's encoder, which corrupts parameters before it and payloads after it.

    The encoder's memory is updated by the correct payload, as the worker is not aware of the faults.
    `encoders` are the encoders of all rounds, which may share state; `number` is the round of this one.
    """

    def __init__(
        self, encoders: Sequence[Any], number: int, reply: Reply, worker: int, seed: int, faults: ActiveFaults
    ) -> None:
        self.inner, self._encoders = encoders[number], encoders
        self._reply, self._worker, self._seed, self._faults = reply, worker, seed, faults
        self._uncorrupted: list[tuple[np.ndarray, np.ndarray]] = []  # corrupted arrays, and correct copies

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, theta: np.ndarray, task: Task) -> float:
        self._active = self._faults.at(task.task, task.sent_ns[0])
        if not task.part:
            self._mend()  # encoders do not write the padding of payloads again
            for fault in self._active:
                fault.begin(self._worker, task.task)
        for fault in self._active:
            theta = fault.corrupt_parameters(theta)
        self._inputs = theta, task
        loss: float = self.inner.encode(theta, task)
        return loss

    def quantise(self, keys: Keys) -> None:
        self.inner.quantise(keys)
        theta, task = self._inputs
        reply = self._reply.parts[task.part]
        if self._active:
            self._uncorrupted += [(array, array.copy()) for array in (reply.body, reply.payload)]
        for fault in self._active:
            fault.corrupt_payload(reply, keys, partial(self._other_payload, reply, theta, task))

    def _other_payload(self, reply: Reply, theta: np.ndarray, task: Task, number: int) -> np.ndarray:
        """Return the payload of another mini-batch at θ, without a change of encoders and reply."""
        changed, key = [self._encoders, reply], task.task
        before = state_of(changed)
        task.task = FIRST_KEY + KEYS_PER_VERSION * task.version + number
        self.inner.encode(theta, task)
        self.inner.quantise((self._seed, self._worker, task.task))
        payload = reply.payload.copy()
        task.task = key
        load_state(changed, before)
        return payload

    def _mend(self) -> None:
        """Restore what faults have changed in the last reply."""
        for array, correct in self._uncorrupted:
            array[:] = correct
        self._uncorrupted.clear()

    def rollback(self) -> None:
        self._mend()
        self.inner.rollback()

    def state_dict(self) -> Any:
        return state_of(self.inner)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_state(self.inner, state)


def faulty_encoders(
    encoders: Sequence[Any], replies: Sequence[Reply], worker: int, seed: int, faults: ActiveFaults
) -> list[FaultyEncoder]:
    """Wrap a worker's encoders, one per round."""
    return [
        FaultyEncoder(encoders, number, reply, worker, seed, faults) for number, reply in enumerate(replies)
    ]

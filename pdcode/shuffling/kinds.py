"""Reshuffling of the training rows among the workers: the companion of tasks, of each kind.

Modules of MPI, and those that move rows, are imported where they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..config import kinds
from ..config.interfaces import ShuffleTable
from ..config.requirements import KeyNeeds, Need, none_of, one_of

if TYPE_CHECKING:
    from ..config import Config
    from ..mpi.companions import Carrier, Channel
    from ..mpi.link import Entry
    from ..mpi.process import Group
    from ..problems import DataSource, Problem
    from ..problems.dataset import Rows as Arrays
    from .senders import Shard, Shuffler


class Unmoved(ShuffleTable, tag="none"):
    """Rows stay where they are."""


class Uncoded(ShuffleTable, tag="uncoded"):
    """Each worker gets its new rows from rank 0."""

    moves: ClassVar[bool] = True
    requires: ClassVar[KeyNeeds] = {
        "kind": {
            "problem.shards": none_of(
                "replicated", "common", needed="shards that differ", why="moves rows among shards"
            ),
            "reduce.kind": one_of("star", why="has rows follow the tasks that rank 0 sends"),
            "scheme.name": Need(
                lambda name, config: kinds.find("schemes", name).has_shard,
                "a scheme whose workers have a shard each, such as 'lwpd'",
                "moves rows among shards",
            ),
        },
        **ShuffleTable.requires,
    }

    def check_rows(self, config: Config, source: DataSource) -> None:
        from .senders import check_rows

        check_rows(config, source)

    def companion(self, config: Config, source: DataSource) -> Shuffler:
        self.check_rows(config, source)
        return self.sender(config, source.whole.train)

    def sender(self, config: Config, rows: Arrays) -> Shuffler:
        """Build the sender of rows."""
        from .senders import Shuffler

        return Shuffler(config, rows)

    def recipient(self, config: Config, worker: int, rows: int, problem: Problem) -> Shard:
        from .senders import Shard

        return Shard(config, worker, rows, problem.dataset.train)

    def carrier(self, comm: Group, companion: Shuffler, config: Config) -> Carrier:
        from .ranks import RowCarrier

        return RowCarrier(comm, companion, config.link.segment)

    def channel(self, entry: Entry, recipient: Shard) -> Channel:
        from .ranks import RowChannel

        return RowChannel(entry.comm, entry.poller, recipient)


class Coded(Uncoded, tag="coded"):
    """All get XORs of rows, which they decode by their old rows."""

    def sender(self, config: Config, rows: Arrays) -> Shuffler:
        from .senders import CodedShuffler

        return CodedShuffler(config, rows)


class Exchange(Uncoded, tag="exchange"):
    """Workers send each other rows."""

    def sender(self, config: Config, rows: Arrays) -> Shuffler:
        from .senders import ExchangeShuffler

        return ExchangeShuffler(config, rows)

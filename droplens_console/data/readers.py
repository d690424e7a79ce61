"""The readers that keep something between requests, one of each for the whole console."""

from dataclasses import dataclass, field
from typing import Self

from droplens_console.data.runs import RunReader
from droplens_console.data.timed_cache import TimedCache
from droplens_console.stack import ConsoleStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """runs: with the logs of trainings; cache: of what is read again only after some time."""

    runs: RunReader
    cache: TimedCache = field(default_factory=TimedCache)

    @classmethod
    def of(cls, stack: ConsoleStack) -> Self:
        """The readers of a stack."""
        return cls(runs=RunReader(stack))

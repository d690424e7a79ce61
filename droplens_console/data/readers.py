"""The readers that keep something between requests, one of each for the whole console."""

from dataclasses import dataclass, field
from typing import Self

from droplens.state.reviews import Reviews
from droplens_console.data.dataset_drop import DatasetDrops
from droplens_console.data.results import ResultsReader
from droplens_console.data.review_desk import ReviewDesk, reviewer_name
from droplens_console.data.runs import RunReader
from droplens_console.data.suspects import SuspectDesk
from droplens_console.data.timed_cache import TimedCache
from droplens_console.stack import ConsoleStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """runs: with the logs of trainings; cache: of what is read again only after some time."""

    runs: RunReader
    reviews: ReviewDesk
    results: ResultsReader
    suspects: SuspectDesk
    drops: DatasetDrops
    cache: TimedCache = field(default_factory=TimedCache)

    @classmethod
    def of(cls, stack: ConsoleStack) -> Self:
        """The readers of a stack."""

        def reviews() -> Reviews:
            return Reviews(stack.table("ReviewsTableName"), stack.bucket)

        runs = RunReader(stack)
        return cls(
            runs=runs,
            reviews=ReviewDesk(stack.bucket, reviews, reviewer_name()),
            results=ResultsReader(stack),
            suspects=SuspectDesk(stack.bucket, runs.get),
            drops=DatasetDrops(stack),
        )

"""Images to review, for the pages of one reviewer: what is shown of each, and what was decided.

The table Reviews is authoritative: a decision is written there, and as a correction, before
`decide` returns.
The desk only remembers which review a page's name for it stands for, and which page has which, as
two pages of one reviewer share the reviewer's leases.
"""

import getpass
import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.classify.former_results import MAX_RESULT_BYTES
from droplens.domain.errors import ObjectMissing
from droplens.domain.result import TOP
from droplens.domain.review import NONE, Review
from droplens.domain.text import one_line
from droplens.state.cards import Cards
from droplens.state.reviews import LEASE, Page, Reviews
from droplens.state.runs import utc_now

# The most images that one page may claim at a time.
MOST_CLAIMED = 50
# Reviews whose names are remembered: those of some hours.
_MOST_KNOWN = 20_000
_READERS = 8
_LONGEST_NAME = 100  # of a reviewer


class UnknownReview(LookupError):
    """A name that no page of this console was given, or long ago."""


class UnknownClass(ValueError):
    """A label that is no class of the classifier."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A class that the model considers possible. probability: calibrated, in [0, 1]."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Item:
    """An image to review as a page shows it. name: of the review, for `decide` and the others.

    candidates: at most TOP, the most probable first.
    """

    name: str
    review: Review
    candidates: Sequence[Candidate]


@dataclass(slots=True)
class _Page:
    """The names of what a page has claimed and not decided. seen: when it last claimed."""

    seen: datetime
    names: set[str] = field(default_factory=set)


class ReviewDesk:
    """The reviews of one stack for one reviewer. Thread-safe.

    reviewer: as it is kept with each decision.
    """

    def __init__(
        self,
        bucket: Bucket,
        reviews: Callable[[], Reviews],
        reviewer: str,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """reviews: returns the calling thread's access to the table."""
        self._bucket = bucket
        self._reviews = reviews
        self.reviewer = reviewer
        self._clock = clock
        self._lock = threading.Lock()
        self._claiming = threading.Lock()
        self._items: dict[str, Item] = {}
        self._pages: dict[str, _Page] = {}

    def claim(self, page: str, classifier: str, count: int) -> list[Item]:
        """The next images for a page, at most `count`; no other page or person gets them.

        page: a name that the page has chosen for itself. What the reviewer's pages have gets a new
        lease.
        """
        with self._claiming:
            held = self._held(page)
            # A claim returns what the reviewer holds, too.
            reviews = self._reviews().claim(
                classifier, self.reviewer, min(count, MOST_CLAIMED) + len(held)
            )
            fresh = [review for review in reviews if _name(review) not in held]
            with ThreadPoolExecutor(_READERS) as threads:
                found = list(threads.map(self._item, fresh[:count]))
            with self._lock:
                for item in found:
                    self._remember(item)
                # The page may have been closed meanwhile: its images are the next page's.
                if page in self._pages:
                    self._pages[page].names.update(item.name for item in found)
        return found

    def decide(self, page: str, name: str, label: str) -> Review:
        """Keep the decision: a class of the classifier, or NONE.

        Raises UnknownReview, UnknownClass, and of the table AlreadyDecided and ReviewMissing.
        """
        item = self._known(name)
        offered = {NONE, *(one.label for one in item.candidates)}
        if label not in offered and label not in self.classes(item.review.classifier):
            raise UnknownClass(f"{item.review.classifier} has no class {label!r}")
        decided = self._reviews().decide(item.review, label, self.reviewer)
        self._replace(item, decided)
        self._forget(page, name)
        return decided

    def skip(self, page: str, name: str) -> None:
        """Put the image back into the queue, for this reviewer to its end. Raises UnknownReview."""
        self._reviews().release(self._known(name).review, self.reviewer)
        self._forget(page, name)

    def undo(self, page: str, name: str) -> None:
        """Take a decision back; the image is the page's again.

        Raises UnknownReview, and of the table AlreadyDecided and ReviewMissing.
        """
        item = self._known(name)
        self._replace(item, self._reviews().undo(item.review, self.reviewer))
        with self._lock:
            self._pages.setdefault(page, _Page(self._clock())).names.add(name)

    def leave(self, page: str) -> None:
        """The page was closed: the reviewer's next page gets its images."""
        with self._lock:
            self._pages.pop(page, None)

    def classes(self, classifier: str) -> list[str]:
        """The classes of the live model, in alphabetical order."""
        card = Cards(self._bucket).live(classifier)
        return sorted(card.classes) if card else []

    def waiting(self, classifier: str) -> Mapping[str, int]:
        """How many images wait, by reason."""
        return {str(reason): count for reason, count in self._reviews().waiting(classifier).items()}

    def decisions(self, classifier: str, after: str | None = None, limit: int = 50) -> Page:
        """Decided reviews of all reviewers, newest first. Raises ValueError for a wrong `after`."""
        return self._reviews().decisions(classifier, after=after, limit=limit)

    def _held(self, page: str) -> set[str]:
        """What the reviewer's pages have; those that were closed without notice have nothing."""
        now = self._clock()
        with self._lock:
            self._pages.setdefault(page, _Page(now)).seen = now
            self._pages = {
                name: kept for name, kept in self._pages.items() if now - kept.seen < LEASE
            }
            return set().union(*(kept.names for kept in self._pages.values()))

    def _remember(self, item: Item) -> None:
        self._items.pop(item.name, None)
        self._items[item.name] = item
        while len(self._items) > _MOST_KNOWN:
            del self._items[next(iter(self._items))]

    def _replace(self, item: Item, review: Review) -> None:
        with self._lock:
            self._remember(Item(item.name, review, item.candidates))

    def _known(self, name: str) -> Item:
        with self._lock:
            if name not in self._items:
                raise UnknownReview("the console was started anew since: load the page again")
            return self._items[name]

    def _forget(self, page: str, name: str) -> None:
        with self._lock:
            if page in self._pages:
                self._pages[page].names.discard(name)

    def _item(self, review: Review) -> Item:
        return Item(_name(review), review, self._candidates(review))

    def _candidates(self, review: Review) -> list[Candidate]:
        """Of the result, while it is the one that the review was entered for."""
        try:
            body, _ = self._bucket.read_at_most(review.result, MAX_RESULT_BYTES)
            result: Any = json.loads(body or b"{}")
            if result["model"]["run_id"] == review.model:
                return [
                    Candidate(str(one["label"]), float(one["probability"]))
                    for one in result["top"][:TOP]
                ]
        except (ObjectMissing, ValueError, LookupError, TypeError, RecursionError):
            pass  # the result was removed, or is of a later model
        return [Candidate(review.predicted, review.probability)]


def reviewer_name() -> str:
    """Who decides: what DROPLENS_REVIEWER says, else the user of this machine."""
    try:
        found = os.environ.get("DROPLENS_REVIEWER") or getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name
        found = ""
    return one_line(found, _LONGEST_NAME) or "unknown"


def _name(review: Review) -> str:
    identity = f"{review.classifier}\n{review.key}\n{review.version}\n{review.model}"
    return hashlib.sha256(identity.encode()).hexdigest()[:24]

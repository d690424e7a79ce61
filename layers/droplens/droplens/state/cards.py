"""Model cards in the bucket, with the conditional write that makes a model live."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from threading import Lock

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.card import ModelCard
from droplens.domain.errors import ObjectMissing, RetryLater
from droplens.domain.rollback_target import way_back_after

ATTEMPTS = 5
# How long classify_image caches the names of all classifiers.
NAMES_SECONDS = 60.0


class Cards:
    """The model cards of one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def live(self, classifier: str) -> ModelCard | None:
        """The live card of `classifier`, or None."""
        return self._live(classifier)[0]

    def all_live(self) -> Iterator[ModelCard]:
        """The live card of each classifier that has one."""
        for entry in self.bucket.entries(layout.MODELS):
            classifier = layout.live_classifier(entry.key)
            if classifier and (card := self.live(classifier)):
                yield card

    def classifiers(self) -> set[str]:
        """Every classifier with a packed dataset or a card, which a new classifier may not have."""
        return {
            name
            for prefix in (layout.PACKED, layout.MODELS)
            for name in self.bucket.level(prefix)
            if isinstance(name, str) and layout.is_classifier_name(name)
        }

    def of_run(self, classifier: str, run_id: str) -> ModelCard | None:
        """The card of one run, live or not, or None if the run was never evaluated."""
        try:
            body, _ = self.bucket.read(layout.card_key(classifier, run_id))
        except ObjectMissing:
            return None
        return ModelCard.from_json(body)

    def keep(self, card: ModelCard) -> None:
        """Store a run's own card; does nothing if there is one."""
        self.bucket.write_json(layout.card_key(card.classifier, card.run_id), card.to_json())

    def make_live(
        self, card: ModelCard, judge: Callable[[ModelCard | None], ModelCard] | None = None
    ) -> ModelCard:
        """Make `card` the live one, unless a newer run is or was live.

        judge: called with the live card that would be replaced; returns `card` with the outcome of
        the comparison, or raises, and nothing is replaced. The write is conditional on the card
        that `judge` was called with; if another went live in between, it is called with that one.

        Returns the live card afterwards: this one, with `replaces` set, or the one that stays.
        """
        return self._switch(card, lambda live: is_past(card, live), judge)

    def roll_back(self, card: ModelCard, leaving: str) -> ModelCard:
        """Make `card` the live one, if the run `leaving` still is.

        Returns the live card afterwards, as `make_live` does.
        """
        return self._switch(card, lambda live: live.run_id != leaving)

    def _switch(
        self,
        card: ModelCard,
        stays: Callable[[ModelCard], bool],
        judge: Callable[[ModelCard | None], ModelCard] | None = None,
    ) -> ModelCard:
        """The conditional write. stays: whether the live card must not be replaced."""
        for _ in range(ATTEMPTS):
            live, etag = self._live(card.classifier)
            if live is not None and (live.run_id == card.run_id or stays(live)):
                return live
            candidate = replace(
                judge(live) if judge else card,
                replaces=live.run_id if live else None,
                generation=live.generation + 1 if live else 1,
                newest=max(card.run_id, live.run_id, live.newest) if live else card.run_id,
                way_back=way_back_after(card.run_id, live.run_id, live.way_back, live.replaces)
                if live
                else (),
            )
            if self.bucket.write_json(
                layout.live_card_key(card.classifier), candidate.to_json(), replacing=etag
            ):
                return candidate
        raise RetryLater("promotion.contended", f"{card.classifier}: live.json keeps changing")

    def default_classifier(self) -> str | None:
        """The classifier that answers images which name none, or None while there is none."""
        try:
            body, _ = self.bucket.read(layout.DEFAULT_CLASSIFIER_KEY)
        except ObjectMissing:
            return None
        return str(json.loads(body)["classifier"])

    def make_default_if_first(self, classifier: str) -> None:
        """The first classifier to go live becomes the default one."""
        self.bucket.write_json(
            layout.DEFAULT_CLASSIFIER_KEY, json.dumps({"classifier": classifier}).encode()
        )

    def live_since(self, classifier: str, etag: str | None) -> tuple[ModelCard, str] | None:
        """The live card with its ETag; None if its ETag is still `etag`. Raises ObjectMissing."""
        key = layout.live_card_key(classifier)
        read = self.bucket.read_if_changed(key, etag) if etag else self.bucket.read(key)
        return (ModelCard.from_json(read[0]), read[1].etag) if read else None

    def _live(self, classifier: str) -> tuple[ModelCard | None, str | None]:
        try:
            body, info = self.bucket.read(layout.live_card_key(classifier))
        except ObjectMissing:
            return None, None
        return ModelCard.from_json(body), info.etag


def is_past(card: ModelCard, live: ModelCard | None) -> bool:
    """Whether `card` must not go live by promotion: it is live, or a newer run is or was.

    Compared with all that were ever live, so that after a rollback a repeated event does not
    promote again the run that was rolled back from.
    """
    return live is not None and max(live.run_id, live.newest) >= card.run_id


@dataclass(frozen=True, slots=True)
class _Known:
    """A cached card with its ETag; until: when it expires, in monotonic seconds."""

    card: ModelCard
    etag: str
    until: float


class CachedCards:
    """A thread-safe cache of the live cards, for a function that classifies many images.

    A missing card is not cached: an image without a model is left to the sweep that follows the
    promotion, which is right only if there was no model at that moment. One thread at a time reads
    from the bucket.
    """

    def __init__(self, cards: Cards, seconds: float = 5.0) -> None:
        self.cards = cards
        self.seconds = seconds
        self._known: dict[str, _Known] = {}
        self._default: tuple[str, float] | None = None
        self._classifiers: tuple[set[str], float] | None = None
        self._lock = Lock()

    def live(self, classifier: str, *, fresh: bool = False) -> ModelCard | None:
        """The live card, or None. fresh: read it from the bucket even if it is cached."""
        with self._lock:
            known = self._known.get(classifier)
            if known and not fresh and time.monotonic() < known.until:
                return known.card
            try:
                changed = self.cards.live_since(classifier, known.etag if known else None)
            except ObjectMissing:
                self._known.pop(classifier, None)
                return None
            until = time.monotonic() + self.seconds
            if changed:
                self._known[classifier] = _Known(*changed, until)
            elif known:
                self._known[classifier] = replace(known, until=until)
            return self._known[classifier].card

    def default_classifier(self) -> str | None:
        """The classifier that answers images which name none, or None while there is none."""
        with self._lock:
            if self._default and time.monotonic() < self._default[1]:
                return self._default[0]
            name = self.cards.default_classifier()
            self._default = (name, time.monotonic() + self.seconds) if name else None
            return name

    def classifiers(self) -> set[str]:
        """As `Cards.classifiers`, cached for NAMES_SECONDS."""
        with self._lock:
            if self._classifiers is None or time.monotonic() >= self._classifiers[1]:
                found = self.cards.classifiers()
                self._classifiers = (found, time.monotonic() + NAMES_SECONDS)
            return self._classifiers[0]

"""Folders below input/ that name no classifier, so that their images are not classified."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from droplens.classify.routing import likely_classifier
from droplens.domain import layout
from droplens.state.cards import Cards

# A bucket may have a folder for every day: a few are enough for a message.
MOST = 20


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A folder's name, and the classifier with the most similar name, if there is one."""

    folder: str
    likely: str | None

    def to_dict(self) -> dict[str, str | None]:
        """The map in a run's item."""
        return {"folder": self.folder, "likely": self.likely}


def unclaimed_folders(
    cards: Cards, is_known: Callable[[str], bool], most: int = MOST
) -> list[Unclaimed]:
    """The first `most` folders below input/ that name no classifier, in S3's order.

    is_known: whether a classifier has ever had a run.
    """
    classifiers = cards.classifiers()

    def found() -> Iterator[Unclaimed]:
        for folder in cards.bucket.level(layout.INPUT):
            if not isinstance(folder, str) or folder in classifiers:
                continue
            if layout.is_classifier_name(folder) and is_known(folder):
                continue
            yield Unclaimed(folder, likely_classifier(folder, classifiers))

    return list(islice(found(), most))

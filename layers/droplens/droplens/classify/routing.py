"""Routing of dropped images to classifiers."""

import difflib
from collections.abc import Callable, Collection

from droplens.domain import layout

# A folder's name may have a thousand characters; a classifier's has 31 at most.
_COMPARED_CHARACTERS = 64


class Router:
    """Routes an image to the classifier named by its first folder, or without a folder to the
    default classifier.

    Images in a folder that names no classifier wait until there is such a classifier, or until
    they are moved: the default classifier was not trained for them.

    is_known: whether a classifier has ever had a run.
    default: the default classifier's name, or None while there is none.
    """

    def __init__(self, is_known: Callable[[str], bool], default: Callable[[], str | None]) -> None:
        self.is_known = is_known
        self.default = default

    def classifier_for(self, key: str) -> str | None:
        """The classifier for `key`, or None if there is none yet."""
        if layout.first_folder(key) is None:
            return self.default()
        named = layout.named_classifier(key)
        return named if named is not None and self.is_known(named) else None


def likely_classifier(folder: str, classifiers: Collection[str]) -> str | None:
    """The classifier with the name most similar to `folder`, or None if none is similar.

    By difflib's ratio of matching characters, ignoring case.
    """
    written = folder[:_COMPARED_CHARACTERS].casefold()
    near = difflib.get_close_matches(written, sorted(classifiers), n=1)
    return near[0] if near else None

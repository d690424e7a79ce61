"""Which classifier answers which image."""

import difflib
from collections.abc import Callable, Collection

from droplens.domain import layout

# A folder's name may have a thousand characters; a classifier's has 31 at most.
_COMPARED_CHARACTERS = 64


class Router:
    """Sends an image to the classifier that its first folder names, and one that stands in no
    folder to the default classifier.

    A folder that names no classifier is nobody's: its images wait until the classifier is there,
    or until somebody moves them. The default one knows nothing of what they show.

    is_known: whether a classifier has ever had a run.
    default: the default classifier's name, or None while there is none.
    """

    def __init__(self, is_known: Callable[[str], bool], default: Callable[[], str | None]) -> None:
        self.is_known = is_known
        self.default = default

    def classifier_for(self, key: str) -> str | None:
        """The classifier that answers `key`, or None if for now there is none."""
        if layout.first_folder(key) is None:
            return self.default()
        named = layout.named_classifier(key)
        return named if named is not None and self.is_known(named) else None


def likely_classifier(folder: str, classifiers: Collection[str]) -> str | None:
    """The classifier that whoever wrote `folder` most likely meant, or None if none is near.

    By difflib's ratio of matching characters, whatever the case.
    """
    written = folder[:_COMPARED_CHARACTERS].casefold()
    near = difflib.get_close_matches(written, sorted(classifiers), n=1)
    return near[0] if near else None

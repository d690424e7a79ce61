"""Which classifier answers which picture."""

from collections.abc import Callable

from droplens import layout


class Router:
    """Sends a picture to the classifier that its key names, or to the default one.

    is_known: whether a classifier is live or has ever had a run. A picture for a classifier
    whose first model is still in the making waits for it; it is not the default's to answer.
    default: the default classifier's name, or None while there is none.
    """

    def __init__(self, is_known: Callable[[str], bool], default: Callable[[], str | None]) -> None:
        self.is_known = is_known
        self.default = default

    def classifier_for(self, key: str) -> str | None:
        """The classifier that answers `key`, or None if for now there is none."""
        named = layout.named_classifier(key)
        if named is not None and self.is_known(named):
            return named
        return self.default()

"""Addresses of the console's own pages that several modules link to."""

from urllib.parse import urlencode

from droplens.domain.run import RunKey


def run_address(key: RunKey) -> str:
    """The page of a run."""
    return f"/runs/{key.classifier}/{key.run_id}"


def models_address(classifier: str) -> str:
    """The page of a classifier's models."""
    return f"/models/{classifier}"


def thumbnail_address(key: str, version: str | None, side: int) -> str:
    """A thumbnail of an object of the bucket. version: None for the newest."""
    return f"/thumbnail?{urlencode({'key': key, 'version': version or '', 'side': side})}"

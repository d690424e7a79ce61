"""What the address of a page names: a classifier, or one of its runs."""

from starlette.exceptions import HTTPException
from starlette.requests import Request

from droplens.domain.layout import is_classifier_name
from droplens.domain.run import RunKey


def classifier_of(request: Request) -> str:
    """The classifier of a page's address. Raises HTTPException."""
    return checked_classifier(request.path_params["classifier"])


def checked_classifier(name: str) -> str:
    """The name, if a classifier can have it. Raises HTTPException."""
    if not is_classifier_name(name):
        raise HTTPException(404, "there is no such classifier")
    return name


def run_key_of(request: Request) -> RunKey:
    """The run of a page's address, which need not exist. Raises HTTPException."""
    return RunKey(classifier_of(request), request.path_params["run_id"])

"""Resource names derived from a run, so that repeated events address the same resources."""

import hashlib
import re
from datetime import UTC, datetime, timedelta

from droplens.domain.errors import UserError

# SageMaker allows 63 characters, and IAM compares SageMaker resource names in lower case.
MAX_NAME = 63
MAX_STACK = 30
# No stack's name contains two hyphens in a row or ends with one, so that no other stack's resource
# names begin with this prefix: IAM policies and event rules distinguish droplens and droplens-dev.
SEPARATOR = "--"
_STACK = re.compile(r"[a-z](-?[a-z0-9])*")


def run_id(completed_at: datetime, identity: str) -> str:
    """The run id of one completed dataset, e.g. "20261122-120000-1a2b3c".

    completed_at: when S3 stored the completing object; it makes run ids sort by age.
    identity: key and version of that object, so that every delivery of its event gives one id.
    """
    digest = hashlib.sha256(identity.encode()).hexdigest()[:6]
    return f"{completed_at.astimezone(UTC):%Y%m%d-%H%M%S}-{digest}"


def later_run_id(than: str, now: datetime, identity: str) -> str:
    """As `run_id` at the time `now`, but sorted after the run id `than`, whatever clocks say."""
    earliest = datetime.strptime(f"{than[:15]}+0000", "%Y%m%d-%H%M%S%z") + timedelta(seconds=1)
    return run_id(max(now, earliest), identity)


def resource_name(stack: str, classifier: str, run: str) -> str:
    """The name of the run's job, model and endpoint: <stack>--<classifier>-<run>, 63 at most.

    A classifier name that is too long is truncated and gets a digest, so that names with a common
    prefix stay distinct. Raises UserError for a stack name that is too long, not in lower case, or
    ambiguous.
    """
    prefix = _prefix(stack)
    room = MAX_NAME - len(prefix) - len(run) - 1
    if len(classifier) > room:
        digest = hashlib.sha256(classifier.encode()).hexdigest()[:6]
        classifier = f"{classifier[: room - 7].rstrip('-')}-{digest}".lstrip("-")
    return f"{prefix}{classifier}-{run}"


def group_name(stack: str, classifier: str) -> str:
    """The name of a classifier's model package group: <stack>--<classifier>; raises UserError."""
    return f"{_prefix(stack)}{classifier}"


def _prefix(stack: str) -> str:
    if len(stack) > MAX_STACK or not _STACK.fullmatch(stack):
        raise UserError(
            "stack.name",
            f"the stack is called {stack!r}: SageMaker's names are made from it, so it must be "
            f"lower-case letters, digits and single '-', at most {MAX_STACK} characters",
        )
    return stack + SEPARATOR

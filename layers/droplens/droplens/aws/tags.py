"""The tags of SageMaker resources that name their run."""

from collections.abc import Mapping
from typing import Any

from droplens.domain.run import RunKey

TAG_CLASSIFIER = "droplens:classifier"
TAG_RUN = "droplens:run"


def tag_map(tags: Any) -> dict[str, str]:
    """Tags as a mapping; AWS sends a mapping in some events, a list in others."""
    if isinstance(tags, Mapping):
        return {str(key): str(value) for key, value in tags.items()}
    return {
        str(tag.get("Key", tag.get("key"))): str(tag.get("Value", tag.get("value")))
        for tag in tags or []
    }


def tag_list(run: RunKey) -> list[Any]:
    """The tags of a run's SageMaker resources, as a request takes them."""
    return [
        {"Key": TAG_CLASSIFIER, "Value": run.classifier},
        {"Key": TAG_RUN, "Value": run.run_id},
    ]


def tagged_run(tags: Mapping[str, str]) -> RunKey | None:
    """The run that these tags name, or None."""
    if TAG_CLASSIFIER in tags and TAG_RUN in tags:
        return RunKey(tags[TAG_CLASSIFIER], tags[TAG_RUN])
    return None

"""Endpoints that no run needs any more: removed, or kept on record until they can be."""

from typing import TYPE_CHECKING

from droplens.aws.sagemaker import remove_endpoint
from droplens.domain.run import RunKey
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient


def dispose(sagemaker: "SageMakerClient", runs: Runs, run: RunKey, name: str) -> bool:
    """Remove an endpoint of a run, with its configuration and model.

    False where SageMaker refuses that now. The endpoint stays in the run's record until it is
    removed: after the event of its next change, or by resume_runs.
    """
    runs.to_be_removed(run, name)
    if not remove_endpoint(sagemaker, name):
        return False
    runs.is_removed(run, name)
    return True

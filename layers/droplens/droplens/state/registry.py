"""SageMaker's Model Registry: every model that may go live, with its metrics.

A person approves a model for promotion by its approval status there.
"""

import hashlib
from typing import TYPE_CHECKING, Any

from droplens.aws.sagemaker import create_once
from droplens.aws.sagemaker_runtime import CONTENT_TYPE
from droplens.aws.tags import TAG_CLASSIFIER, TAG_RUN, tagged_run
from droplens.domain import layout, naming
from droplens.domain.card import ModelCard
from droplens.domain.figures import counted
from droplens.domain.run import Run, RunKey
from droplens.records.manifest import PackedDataset

if TYPE_CHECKING:
    from types_boto3_sagemaker.client import SageMakerClient

APPROVED = "Approved"
REJECTED = "Rejected"
PENDING = "PendingManualApproval"


class Registry:
    """The registered models of one stack, one model package group per classifier.

    stack: the prefix of every group's name; code_version: of the code that registers a model.
    """

    def __init__(self, sagemaker: "SageMakerClient", stack: str, code_version: str) -> None:
        self.sagemaker = sagemaker
        self.stack = stack
        self.code_version = code_version

    def register(
        self, card: ModelCard, run: Run, dataset: PackedDataset, bucket: str, status: str
    ) -> str:
        """Register an evaluated model with the approval `status`; returns its ARN.

        Idempotent by a client token, for as long as SageMaker keeps tokens.
        """
        group = naming.group_name(self.stack, card.classifier)
        create_once(
            self.sagemaker.create_model_package_group,
            lambda: self.sagemaker.describe_model_package_group(ModelPackageGroupName=group),
            ModelPackageGroupName=group,
            ModelPackageGroupDescription=f"Droplens: models of the classifier {card.classifier}",
        )
        evaluation = layout.evaluation_key(card.classifier, card.run_id)
        response = self.sagemaker.create_model_package(
            ModelPackageGroupName=group,
            ModelPackageDescription=f"Run {card.run_id}, validation accuracy "
            + counted(card.measured.right, card.measured.pictures),
            ModelApprovalStatus=status,  # type: ignore[arg-type]
            InferenceSpecification={
                "Containers": [{"Image": run.image, "ModelDataUrl": run.model_data}],
                "SupportedContentTypes": [CONTENT_TYPE],
                "SupportedResponseMIMETypes": ["application/json"],
            },
            ModelMetrics={
                "ModelQuality": {
                    "Statistics": {
                        "ContentType": "application/json",
                        "S3Uri": f"s3://{bucket}/{evaluation}",
                    }
                }
            },
            MetadataProperties={
                "CommitId": self.code_version,
                "GeneratedBy": run.training_job,
            },
            CustomerMetadataProperties=self._properties(card, run, dataset),
            ClientToken=_token(self.stack, run.key),
        )
        return response["ModelPackageArn"]

    def approval(self, arn: str) -> tuple[str, str]:
        """The approval status and its description, which the approver may have written."""
        found = self.sagemaker.describe_model_package(ModelPackageName=arn)
        return found["ModelApprovalStatus"], found.get("ApprovalDescription", "")

    def _properties(self, card: ModelCard, run: Run, dataset: PackedDataset) -> dict[str, str]:
        facts: dict[str, Any] = {
            TAG_CLASSIFIER: card.classifier,
            TAG_RUN: card.run_id,
            "dataset-digest": dataset.digest,
            "dataset-version": run.dataset["version"],
            "packing-job": run.batch_job_id or "unknown",
            "training-job": run.training_job,
            "trainer": card.trainer,
            "pictures": card.measured.pictures,
            "accuracy": round(card.measured.accuracy, 6),
            "top5": round(card.measured.top5, 6),
            "ece": card.ece_after,
            "coverage": card.coverage,
        }
        return {name: str(value)[:256] for name, value in facts.items()}


def run_of_package(sagemaker: "SageMakerClient", arn: str) -> RunKey | None:
    """The run that trained a registered model; None for one that Droplens did not register."""
    found = sagemaker.describe_model_package(ModelPackageName=arn)
    return tagged_run(found.get("CustomerMetadataProperties", {}))


def _token(stack: str, run: RunKey) -> str:
    """The client token, the same for every attempt to register one run's model."""
    identity = "\n".join((stack, run.classifier, run.run_id))
    return hashlib.sha256(identity.encode()).hexdigest()[:36]

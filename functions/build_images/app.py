"""CloudFormation requests a container image, or CodeBuild has built it: build, or respond."""

from importlib import import_module
from pathlib import Path
from typing import Any

import boto3
from aws_lambda_powertools.utilities.typing import LambdaContext

from droplens.aws.s3 import Bucket
from droplens.journey.container_images import ImageBuilder
from droplens.runtime.settings import BuildingSettings
from droplens.runtime.telemetry import logger
from droplens.runtime.tracing import tracer

SETTINGS = BuildingSettings.from_environment()
BUILDER = ImageBuilder(
    # The layer with the sources is on the path, wherever it is mounted.
    context=Path(import_module("image_sources").__path__[0]),
    bucket=Bucket(boto3.client("s3"), SETTINGS.bucket),
    project=SETTINGS.build_project,
    codebuild=boto3.client("codebuild"),
    ecr=boto3.client("ecr"),
    logs=boto3.client("logs"),
)


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Take a custom resource's request, or CodeBuild's event that a build has ended."""
    seconds = context.get_remaining_time_in_millis() / 1000
    if "RequestType" in event:
        BUILDER.handle(event, seconds)
    else:
        BUILDER.build_ended(event["detail"], seconds)

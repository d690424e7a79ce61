"""An image that cannot be built fails the deployment, and the deployment says why."""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.deployed_cloud import Cloud

FUNCTION = "droplens-build-images"
STACK = "broken-image"
DOCKERFILE = """\
FROM python:3.13-slim
WORKDIR /opt/program
RUN python -c "raise SystemExit('the wheel is broken')"
ENTRYPOINT ["python", "-m", "batch_prep"]
"""


@pytest.fixture
def broken_sources(cloud: Cloud) -> Iterator[None]:
    """The deployed function, with a Dockerfile of ours among its sources."""
    functions = cloud.client("lambda")
    configured = functions.get_function_configuration(FunctionName=FUNCTION)
    layers = [layer["Arn"] for layer in configured["Layers"]]
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("python/image_sources/batch_prep/Dockerfile", DOCKERFILE)
    published = functions.publish_layer_version(
        LayerName="broken-sources", Content={"ZipFile": body.getvalue()}
    )
    broken = published["LayerVersionArn"]
    [shared] = [arn for arn in layers if ":layer:droplens-layer:" in arn]
    functions.update_function_configuration(FunctionName=FUNCTION, Layers=[shared, broken])
    yield
    functions.update_function_configuration(FunctionName=FUNCTION, Layers=layers)
    functions.delete_layer_version(LayerName="broken-sources", VersionNumber=published["Version"])
    cloud.client("cloudformation").delete_stack(StackName=STACK)


def template(cloud: Cloud) -> dict[str, Any]:
    """The image of the real template, asked for by another stack."""
    uri = cloud.outputs["BatchPrepRepositoryUri"]
    function = cloud.client("lambda").get_function_configuration(FunctionName=FUNCTION)
    return {
        "Resources": {
            "BatchPrepImage": {
                "Type": "Custom::ContainerImage",
                "Properties": {
                    "ServiceToken": function["FunctionArn"],
                    "ServiceTimeout": 600,
                    "Image": "batch-prep",
                    "Repository": uri.partition("/")[2],
                    "RepositoryUri": uri,
                },
            }
        }
    }


@pytest.mark.usefixtures("broken_sources")
def test_a_broken_dockerfile_fails_the_deployment_in_its_own_words(cloud: Cloud) -> None:
    formation = cloud.client("cloudformation")
    formation.create_stack(StackName=STACK, TemplateBody=json.dumps(template(cloud)))

    def ended() -> str | None:
        [stack] = formation.describe_stacks(StackName=STACK)["Stacks"]
        status: str = stack["StackStatus"]
        return None if status.endswith("IN_PROGRESS") else status

    assert cloud.eventually(ended, "the end of the deployment") in (
        "ROLLBACK_COMPLETE",
        "CREATE_FAILED",
    )
    events = formation.describe_stack_events(StackName=STACK)["StackEvents"]
    [reason] = [
        event["ResourceStatusReason"]
        for event in events
        if event["LogicalResourceId"] == "BatchPrepImage"
        and event["ResourceStatus"] == "CREATE_FAILED"
    ]
    assert cloud.outputs["BatchPrepRepositoryUri"] in reason
    assert "ended as FAILED" in reason
    assert "Dockerfile:3: RUN python" in reason
    assert "the wheel is broken" in reason

    def erased() -> bool | None:
        left = cloud.client("s3").list_object_versions(Bucket=cloud.bucket, Prefix="build/")
        return None if left.keys() & {"Versions", "DeleteMarkers"} else True

    cloud.eventually(erased, "the erasing of what the build was made from")

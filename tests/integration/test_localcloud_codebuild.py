"""CodeBuild on the local cloud: an image is made of the zip, or the event says what went wrong."""

import io
import json
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.localcloud_support import ACCOUNT, DOCKERFILE, REGION, Cloud, eventually

REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
BROKEN = """RUN python -c "raise SystemExit('the wheel is broken')"\n"""


def zipped(name: str, more: str = "") -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr(f"{name}/Dockerfile", DOCKERFILE.format(folder=name) + more)
        archive.writestr(f"{name}/program.py", "print('built by CodeBuild')\n")
    return body.getvalue()


def built(cloud: Cloud, name: str, source: bytes, **variables: str) -> dict[str, Any]:
    """Start a build of an image as the stack's function does; -> the event's detail."""
    bucket = cloud.bucket(f"{name}-sources".replace("_", "-"))
    cloud.client("s3").put_object(Bucket=bucket, Key="build/1.zip", Body=source)
    role = cloud.role(f"{name}-build", "codebuild.amazonaws.com")
    cloud.client("ecr").create_repository(repositoryName=f"lens/{name.replace('_', '-')}")
    codebuild = cloud.client("codebuild")
    codebuild.create_project(
        name=name,
        source={"type": "S3", "location": f"{bucket}/build/"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "a", "computeType": "b"},
        serviceRole=role,
    )
    events = cloud.queue_of_events(
        name, {"source": ["aws.codebuild"], "detail": {"project-name": [name]}}
    )
    uri = f"{REGISTRY}/lens/{name.replace('_', '-')}:tag-1"
    started = codebuild.start_build(
        projectName=name,
        sourceTypeOverride="S3",
        sourceLocationOverride=f"{bucket}/build/1.zip",
        environmentVariablesOverride=[
            {"name": variable, "value": value, "type": "PLAINTEXT"}
            for variable, value in {"IMAGE_URI": uri, **variables}.items()
        ],
    )["build"]
    [event] = eventually("the end of the build", events, within=120)
    assert event["detail-type"] == "CodeBuild Build State Change"
    assert event["detail"]["build-id"] == started["arn"]
    [record] = codebuild.batch_get_builds(ids=[started["id"]])["builds"]
    assert record["buildStatus"] == event["detail"]["build-status"]
    return dict(event["detail"])


def test_an_image_is_built_from_the_zip_and_pushed(cloud: Cloud) -> None:
    detail = built(cloud, "zipped_job", zipped("zipped_job"))
    assert detail["build-status"] == "SUCCEEDED"
    given = detail["additional-information"]["environment"]["environment-variables"]
    assert [variable["name"] for variable in given] == ["IMAGE_URI"]
    ecr = cloud.client("ecr")
    [image] = ecr.describe_images(repositoryName="lens/zipped-job")["imageDetails"]
    assert image["imageTags"] == ["tag-1"]
    # Only the zip has its sources: the cloud's own context has no such folder.
    [program] = cloud.images.glob("zipped-job/*/opt/program/zipped_job/program.py")
    assert program.read_text() == "print('built by CodeBuild')\n"


def test_a_broken_dockerfile_fails_the_build_in_its_own_words(cloud: Cloud) -> None:
    detail = built(cloud, "broken_job", zipped("broken_job", BROKEN))
    assert detail["build-status"] == "FAILED"
    about = detail["additional-information"]
    [phase] = about["phases"]
    assert (phase["phase-type"], phase["phase-status"]) == ("BUILD", "FAILED")
    assert "Dockerfile:7: RUN python" in " ".join(phase["phase-context"])
    said = cloud.client("logs").get_log_events(
        logGroupName=about["logs"]["group-name"], logStreamName=about["logs"]["stream-name"]
    )["events"]
    assert "the wheel is broken" in json.dumps([event["message"] for event in said])
    images = cloud.client("ecr").describe_images(repositoryName="lens/broken-job")
    assert images["imageDetails"] == []


def test_an_image_made_from_another_is_refused_with_advice(cloud: Cloud) -> None:
    detail = built(
        cloud,
        "layered_job",
        zipped("layered_job"),
        DOCKERFILE="layered_job/fast.Dockerfile",
        BASE=f"{REGISTRY}/lens/zipped-job:tag-1",
    )
    assert detail["build-status"] == "FAILED"
    [phase] = detail["additional-information"]["phases"]
    told = " ".join(phase["phase-context"])
    assert "layered_job/fast.Dockerfile: without Docker" in told
    assert "Recipe=probe" in told


def test_a_project_that_is_not_there_builds_nothing(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        cloud.client("codebuild").start_build(projectName="not-there")

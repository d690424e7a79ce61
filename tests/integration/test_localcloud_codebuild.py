"""CodeBuild on the local cloud: an image is made of the zip, or the event says what went wrong.

And what CodeBuild refuses in an account, it refuses here.
"""

import io
import json
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from droplens.journey.container_images import Sources
from tests.support.localcloud import ACCOUNT, DOCKERFILE, REGION, Cloud, eventually

REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
BROKEN = """RUN python -c "raise SystemExit('the wheel is broken')"\n"""


SLOW = """RUN python -c "import time; time.sleep(3)"\n"""


def zipped(name: str, more: str = "", mode: int = 0o644) -> bytes:
    sources = Sources(
        "1",
        {
            f"{name}/Dockerfile": (DOCKERFILE.format(folder=name) + more).encode(),
            f"{name}/program.py": b"print('built by CodeBuild')\n",
        },
    )
    body = io.BytesIO(sources.zip())
    if mode != 0o644:
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as archive:
            for path, content in sources.files.items():
                entry = zipfile.ZipInfo(path)
                entry.external_attr = mode << 16
                archive.writestr(entry, content)
    return body.getvalue()


def project(cloud: Cloud, name: str, source: bytes) -> dict[str, Any]:
    """What StartBuild is given, as the stack's function does it."""
    bucket = cloud.bucket(f"{name}-sources".replace("_", "-"))
    s3 = cloud.client("s3")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key="build/1.zip", Body=source)["VersionId"]
    s3.put_object(Bucket=bucket, Key="build/1.zip", Body=b"a later version")
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
    return {
        "projectName": name,
        "sourceTypeOverride": "S3",
        "sourceLocationOverride": f"{bucket}/build/1.zip",
        "sourceVersion": version,
    }


def built(cloud: Cloud, name: str, source: bytes, **variables: str) -> dict[str, Any]:
    """Start a build of an image; -> the event's detail."""
    start = project(cloud, name, source)
    codebuild = cloud.client("codebuild")
    events = cloud.queue_of_events(
        name, {"source": ["aws.codebuild"], "detail": {"project-name": [name]}}
    )
    uri = f"{REGISTRY}/lens/{name.replace('_', '-')}:tag-1"
    started = codebuild.start_build(
        **start, environmentVariablesOverride=environment(IMAGE_URI=uri, **variables)
    )["build"]
    [event] = eventually("the end of the build", events, within=120)
    assert event["detail-type"] == "CodeBuild Build State Change"
    assert event["detail"]["build-id"] == started["arn"]
    [record] = codebuild.batch_get_builds(ids=[started["id"]])["builds"]
    assert record["buildStatus"] == event["detail"]["build-status"]
    return dict(event["detail"])


def environment(**variables: str) -> list[dict[str, str]]:
    return [
        {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()
    ]


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


def test_the_package_index_of_the_user_is_known_to_the_build(cloud: Cloud) -> None:
    shown = """RUN python -c "import os; raise SystemExit(os.environ['PIP_INDEX_URL'])"\n"""
    index = "https://packages.example/simple"
    detail = built(cloud, "mirror_job", zipped("mirror_job", shown), PIP_INDEX_URL=index)
    logs = detail["additional-information"]["logs"]
    said = cloud.client("logs").get_log_events(
        logGroupName=logs["group-name"], logStreamName=logs["stream-name"]
    )["events"]
    assert index in json.dumps([event["message"] for event in said])


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


def test_a_file_that_another_user_cannot_read_fails_the_build(cloud: Cloud) -> None:
    """The mode that Python's zipfile gives: in an account the container itself would fail."""
    detail = built(cloud, "secret_job", zipped("secret_job", mode=0o100600))
    assert detail["build-status"] == "FAILED"
    [phase] = detail["additional-information"]["phases"]
    told = " ".join(phase["phase-context"])
    assert "PermissionError: [Errno 13] Permission denied" in told
    assert "/opt/program/secret_job/program.py" in told
    assert (
        cloud.client("ecr").describe_images(repositoryName="lens/secret-job")["imageDetails"] == []
    )


def test_a_new_account_has_room_for_one_build(cloud: Cloud) -> None:
    cloud.quotas("--set", "L-9D07B6EF=1")  # the tests' cloud is a grown account
    start = project(cloud, "slow_job", zipped("slow_job", SLOW))
    start["environmentVariablesOverride"] = environment(IMAGE_URI=f"{REGISTRY}/lens/slow-job:1")
    codebuild = cloud.client("codebuild")
    first = codebuild.start_build(**start, idempotencyToken="one")["build"]["id"]
    assert codebuild.start_build(**start, idempotencyToken="one")["build"]["id"] == first
    with pytest.raises(ClientError, match="AccountLimitExceededException") as refused:
        codebuild.start_build(**start, idempotencyToken="two")
    message = refused.value.response["Error"]["Message"]
    assert message == "Cannot have more than 1 builds in queue for the account"
    with pytest.raises(ClientError, match="InvalidInputException"):
        codebuild.start_build(**{**start, "sourceVersion": "x"}, idempotencyToken="one")

    def ended(build: str) -> str | None:
        [record] = codebuild.batch_get_builds(ids=[build])["builds"]
        status = str(record["buildStatus"])
        return None if status == "IN_PROGRESS" else status

    assert eventually("the end of a build", lambda: ended(first), within=120) == "SUCCEEDED"
    again = codebuild.start_build(**start, idempotencyToken="two")["build"]["id"]
    assert again != first
    eventually("the end of another", lambda: ended(again), within=120)


def test_a_project_that_is_not_there_builds_nothing(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        cloud.client("codebuild").start_build(projectName="not-there")

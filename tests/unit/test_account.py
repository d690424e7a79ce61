"""What `make deploy` does beside sam, with a docker that writes down how it was called."""

import base64
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber

from tools import account

ANSWERS = """
version = 0.1
[default.global.parameters]
region = "eu-west-1"
[default.deploy.parameters]
stack_name = "my-lens"
profile = "work"
parameter_overrides = "PythonRuntime=\\"python3.12\\" ImageTag=\\"v2\\" NotificationEmail=\\"\\""
"""


@pytest.fixture
def docker_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which a docker on the PATH appends its arguments and its standard input."""
    calls = tmp_path / "calls"
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n[ "$1" != login ] || cat >> {calls}\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return calls


def test_saved_answers_give_stack_region_profile_and_parameters(tmp_path: Path) -> None:
    config = tmp_path / "samconfig.account.toml"
    config.write_text(ANSWERS)
    saved = account.Saved(config)
    assert saved.stack == "my-lens"
    assert saved.session_options == {"region_name": "eu-west-1", "profile_name": "work"}
    assert saved.parameters["ImageTag"] == "v2"
    assert account.runtime(saved) == "python3.12"


def test_before_the_first_deploy_this_interpreter_is_built_for(tmp_path: Path) -> None:
    saved = account.Saved(tmp_path / "not-there.toml")
    assert saved.stack is None
    assert account.runtime(saved).startswith("python3.")


def test_images_are_built_from_their_folders_and_pushed(docker_calls: Path) -> None:
    account.push({"batch_prep": "1.ecr/my-lens/batch-prep"}, "v2")
    build, push = docker_calls.read_text().splitlines()
    assert build.startswith("build --platform linux/amd64 --provenance=false -f ")
    assert "/batch_prep/Dockerfile -t 1.ecr/my-lens/batch-prep:v2 " in build
    assert push == "push 1.ecr/my-lens/batch-prep:v2"


def test_the_registry_token_reaches_docker_on_its_standard_input(docker_calls: Path) -> None:
    ecr = boto3.client("ecr")
    grant = {
        "authorizationToken": base64.b64encode(b"AWS:secret").decode(),
        "proxyEndpoint": "https://1.ecr",
    }
    with Stubber(ecr) as stub:
        stub.add_response("get_authorization_token", {"authorizationData": [grant]})
        account.log_in(ecr)
    assert docker_calls.read_text().splitlines() == [
        "login -u AWS --password-stdin https://1.ecr",
        "secret",
    ]


def test_repositories_are_the_outputs_that_the_template_names(repo_root: Path) -> None:
    template = (repo_root / "template.yaml").read_text()
    outputs = [
        {"OutputKey": name, "OutputValue": f"1.ecr/{folder}"}
        for name, folder in account.IMAGES.items()
    ]
    cloudformation = boto3.client("cloudformation")
    stack = {"StackName": "s", "CreationTime": "2026-01-01", "StackStatus": "CREATE_COMPLETE"}
    with Stubber(cloudformation) as stub:
        stub.add_response("describe_stacks", {"Stacks": [{**stack, "Outputs": outputs}]})
        found = account.repositories(cloudformation, "s")
    assert found == {"batch_prep": "1.ecr/batch_prep", "trainer": "1.ecr/trainer"}
    for name in account.IMAGES:
        assert f"\n  {name}:\n" in template


def test_without_docker_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="install Docker first"):
        account.check()

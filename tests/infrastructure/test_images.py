"""Images: built within the account for whoever waits, immutable and scanned."""

import dataclasses
import itertools
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from droplens import layout
from droplens.images import collect, dockerfile_of
from tests.infrastructure.stack import BUCKET, Stack

REPOSITORIES = ("BatchPrepImages", "TrainerImages")
ADDRESS = {
    "BatchPrepImage": ("batch-prep", "BatchPrepImages"),
    "TrainerOwnImage": ("trainer", "TrainerImages"),
    "FinetuneImage": ("trainer", "TrainerImages"),
}


def with_parameters(stack: Stack, **values: str) -> Stack:
    """The stack as it is deployed with these parameters."""
    parameters = {
        name: {**entry, "Default": values.get(name, entry["Default"])}
        for name, entry in stack.template["Parameters"].items()
    }
    return dataclasses.replace(stack, template={**stack.template, "Parameters": parameters})


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_repository_scans_and_never_changes_a_tag_and_goes_with_the_stack(
    stack: Stack, name: str
) -> None:
    repository = stack.properties(name)
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    assert repository["EmptyOnDelete"] is True
    *_, rule = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    assert rule["selection"]["tagStatus"] == "any"
    assert rule["selection"]["countType"] == "imageCountMoreThan"
    # Each endpoint that is kept for a rollback, and the live one, may be of another image.
    kept = stack.template["Parameters"]["KeepModels"]["MaxValue"]
    assert rule["selection"]["countNumber"] > kept + 1


def test_images_with_pytorch_do_not_pile_up(stack: Stack, repo_root: Path) -> None:
    policy = stack.properties("TrainerImages")["LifecyclePolicy"]["LifecyclePolicyText"]
    first, _ = json.loads(policy)["rules"]
    assert first["selection"]["countNumber"] == 2
    [prefix] = first["selection"]["tagPrefixList"]
    assert collect(repo_root, "trainer", "finetune", "base").tag.startswith(prefix)
    assert not collect(repo_root, "trainer").tag.startswith(prefix)


@pytest.mark.parametrize("name", ADDRESS)
def test_an_image_is_asked_for_anew_when_its_sources_change(stack: Stack, name: str) -> None:
    image, repository = ADDRESS[name]
    asked = stack.template["Resources"][name]
    given = asked["Properties"]
    assert given["Image"] == image
    assert given["Repository"] == {"Ref": repository}
    assert given["RepositoryUri"] == {"Fn::GetAtt": [repository, "RepositoryUri"]}
    assert given["ServiceToken"] == {"Fn::GetAtt": ["BuildImages", "Arn"]}
    # SAM names a version of the layer after its content.
    version = given["Sources"]["Ref"]
    assert re.fullmatch(r"ImageSources[0-9a-f]{10}", version)
    assert stack.properties("BuildImages")["Layers"][-1] == stack.ref(version)
    # Else a build might end before anybody listens.
    assert set(asked["DependsOn"]) == {"ImageBuilt", "ImageBuiltCallsBuildImages"}


def test_job_and_training_use_the_image_that_was_built(stack: Stack) -> None:
    container = stack.template["Resources"]["JobDefinition"]["Properties"]["ContainerProperties"]
    assert container["Image"] == {"Ref": "BatchPrepImage"}
    training = stack.template["Resources"]["StartTraining"]["Properties"]["Environment"]
    assert training["Variables"]["TRAINER_IMAGE_URI"] == {
        "Fn::If": ["HasOwnTrainer", {"Ref": "TrainerOwnImage"}, ""]
    }
    assert training["Variables"]["FINETUNE_IMAGE_URI"] == {
        "Fn::If": ["Finetunes", {"Ref": "FinetuneImage"}, ""]
    }


def test_the_image_with_pytorch_is_made_from_the_trainer_s(stack: Stack, repo_root: Path) -> None:
    given = stack.template["Resources"]["FinetuneImage"]["Properties"]
    assert given["Base"] == {"Ref": "TrainerOwnImage"}
    assert (repo_root / dockerfile_of(given["Image"], given["Variant"])).is_file()


@pytest.mark.parametrize(
    ("trainer", "recipe", "made"),
    [
        ("builtin", "probe", set()),
        ("builtin", "finetune", set()),
        ("droplens", "probe", {"TrainerOwnImage"}),
        ("droplens", "finetune", {"TrainerOwnImage", "FinetuneImage"}),
    ],
)
def test_no_image_is_built_that_nothing_would_run(
    stack: Stack, trainer: str, recipe: str, made: set[str]
) -> None:
    chosen = with_parameters(stack, TrainerImage=trainer, Recipe=recipe)
    assert made | {"BatchPrepImage"} == chosen.of_type("Custom::ContainerImage").keys()


def test_the_build_ends_before_cloudformation_stops_waiting(stack: Stack) -> None:
    project = stack.properties("ImageBuilds")
    waits = [
        stack.template["Resources"][name]["Properties"]["ServiceTimeout"] // 60 for name in ADDRESS
    ]
    assert project["TimeoutInMinutes"] + project["QueuedTimeoutInMinutes"] < min(waits)


def test_every_end_of_a_build_is_heard_of(stack: Stack) -> None:
    rule = stack.properties("ImageBuilt")
    assert rule["EventPattern"]["detail"] == {
        "project-name": [stack.ref("ImageBuilds")],
        "build-status": ["SUCCEEDED", "FAILED", "FAULT", "STOPPED", "TIMED_OUT"],
    }
    [target] = rule["Targets"]
    assert target["Arn"] == stack.attribute("BuildImages", "Arn")
    assert target["DeadLetterConfig"]["Arn"] == stack.attribute("EventDlq", "Arn")


def test_an_image_is_pushed_as_sagemaker_takes_it(stack: Stack) -> None:
    spec = stack.properties("ImageBuilds")["Source"]["BuildSpec"]
    for flag in ("--provenance=false", "--sbom=false", "oci-mediatypes=false", "linux/amd64"):
        assert flag in spec
    for variable in ("IMAGE_URI", "DOCKERFILE"):
        assert f"${variable}" in spec or f"${{{variable}" in spec


@pytest.mark.parametrize("base", ["", "1.dkr.ecr.us-east-1.amazonaws.com/droplens/trainer:1a2b"])
def test_a_build_signs_in_to_the_registry_and_makes_the_image_that_was_asked_for(
    stack: Stack, tmp_path: Path, base: str
) -> None:
    """The buildspec's own commands, in a shell whose docker and aws write down their calls.

    Each into a file of its own, since those in a pipe run at the same time.
    """
    calls = tmp_path / "calls"
    calls.mkdir()
    for program in ("docker", "aws"):
        (tmp_path / program).write_text(
            f'#!/bin/bash\nprintf "%s\\n" {program} "$@" > "$CALLS/$$"\n', "utf-8"
        )
        (tmp_path / program).chmod(0o755)
    spec = yaml_parse(stack.properties("ImageBuilds")["Source"]["BuildSpec"])
    registry = "1.dkr.ecr.us-east-1.amazonaws.com"
    uri = f"{registry}/droplens/trainer:finetune-3c"
    given = {"IMAGE_URI": uri, "DOCKERFILE": "trainer/finetune.Dockerfile"}
    subprocess.run(
        ["bash", "-c", "\n".join(spec["phases"]["build"]["commands"])],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "CALLS": str(calls),
            **given,
            **({"BASE": base} if base else {}),
        },
        check=True,
    )
    called = sorted(call.read_text("utf-8").split() for call in calls.iterdir())
    assert called[0] == ["aws", "ecr", "get-login-password"]
    [build, login] = called[1:]
    assert login[1:] == ["login", "--username", "AWS", "--password-stdin", registry]
    assert build[-3:] == ["--file", "trainer/finetune.Dockerfile", "."]
    options = dict(itertools.pairwise(build))
    assert options["--output"] == f"type=image,name={uri},oci-mediatypes=false,push=true"
    assert options.get("--build-arg") == (f"BASE={base}" if base else None)


def test_sources_lie_where_they_wake_no_function(stack: Stack) -> None:
    text = json.dumps(stack.patterns())
    assert layout.BUILD not in text
    [rule] = [
        rule
        for rule in stack.properties("Bucket")["LifecycleConfiguration"]["Rules"]
        if rule.get("Prefix") == layout.BUILD
    ]
    assert rule["ExpirationInDays"] >= 1


def test_a_build_reads_sources_and_nothing_of_the_journey(stack: Stack) -> None:
    role, objects = "ImageBuildRole", f"arn:aws:s3:::{BUCKET}/"
    assert stack.allows(role, "s3:GetObject", f"{objects}build/trainer/1.zip")
    # Who waits for a build is told at an address that nobody else may use.
    for key in ("build/asked/1.json", "datasets/cars/a", "models/default.json"):
        assert not stack.allows(role, "s3:GetObject", f"{objects}{key}")


def test_a_build_pushes_to_the_stack_s_two_repositories(stack: Stack) -> None:
    for repository in REPOSITORIES:
        arn = stack.attribute(repository, "Arn")
        assert stack.allows("ImageBuildRole", "ecr:PutImage", arn)
        assert not stack.allows("ImageBuildRole", "ecr:BatchDeleteImage", arn)
        assert not stack.allows("BuildImagesRole", "ecr:PutImage", arn)
    other: Any = stack.attribute("TrainerImages", "Arn").replace("droplens/", "other/")
    assert not stack.allows("ImageBuildRole", "ecr:PutImage", other)


def test_only_the_stack_s_own_project_can_be_started(stack: Stack) -> None:
    own = stack.attribute("ImageBuilds", "Arn")
    assert stack.allows("BuildImagesRole", "codebuild:StartBuild", own)
    assert not stack.allows("BuildImagesRole", "codebuild:StartBuild", own + "-other")

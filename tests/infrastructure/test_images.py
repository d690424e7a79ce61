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

from droplens.domain import choices, layout
from droplens.journey.container_images import (
    BUILD_ARGUMENTS,
    MOST_SECONDS_FOR_A_START,
    collect,
    dockerfile_of,
)
from tests.support.expanded_template import ACCOUNT, BUCKET, Stack, listed, with_parameters

LITE2 = "efficientnet-lite2"
SMALL = {"TrainerOwnImage"}
REPOSITORIES = ("BatchPrepImages", "TrainerImages")
ADDRESS = {
    "BatchPrepImage": ("batch-prep", "BatchPrepImages"),
    "TrainerOwnImage": ("trainer", "TrainerImages"),
    "FinetuneImage": ("trainer", "TrainerImages"),
    "TimmImage": ("trainer", "TrainerImages"),
}


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
    for rule, variant in zip(json.loads(policy)["rules"], ("finetune", "timm"), strict=False):
        assert rule["selection"]["countNumber"] == 2
        [prefix] = rule["selection"]["tagPrefixList"]
        assert collect(repo_root, "trainer", variant, "base").tag.startswith(prefix)
        assert not collect(repo_root, "trainer").tag.startswith(prefix)


def test_pretrained_weights_are_no_image_among_others_that_expires(stack: Stack) -> None:
    """ECR: what a rule of a higher priority selects is expired by that rule or by none."""
    policy = stack.properties("TrainerImages")["LifecyclePolicy"]["LifecyclePolicyText"]
    rules = json.loads(policy)["rules"]
    [kept] = [rule for rule in rules if rule["selection"].get("tagPrefixList") == ["weights-"]]
    [others] = [rule for rule in rules if rule["selection"]["tagStatus"] == "any"]
    assert kept["rulePriority"] < others["rulePriority"]
    assert kept["selection"]["countNumber"] >= 100


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
    assert {"ImageBuilt", "ImageBuiltCallsBuildImages"} <= set(asked["DependsOn"])
    for property_, argument in BUILD_ARGUMENTS.items():
        assert given[property_] == {"Ref": property_}
        assert argument in stack.properties("ImageBuilds")["Source"]["BuildSpec"]


def test_one_image_is_built_after_the_other(stack: Stack) -> None:
    """A new account has room for one build: the second would be refused."""
    resources = stack.template["Resources"]
    assert "BatchPrepImage" in resources["TrainerOwnImage"]["DependsOn"]
    assert resources["FinetuneImage"]["Properties"]["Base"] == {"Ref": "TrainerOwnImage"}
    assert resources["TimmImage"]["Properties"]["Base"] == {"Ref": "FinetuneImage"}


def test_job_and_training_use_the_image_that_was_built(stack: Stack) -> None:
    container = stack.template["Resources"]["JobDefinition"]["Properties"]["ContainerProperties"]
    assert container["Image"] == {"Ref": "BatchPrepImage"}
    training = stack.template["Resources"]["StartTraining"]["Properties"]["Environment"]
    assert training["Variables"]["TRAINER_IMAGE_URI"] == {
        "Fn::If": ["HasOwnTrainer", {"Ref": "TrainerOwnImage"}, ""]
    }
    with_pytorch = {"Fn::If": ["Finetunes", {"Ref": "FinetuneImage"}, ""]}
    assert training["Variables"]["FINETUNE_IMAGE_URI"] == {
        "Fn::If": ["UsesTimm", {"Ref": "TimmImage"}, with_pytorch]
    }


@pytest.mark.parametrize("name", ["FinetuneImage", "TimmImage"])
def test_a_variant_has_a_dockerfile(stack: Stack, repo_root: Path, name: str) -> None:
    given = stack.template["Resources"][name]["Properties"]
    assert (repo_root / dockerfile_of(given["Image"], given["Variant"])).is_file()


@pytest.mark.parametrize(
    ("trainer", "recipe", "instance", "backbone", "made"),
    [
        ("builtin", "probe", "auto", LITE2, set()),
        ("builtin", "finetune", "auto", "resnet50", set()),
        ("droplens", "probe", "auto", LITE2, SMALL),
        ("droplens", "probe", "ml.g5.xlarge", "resnet50", SMALL),
        ("droplens", "finetune", "auto", LITE2, SMALL | {"FinetuneImage"}),
        ("droplens", "finetune", "auto", "resnet50", SMALL | {"FinetuneImage", "TimmImage"}),
        ("droplens", "auto", "auto", LITE2, SMALL),
        ("droplens", "auto", "ml.m5.xlarge", "resnet50", SMALL),
        ("droplens", "auto", "ml.g5.xlarge", LITE2, SMALL | {"FinetuneImage"}),
        ("droplens", "auto", "ml.p4d.24xlarge", "a.b", SMALL | {"FinetuneImage", "TimmImage"}),
    ],
)
def test_no_image_is_built_that_nothing_would_run(
    stack: Stack, trainer: str, recipe: str, instance: str, backbone: str, made: set[str]
) -> None:
    chosen = with_parameters(
        stack,
        TrainerImage=trainer,
        Recipe=recipe,
        TrainingInstanceType=instance,
        Backbone=backbone,
    )
    assert chosen.holds({"Condition": "Finetunes"}) == choices.fine_tunes(trainer, recipe, instance)
    assert made | {"BatchPrepImage"} == chosen.of_type("Custom::ContainerImage").keys()


def test_the_build_ends_before_cloudformation_stops_waiting(stack: Stack) -> None:
    project = stack.properties("ImageBuilds")
    waits = [
        stack.template["Resources"][name]["Properties"]["ServiceTimeout"] // 60 for name in ADDRESS
    ]
    build = project["TimeoutInMinutes"] + project["QueuedTimeoutInMinutes"]
    assert build + MOST_SECONDS_FOR_A_START / 60 < min(waits)
    assert stack.properties("BuildImages")["Timeout"] > MOST_SECONDS_FOR_A_START


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


HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
MIRROR = "210987654321.dkr.ecr.cn-north-1.amazonaws.com.cn"
GIVEN = {"IMAGE_URI": f"{HOST}/droplens/trainer:3c", "DOCKERFILE": "trainer/Dockerfile"}
# What stands for docker writes down its call, and fails with the first line of $REFUSALS.
FAKES = {
    "aws": 'printf "%s\\n" aws "$@" > "$CALLS/$$"',
    "sleep": 'echo "$1" >> "$PAUSES"',
    "docker": """\
printf "%s\\n" docker "$@" > "$CALLS/$$"
[ "$1" = login ] && exit
if [ "$2" = imagetools ]; then ! grep -qsF "$4" "${REFUSALS%/*}/unknown"; exit; fi
if [ -s "$REFUSALS" ]; then head -1 "$REFUSALS"; sed -i 1d "$REFUSALS"; exit 1; fi
""",
}


@dataclasses.dataclass(frozen=True)
class Shell:
    """Carries out the buildspec's commands where docker, aws and sleep only write down calls."""

    folder: Path
    commands: list[str]

    def build(self, *refusals: str, **variables: str) -> int:
        """-> the exit code."""
        (self.folder / "calls").mkdir()
        (self.folder / "refusals").write_text("".join(f"{line}\n" for line in refusals), "utf-8")
        for program, script in FAKES.items():
            (self.folder / program).write_text(f"#!/bin/bash\n{script}\n", "utf-8")
            (self.folder / program).chmod(0o755)
        environment = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "CALLS": str(self.folder / "calls"),
            "PAUSES": str(self.folder / "pauses"),
            "REFUSALS": str(self.folder / "refusals"),
            **GIVEN,
            **variables,
        }
        done = subprocess.run(["bash", "-c", "\n".join(self.commands)], env=environment)
        return done.returncode

    @property
    def calls(self) -> list[list[str]]:
        """Each from a file of its own, since those in a pipe run at the same time."""
        written = (self.folder / "calls").iterdir()
        return sorted(call.read_text("utf-8").split("\n")[:-1] for call in written)


@pytest.fixture
def shell(stack: Stack, tmp_path: Path) -> Shell:
    spec = yaml_parse(stack.properties("ImageBuilds")["Source"]["BuildSpec"])
    assert spec["env"]["shell"] == "bash"
    return Shell(tmp_path, spec["phases"]["build"]["commands"])


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, []),
        ({"BASE": f"{HOST}/droplens/trainer:1a"}, ["BASE"]),
        (
            {"BASE_REGISTRY": "public.ecr.aws/docker/library", "PIP_INDEX_URL": "https://a.b"},
            ["BASE_REGISTRY", "PIP_INDEX_URL"],
        ),
    ],
)
def test_a_build_signs_in_to_the_registry_and_makes_the_image_that_was_asked_for(
    shell: Shell, variables: dict[str, str], named: list[str]
) -> None:
    assert shell.build(**variables) == 0
    sign_in, build, login = shell.calls
    assert sign_in == ["aws", "ecr", "get-login-password", "--region", "us-east-1"]
    assert login[1:] == ["login", "--username", "AWS", "--password-stdin", HOST]
    assert build[-3:] == ["--file", "trainer/Dockerfile", "."]
    pairs = list(itertools.pairwise(build))
    assert dict(pairs)["--output"] == (
        f"type=image,name={GIVEN['IMAGE_URI']},oci-mediatypes=false,push=true"
    )
    # By name alone: docker reads the values from the environment, whatever they hold.
    assert arguments_of(build) == named


def test_a_build_signs_in_to_a_private_registry_of_the_base_too(shell: Shell) -> None:
    assert shell.build(BASE_REGISTRY=f"{MIRROR}/docker-hub/library") == 0
    assert [call[-1] for call in shell.calls if call[0] == "aws"] == ["cn-north-1", "us-east-1"]
    assert [call[-1] for call in shell.calls if call[1] == "login"] == [HOST, MIRROR]


def arguments_of(build: list[str]) -> list[str]:
    """The names of a build's arguments: docker reads the values from the environment."""
    return [word.partition("=")[2] for word in build if word.startswith("--build-arg=")]


WEIGHTS = f"{HOST}/droplens/trainer:weights-resnet50"
OF_TIMM = {"BASE": f"{HOST}/droplens/trainer:finetune-1a", "BACKBONE": "resnet50"}


@pytest.mark.parametrize("given", ["", "s3://my-weights/timm/"])
def test_the_first_build_keeps_the_pretrained_weights_as_an_image(shell: Shell, given: str) -> None:
    (shell.folder / "unknown").write_text(WEIGHTS)
    assert shell.build(**OF_TIMM, **({"BACKBONE_WEIGHTS": given} if given else {})) == 0
    builds = [call for call in shell.calls if call[2:3] == ["build"]]
    made, kept = sorted(builds, key=lambda call: "--target" in call)
    assert dict(itertools.pairwise(kept))["--target"] == "weights"
    assert f"type=image,name={WEIGHTS},oci-mediatypes=false,push=true" in kept
    assert arguments_of(kept) == ["BASE", "BACKBONE"]
    assert arguments_of(made) == ["BASE", "BACKBONE", "WEIGHTS"]
    copied = [call for call in shell.calls if call[:3] == ["aws", "s3", "cp"]]
    wanted = [f"{given}resnet50.safetensors", "weights/backbone.safetensors"]
    assert [call[-2:] for call in copied] == ([wanted] if given else [])


def test_a_later_build_takes_the_weights_of_the_first(shell: Shell) -> None:
    assert shell.build(**OF_TIMM, BACKBONE_WEIGHTS="s3://my-weights/others/") == 0
    [made] = [call for call in shell.calls if call[2:3] == ["build"]]
    assert "--target" not in made
    assert arguments_of(made) == ["BASE", "BACKBONE", "WEIGHTS"]
    assert not [call for call in shell.calls if call[:2] == ["aws", "s3"]]


def test_weights_that_cannot_be_provided_end_the_build(shell: Shell) -> None:
    (shell.folder / "unknown").write_text(WEIGHTS)
    assert shell.build("ERROR: there is no network resnet50", **OF_TIMM) != 0
    assert len([call for call in shell.calls if call[2:3] == ["build"]]) == 1


@pytest.mark.parametrize("prefix", ["", "s3://my-weights/", "s3://my.weights/timm/x/"])
def test_a_build_reads_the_user_s_weights_and_nothing_else_of_that_bucket(
    stack: Stack, prefix: str
) -> None:
    chosen = with_parameters(
        stack, Recipe="finetune", Backbone="resnet50.a1_in1k", BackboneWeights=prefix
    )
    read = {
        resource
        for statement in chosen.statements("ImageBuildRole")
        if "s3:GetObject" in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if BUCKET not in resource
    }
    named = f"arn:aws:s3:::{prefix.removeprefix('s3://')}resnet50.a1_in1k.safetensors"
    assert read == ({named} if prefix else set())
    packaged = with_parameters(stack, Recipe="finetune", BackboneWeights=prefix)
    assert not packaged.holds({"Condition": "HasOwnWeights"})


@pytest.mark.parametrize(
    ("rule", "parameters", "met"),
    [
        ("BuiltinHasItsOwnNetwork", {"TrainerImage": "builtin"}, True),
        ("BuiltinHasItsOwnNetwork", {"TrainerImage": "builtin", "Backbone": LITE2}, False),
        ("ProbeHasPackagedNetworks", {"Recipe": "probe", "Backbone": LITE2}, True),
        ("ProbeHasPackagedNetworks", {"Recipe": "probe", "Backbone": "resnet50"}, False),
    ],
)
def test_a_network_that_the_training_would_not_use_is_refused(
    stack: Stack, rule: str, parameters: dict[str, str], met: bool
) -> None:
    given = with_parameters(stack, **parameters)
    written = given.template["Rules"][rule]
    assert not stack.holds(written["RuleCondition"])
    assert given.holds(written["RuleCondition"])
    [assertion] = written["Assertions"]
    assert given.holds(assertion["Assert"]) == met


THROTTLED = "#3 ERROR: toomanyrequests: Rate exceeded"


@pytest.mark.parametrize(
    ("refusals", "code", "pauses", "builds"),
    [
        ([THROTTLED], 0, ["20"], 2),
        (["429 Too Many Requests - Server message", THROTTLED], 0, ["20", "40"], 3),
        ([THROTTLED] * 3, 1, ["20", "40", "0"], 3),
        (["#9 ERROR: no matching distribution: numpy"], 1, [], 1),
    ],
)
def test_a_pull_that_is_refused_for_the_moment_is_tried_again(
    shell: Shell, refusals: list[str], code: int, pauses: list[str], builds: int
) -> None:
    assert shell.build(*refusals) == code
    written = shell.folder / "pauses"
    assert (written.read_text("utf-8").split() if written.exists() else []) == pauses
    assert len([call for call in shell.calls if call[1] == "buildx"]) == builds


@pytest.mark.parametrize(
    ("registry", "repository"),
    [
        ("public.ecr.aws/docker/library", None),
        ("docker.io/library", None),
        (HOST, f"arn:aws:ecr:us-east-1:{HOST[:12]}:repository/python"),
        (f"{HOST}/a/b", f"arn:aws:ecr:us-east-1:{HOST[:12]}:repository/a/b/python"),
        (f"{MIRROR}/hub", f"arn:aws:ecr:cn-north-1:{MIRROR[:12]}:repository/hub/python"),
    ],
)
def test_a_build_pulls_from_the_one_repository_of_the_base(
    stack: Stack, registry: str, repository: str | None
) -> None:
    chosen = dataclasses.replace(stack, parameters={"BaseImageRegistry": registry})
    own = {chosen.attribute(name, "Arn") for name in REPOSITORIES}
    pulled = {
        resource
        for statement in chosen.statements("ImageBuildRole")
        if "ecr:BatchGetImage" in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }
    assert pulled - own == ({repository} if repository else set())
    if repository:
        for action in ("ecr:GetDownloadUrlForLayer", "ecr:BatchImportUpstreamImage"):
            assert chosen.allows("ImageBuildRole", action, repository)
        for action in ("ecr:PutImage", "ecr:CreateRepository"):
            assert not chosen.allows("ImageBuildRole", action, repository)


# --- a stack that could not be created, and the next try


def test_who_runs_while_the_stack_is_deleted_cannot_bring_its_log_group_back(
    stack: Stack,
) -> None:
    """A line that arrives late makes the group anew where the role may; the next stack of this
    name then fails with "already exists"."""
    asked = stack.of_type("Custom::ContainerImage").values()
    assert {one["ServiceToken"] for one in asked} == {stack.attribute("BuildImages", "Arn")}
    function = stack.properties("BuildImages")
    assert function["Role"] == stack.attribute("BuildImagesRole", "Arn")
    group = function["LoggingConfig"]["LogGroup"]
    arn = f"arn:aws:logs:{stack.region}:{ACCOUNT}:log-group:{group}"
    for resource in (arn, f"{arn}:*", f"{arn}:log-stream:"):
        assert not stack.allows("BuildImagesRole", "logs:CreateLogGroup", resource)
    managed = stack.properties("BuildImagesRole")["ManagedPolicyArns"]
    assert managed == ["arn:aws:iam::aws:policy/AWSXrayWriteOnlyAccess"]


def test_the_builder_may_erase_every_object_that_it_writes(stack: Stack) -> None:
    """Else the bucket of a stack that could not be created would not be empty, and would stay."""
    keys = ("build/asked/TrainerOwnImage/1.json", "build/trainer/1.zip", "build/batch-prep/1.zip")
    for key in keys:
        for action in ("s3:PutObject", "s3:DeleteObjectVersion"):
            assert stack.allows("BuildImagesRole", action, f"arn:aws:s3:::{BUCKET}/{key}")
    for key in ("build/other", "datasets/cars/a", "models/cars/live.json"):
        for action in ("s3:PutObject", "s3:DeleteObjectVersion"):
            assert not stack.allows("BuildImagesRole", action, f"arn:aws:s3:::{BUCKET}/{key}")


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

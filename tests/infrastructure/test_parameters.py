"""What a user can set, and what a user is told: frozen, described and bounded."""

import re
import tomllib
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from droplens.domain import choices
from tests.support.expanded_template import Stack, with_parameters

PARAMETERS = {
    "NotificationEmail": "",
    "MinimumAccuracy": 0.5,
    "AccuracyConfidence": 0.95,
    "Approval": "automatic",
    "EndpointMode": "auto",
    "TrainerImage": "droplens",
    "Recipe": "finetune",
    "Backbone": "efficientnet-lite0",
    "BackboneWeights": "",
    "RetrainAfterCorrections": 0,
    "TrainingInstanceType": "auto",
    "TrainingInstanceCount": 1,
    "UseSpot": "true",
    "Epochs": 30,
    "MiniBatchSize": 32,
    "LearningRate": 0,
    "ImageSize": "0",
    "MaxServingTime": 3,
    "MaxTrainingMinutes": 240,
    "ValidationShare": 0.2,
    "MaxBadShare": 0.2,
    "MaxDatasetPictures": 1000000,
    "MaxDatasetGiB": 256,
    "PicturesPerPackingJob": 50000,
    "PackingVcpus": "2",
    "PackingMemoryMiB": "4096",
    "PackingMaxVcpus": 16,
    "EndpointInstanceType": "ml.m5.large",
    "EndpointMemoryMb": 2048,
    "EndpointMaxConcurrency": 5,
    "ClassifyMaxConcurrency": 2,
    "ConfidentPrecision": 0.95,
    "CandidatePrecision": 0.95,
    "UnfamiliarShare": 0.01,
    "SpotCheckShare": 0.01,
    "KeepModels": 0,
    "Reclassify": "none",
    "ResultSchema": "v2",
    "StopIdleEndpointHours": 0,
    "InferenceSources": "",
    "InputRetentionDays": 0,
    "ResultsRetentionDays": 0,
    "ReviewsRetentionDays": 0,
    "KmsKeyArn": "",
    "PermissionsBoundary": "",
    "Monitoring": "all",
    "MonthlyBudgetUsd": 0,
    "LogRetentionDays": 30,
    "PythonRuntime": "python3.13",
    "SubnetIds": "",
    "SecurityGroupIds": "",
    "BaseImageRegistry": "public.ecr.aws/docker/library",
    "PipIndexUrl": "",
}
OUTPUTS = {
    "BucketName",
    "RunsTableName",
    "PictureQueueUrl",
    "ReviewsTableName",
    "PictureDlqUrl",
    "EventDlqUrl",
    "FailureTopicArn",
    "ReviewerPolicyArn",
    "OperatorPolicyArn",
    "InferencePolicyArn",
    "RollbackFunctionName",
    "ResumeFunctionName",
    "JobQueueArn",
    "InferenceQueueArn",
    "InferenceDefinitionArn",
    "BatchPrepRepositoryUri",
    "TrainerRepositoryUri",
}


@pytest.fixture(scope="module")
def parameters(written: dict[str, Any]) -> dict[str, Any]:
    """The parameters as they are written."""
    return dict(written["Parameters"])


def test_parameters_and_their_defaults_are_those_that_users_know(
    parameters: dict[str, Any],
) -> None:
    assert {name: entry["Default"] for name, entry in parameters.items()} == PARAMETERS


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_is_described_and_bounded(parameters: dict[str, Any], name: str) -> None:
    parameter = parameters[name]
    assert len(parameter["Description"]) > 15
    assert (
        "AllowedValues" in parameter
        or "AllowedPattern" in parameter
        or {"MinValue", "MaxValue"} <= parameter.keys()
    )


def test_several_instances_are_refused_for_recipes_that_take_one(stack: Stack) -> None:
    rule = stack.template["Rules"]["ProbeTrainsOnOneInstance"]
    [assertion] = rule["Assertions"]
    assert not stack.holds(rule["RuleCondition"])
    assert not with_parameters(stack, Recipe="probe", TrainerImage="builtin").holds(
        rule["RuleCondition"]
    )
    for recipe in ("probe", "auto"):
        given = with_parameters(stack, Recipe=recipe)
        assert given.holds(rule["RuleCondition"])
        assert given.holds(assertion["Assert"])
    assert not with_parameters(stack, TrainingInstanceCount="2").holds(assertion["Assert"])


@pytest.mark.parametrize(
    ("pictures", "results", "taken"),
    [("0", "0", True), ("30", "0", True), ("30", "60", True), ("0", "60", False)],
)
def test_results_do_not_expire_while_their_pictures_are_kept_for_ever(
    stack: Stack, pictures: str, results: str, taken: bool
) -> None:
    rule = stack.template["Rules"]["ResultsAreKeptAsLongAsPictures"]
    [assertion] = rule["Assertions"]
    given = with_parameters(stack, InputRetentionDays=pictures, ResultsRetentionDays=results)
    refused = given.holds(rule["RuleCondition"]) and not given.holds(assertion["Assert"])
    assert refused is not taken


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_default_is_within_its_bounds(parameters: dict[str, Any], name: str) -> None:
    parameter = parameters[name]
    default = parameter["Default"]
    assert default in parameter.get("AllowedValues", [default])
    assert parameter.get("MinValue", default) <= default <= parameter.get("MaxValue", default)


def test_every_parameter_is_used_and_shown_in_one_group(
    written: dict[str, Any], parameters: dict[str, Any], repo_root: Path
) -> None:
    groups = written["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(parameters)
    text = (repo_root / "template.yaml").read_text("utf-8")
    for name in parameters:
        assert f"!Ref {name}" in text or f"${{{name}}}" in text


def test_training_takes_the_instance_types_of_sagemaker_that_its_images_run_on(
    parameters: dict[str, Any],
) -> None:
    """Those with x86 processors, and NVIDIA's GPUs where they have accelerators."""
    model: Any = botocore.session.get_session().get_service_model("sagemaker")
    known = model.shape_for("TrainingInstanceType").enum
    pattern = parameters["TrainingInstanceType"]["AllowedPattern"]
    refused = {instance.split(".")[1] for instance in known if not re.search(pattern, instance)}
    assert refused == {"trn1", "trn1n", "trn2", "p6e-gb200"}
    for wrong in ("", "g5.xlarge", "ml.g5", "ml.inf2.xlarge", "ml.g5.xlarge ", "automatic"):
        assert not re.search(pattern, wrong)
    for chosen in (choices.AUTO, *choices.FINETUNE_CANDIDATES, *choices.CPU_CANDIDATES):
        assert re.search(pattern, chosen)


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        (
            "BaseImageRegistry",
            [
                "docker.io/library",
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/mirror/docker-hub",
                "registry.example:5000",
            ],
            ["", "https://registry.example", "python", "a.b/c;d", "a.b/$(id)", "a.b/C", "a.b/c "],
        ),
        (
            "PipIndexUrl",
            ["https://pypi.example/simple", "https://mirrors.example:8443/pypi/web/simple/"],
            # A build argument stays in the image's history.
            [
                "https://user@pypi.example/simple",
                "http://pypi.example/simple",
                "https://pypi.example/simple?token=1",
                "https://pypi.example/simple --trusted-host a",
                "https://pypi.example/$(id)",
            ],
        ),
        (
            "Backbone",
            ["efficientnet-lite2", "resnet50", "vit_base_patch16_224.augreg2_in21k_ft_in1k"],
            ["", "timm/resnet50", "hf-hub:timm/resnet50", "../a", "a b", "$(id)", "-a", "a."],
        ),
        (
            "BackboneWeights",
            ["", "s3://my-weights/", "s3://my.weights/timm/of-2026/"],
            ["s3://my-weights", "s3://my-weights/a", "https://a/b/", "s3://A/", "s3://my-w/$(id)/"],
        ),
    ],
)
def test_images_come_from_a_registry_and_an_index_that_need_no_quoting(
    parameters: dict[str, Any], name: str, taken: list[str], refused: list[str]
) -> None:
    pattern = parameters[name]["AllowedPattern"]
    assert [value for value in taken if not re.fullmatch(pattern, value)] == []
    assert [value for value in refused if re.fullmatch(pattern, value)] == []


def test_a_size_is_one_that_the_trainer_takes_or_chosen_by_training(
    parameters: dict[str, Any],
) -> None:
    pattern = parameters["ImageSize"]["AllowedPattern"]
    taken = [size for size in range(2000) if re.fullmatch(pattern, str(size))]
    assert taken == [choices.CHOSEN_BY_TRAINING, *range(96, 513)]
    assert not any(re.fullmatch(pattern, wrong) for wrong in ("", "00", "096", "auto", "224.0"))
    assert parameters["ImageSize"]["Default"] == str(choices.CHOSEN_BY_TRAINING)


def test_trainers_and_recipes_are_those_that_start_training_knows(
    parameters: dict[str, Any],
) -> None:
    assert parameters["TrainerImage"]["AllowedValues"] == [choices.DROPLENS, choices.BUILTIN]
    assert parameters["Recipe"]["AllowedValues"] == [
        choices.FINETUNE,
        choices.PROBE,
        choices.AUTO,
    ]
    assert parameters["Backbone"]["Default"] == choices.PACKAGED_BACKBONES[0]
    for instance in (choices.CPU_CANDIDATES[0], choices.FINETUNE_CANDIDATES[0]):
        assert instance in parameters["TrainingInstanceType"]["Description"]


def test_outputs_are_those_that_users_and_programs_read(written: dict[str, Any]) -> None:
    assert written["Outputs"].keys() == OUTPUTS
    for output in written["Outputs"].values():
        assert output["Description"]
        assert output["Value"]


def test_the_stack_s_name_fits_the_names_made_from_it(stack: Stack, repo_root: Path) -> None:
    config = tomllib.loads((repo_root / "samconfig.toml").read_text("utf-8"))
    assert config["local"]["global"]["parameters"]["stack_name"] == "droplens"


def test_what_is_not_local_is_deployed_by_the_saved_answers_only(repo_root: Path) -> None:
    config = tomllib.loads((repo_root / "samconfig.toml").read_text("utf-8"))
    assert config["default"].keys() == {"validate"}


def environments(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The sections that deploy."""
    return [
        section for section in config.values() if isinstance(section, dict) and "deploy" in section
    ]


def test_samconfig_sets_only_parameters_that_exist(repo_root: Path) -> None:
    config = tomllib.loads((repo_root / "samconfig.toml").read_text("utf-8"))
    for section in environments(config):
        overrides = section.get("deploy", {}).get("parameters", {}).get("parameter_overrides", "")
        entries = overrides.split() if isinstance(overrides, str) else overrides
        for name, _, value in (entry.partition("=") for entry in entries):
            assert name in PARAMETERS
            assert value


def test_deploying_needs_no_named_roles(repo_root: Path, stack: Stack) -> None:
    config = tomllib.loads((repo_root / "samconfig.toml").read_text("utf-8"))
    for section in environments(config):
        assert section["deploy"]["parameters"]["capabilities"] == "CAPABILITY_IAM"
    for role in stack.of_type("AWS::IAM::Role").values():
        assert "RoleName" not in role

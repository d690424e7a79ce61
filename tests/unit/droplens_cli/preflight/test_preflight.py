"""`make preflight` against recorded accounts: what it finds, what it says, how it ends."""

import http.server
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest

import droplens_cli.session  # noqa: F401  it subclasses boto3.Session, which is replaced below
from droplens_cli.preflight import build_environment
from droplens_cli.preflight.findings import Finding, State
from tests.support.command import HERE, run
from tests.unit.droplens_cli.preflight.recorded import (
    ACCOUNT,
    NEW_ACCOUNT,
    REGION,
    Answers,
    Recorded,
    denied,
    empty_account,
    instances,
    quota,
    refused,
    service_quotas,
    simulated,
)

# What a first run of the defaults needs beside a new account's numbers.
READY = {**NEW_ACCOUNT, **instances(spot__ml_g5_xlarge=1)}


class Session(boto3.Session):
    """One whose clients are made once: to make them takes longer than all that they ask."""

    client = cache(boto3.Session.client)


@pytest.fixture(scope="module")
def account() -> Iterator[tuple[Recorded, Callable[..., Session]]]:
    """A server of recorded answers, and what makes sessions of it."""
    recorded = Recorded({})
    with recorded.served() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.delenv("AWS_PROFILE", raising=False)
        yield recorded, cache(Session)


class Preflight:
    """Runs the command against recorded answers."""

    def __init__(self, capsys: pytest.CaptureFixture[str], recorded: Recorded) -> None:
        self._capsys = capsys
        self.recorded = recorded

    def __call__(
        self, answers: Answers, *parameters: str, target: tuple[str, ...] = HERE
    ) -> tuple[int, str]:
        self.recorded.answers = answers
        self.recorded.calls.clear()
        status = run("preflight", *parameters, target=("--region", REGION, *target))
        return status, self._capsys.readouterr().out


@pytest.fixture
def preflight(
    account: tuple[Recorded, Callable[..., Session]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Preflight:
    """The command, with credentials, a Python to build with, and registries that answer."""
    recorded, session = account
    python = tmp_path / "python3.13"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(boto3, "Session", session)
    monkeypatch.setattr(
        build_environment, "registries", lambda _: [Finding(State.OK, "base images", "answers")]
    )
    return Preflight(capsys, recorded)


def rows(output: str, what: str) -> list[str]:
    """The table's rows of one thing, each with the lines that belong to it, on one line."""
    found: list[str] = []
    for line in output.splitlines():
        if re.match(r"  (ok|note|FAILS|unknown) ", line):
            found.append(re.sub(r"\s+", " ", line).strip())
        elif line.startswith("      ") and found:
            found[-1] += " | " + line.strip()
    return [row for row in found if row.split(" ", 1)[1].startswith(what)]


def test_an_account_that_is_ready_ends_with_0_and_changes_nothing(preflight: Preflight) -> None:
    status, output = preflight(empty_account(READY))
    assert status == 0, output
    assert "nothing that was checked would fail" in output
    assert rows(output, "training instance")[0].startswith("ok")
    changing = re.compile("Create|Put|Update|Delete|Request|Start|Send")
    assert not [name for _, name, _ in preflight.recorded.calls if changing.match(name)]


def test_a_new_account_s_missing_spot_instance_fails_with_request_link_and_ways_around(
    preflight: Preflight,
) -> None:
    quotas = NEW_ACCOUNT | instances(
        spot__ml_g5_xlarge=0,
        demand__ml_g5_xlarge=1,
        spot__ml_g4dn_xlarge=1,
        spot__ml_g6_xlarge=0,
        spot__ml_m5_xlarge=4,
    )
    status, output = preflight(empty_account(quotas))
    assert status == 1
    (row,) = rows(output, "training instance")
    assert row.startswith("FAILS training instance ml.g5.xlarge, spot: quota 0, and a run needs 1")
    assert (
        f"aws service-quotas request-service-quota-increase --region {REGION} --service-code "
        "sagemaker --quota-code L-00000000 --desired-value 1"
    ) in row
    assert f"https://{REGION}.console.aws.amazon.com/servicequotas/home/services/sagemaker" in row
    assert "instead: UseSpot=false" in row
    assert "instead: TrainingInstanceType=ml.g4dn.xlarge" in row
    assert "TrainingInstanceType=ml.g6.xlarge" not in row
    assert "instead: Recipe=probe (on ml.m5.xlarge" in row


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (["Recipe=probe", "Backbone=resnet50"], "Backbone=resnet50 needs Recipe=finetune"),
        (["TrainerImage=builtin", "Backbone=efficientnet-lite2"], "needs TrainerImage=droplens"),
        (["Recipe=auto", "Backbone=resnet50"], "needs a TrainingInstanceType with a GPU"),
        (["Backbone=hf-hub:a"], "Backbone=hf-hub:a is not efficientnet-lite0, "),
    ],
)
def test_a_network_that_the_training_would_not_use_fails(
    preflight: Preflight, parameters: list[str], reason: str
) -> None:
    status, output = preflight(empty_account(READY), *parameters)
    assert status == 1
    assert [row for row in rows(output, "") if row.startswith("FAILS") and reason in row], output


@pytest.mark.parametrize(
    ("parameters", "quotas"),
    [
        (["UseSpot=false"], instances(demand__ml_g5_xlarge=1)),
        (["TrainingInstanceType=ml.g4dn.xlarge"], instances(spot__ml_g4dn_xlarge=1)),
        (["TrainingInstanceCount=4"], instances(spot__ml_g5_xlarge=4)),
        (["Recipe=probe"], instances(spot__ml_m5_xlarge=1)),
        (["TrainerImage=builtin", "ImageSize=224"], instances(
            spot__ml_g5_xlarge=1, endpoint__ml_m5_large=2)),
    ],
)  # fmt: skip
def test_the_quota_asked_for_is_that_of_the_chosen_parameters(
    preflight: Preflight, parameters: list[str], quotas: dict[str, dict[str, Any]]
) -> None:
    status, output = preflight(empty_account(NEW_ACCOUNT | quotas), *parameters)
    assert status == 0, output
    without, _ = preflight(empty_account(), *parameters)
    assert without == 1


def test_a_quota_of_fewer_instances_than_train_together_fails(preflight: Preflight) -> None:
    quotas = NEW_ACCOUNT | instances(
        spot__ml_g5_xlarge=2, spot__ml_g4dn_xlarge=4, spot__ml_g6_xlarge=3, spot__ml_m5_xlarge=1
    )
    status, output = preflight(empty_account(quotas), "TrainingInstanceCount=4")
    assert status == 1
    (row,) = rows(output, "training instance")
    assert "ml.g5.xlarge, spot: quota 2, and a run needs 4" in row
    assert "--desired-value 4" in row
    assert "instead: TrainingInstanceCount=2" in row
    assert "instead: TrainingInstanceType=ml.g4dn.xlarge" in row
    assert "TrainingInstanceType=ml.g6.xlarge" not in row
    assert "instead: Recipe=probe TrainingInstanceCount=1 (on ml.m5.xlarge" in row


def test_instances_that_recipe_probe_would_not_use_fail(preflight: Preflight) -> None:
    given = ("Recipe=probe", "TrainingInstanceCount=2")
    status, output = preflight(empty_account(NEW_ACCOUNT | instances(spot__ml_m5_xlarge=9)), *given)
    assert status == 1
    assert "choose TrainingInstanceCount=1" in rows(output, "training instance")[0]


def test_an_instance_without_a_quota_is_not_offered_in_the_region(preflight: Preflight) -> None:
    _, output = preflight(empty_account())
    (row,) = rows(output, "training instance")
    assert row.startswith("FAILS")
    assert "SageMaker does not offer it there" in row
    assert "request:" not in row


def test_a_default_counts_where_no_value_is_applied(preflight: Preflight) -> None:
    applied = {"L-96300102": NEW_ACCOUNT["L-96300102"]}
    answers = empty_account() | service_quotas(applied, READY)
    status, output = preflight(answers)
    assert status == 0, output


def test_long_lists_of_quotas_are_read_to_their_end(preflight: Preflight) -> None:
    many = {f"x{n}": quota("sagemaker", f"x{n}", f"other {n}", 0) for n in range(250)}
    status, output = preflight(empty_account(many | READY))
    assert status == 0, output


def endpoints(*described: tuple[str, int]) -> Answers:
    """Serverless endpoints that are there, with their concurrency."""
    entries = [
        {
            "EndpointName": name,
            "EndpointArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/{name}",
            "CreationTime": 1,
            "LastModifiedTime": 1,
            "EndpointStatus": "InService",
        }
        for name, _ in described
    ]
    by_name = {
        entry["EndpointName"]: {
            **entry,
            "EndpointConfigName": entry["EndpointName"],
            "ProductionVariants": [
                {
                    "VariantName": "main",
                    "CurrentServerlessConfig": {
                        "MemorySizeInMB": 2048,
                        "MaxConcurrency": concurrency,
                    },
                }
            ],
        }
        for entry, (_, concurrency) in zip(entries, described, strict=True)
    }
    return {
        ("sagemaker", "ListEndpoints"): {"Endpoints": entries},
        ("sagemaker", "DescribeEndpoint"): lambda request: by_name[request["EndpointName"]],
    }


@pytest.mark.parametrize(
    ("there", "parameters", "state"),
    [
        ([], [], "ok"),  # 5 live and 5 of a candidate are the 10 that there are
        ([], ["KeepModels=1"], "note"),
        ([("theirs", 3)], [], "note"),
        ([("theirs", 6)], [], "FAILS"),
        ([("theirs", 6)], ["EndpointMaxConcurrency=2"], "ok"),
        ([("droplens--cars-1", 5)], [], "ok"),
        ([], ["EndpointMaxConcurrency=20"], "FAILS"),
    ],
)
def test_serverless_concurrency_is_counted_with_what_is_used(
    preflight: Preflight, there: list[tuple[str, int]], parameters: list[str], state: str
) -> None:
    answers = empty_account(READY) | endpoints(*there)
    status, output = preflight(answers, *parameters)
    (row,) = rows(output, "endpoint")
    assert row.startswith(state), output
    assert status == (state == "FAILS")
    if state != "ok":
        assert "--quota-code L-96300102" in row
        assert "instead: EndpointMode=lambda" in row


def test_in_china_auto_needs_no_endpoint(preflight: Preflight) -> None:
    arn = f"arn:aws-cn:iam::{ACCOUNT}:user/ann"
    quotas = READY | instances(spot__ml_g5_xlarge=1, endpoint__ml_m5_large=0)
    _, output = preflight(empty_account(quotas, arn), target=(*HERE, "--region", "cn-north-1"))
    (row,) = rows(output, "endpoint")
    assert row.startswith("ok endpoint none: classify_image runs the models itself")


def test_in_china_realtime_s_instance_s_quota_is_asked_for(preflight: Preflight) -> None:
    arn = f"arn:aws-cn:iam::{ACCOUNT}:user/ann"
    quotas = READY | instances(spot__ml_g5_xlarge=1, endpoint__ml_m5_large=0)
    status, output = preflight(
        empty_account(quotas, arn),
        "EndpointMode=realtime",
        target=(*HERE, "--region", "cn-north-1"),
    )
    (row,) = rows(output, "endpoint")
    assert row.startswith("FAILS endpoint realtime: 0 of ml.m5.large in the account")
    assert "https://cn-north-1.console.amazonaws.cn/servicequotas" in row
    assert status == 1


def test_serverless_by_name_in_china_is_told_before_anything_is_made(preflight: Preflight) -> None:
    arn = f"arn:aws-cn:iam::{ACCOUNT}:user/ann"
    status, output = preflight(
        empty_account(READY, arn),
        "EndpointMode=serverless",
        target=(*HERE, "--region", "cn-north-1"),
    )
    (row,) = rows(output, "endpoint")
    assert row.startswith("FAILS")
    assert "EndpointMode=realtime" in row
    assert status == 1


def test_smaller_quotas_are_notes_where_the_first_run_works_and_fail_where_it_does_not(
    preflight: Preflight,
) -> None:
    status, output = preflight(empty_account(READY), "ClassifyMaxConcurrency=50")
    assert status == 0
    assert "less than PackingMaxVcpus=16" in rows(output, "packing vCPUs")[0]
    assert "instead: PackingMaxVcpus=6" in rows(output, "packing vCPUs")[0]
    assert rows(output, "Lambda concurrency")[0].startswith("note")
    none = READY | {
        "L-9D07B6EF": NEW_ACCOUNT["L-9D07B6EF"] | {"Value": 0.0},
        "L-3032A538": NEW_ACCOUNT["L-3032A538"] | {"Value": 1.0},
    }
    status, output = preflight(empty_account(none))
    assert status == 1
    assert rows(output, "image builds")[0].startswith("FAILS")
    assert rows(output, "packing vCPUs")[0].startswith("FAILS")
    assert "instead: PackingVcpus=1" in rows(output, "packing vCPUs")[0]


def test_a_quota_that_service_quotas_cannot_raise_is_for_the_support(preflight: Preflight) -> None:
    fixed = READY | {"L-9D07B6EF": NEW_ACCOUNT["L-9D07B6EF"] | {"Value": 0.0, "Adjustable": False}}
    _, output = preflight(empty_account(fixed))
    assert "ask its support" in rows(output, "image builds")[0]


@pytest.mark.parametrize(
    ("arguments", "stack", "state"),
    [
        ([], None, "FAILS"),
        (["SubnetIds=subnet-1", "SecurityGroupIds=sg-1"], None, "ok"),
        ([], "UPDATE_COMPLETE", "ok"),  # it has its VPC
    ],
)
def test_a_fifth_vpc_is_too_many_unless_none_is_made(
    preflight: Preflight, arguments: list[str], stack: str | None, state: str
) -> None:
    answers = empty_account(READY)
    answers["ec2", "DescribeVpcs"] = {"Vpcs": [{"VpcId": f"vpc-{n}"} for n in range(5)]}
    if stack:
        answers["cloudformation", "DescribeStacks"] = in_state(stack)
    _, output = preflight(answers, *arguments)
    assert rows(output, "network")[0].startswith(state)


def in_state(status: str) -> Callable[[dict[str, Any]], Any]:
    """The stack droplens is in this state; sam has none yet."""

    def answer(request: dict[str, Any]) -> Any:
        if request["StackName"] != "droplens":
            return refused("ValidationError")
        return {"Stacks": [{"StackName": "droplens", "StackStatus": status, "CreationTime": 1}]}

    return answer


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("ROLLBACK_COMPLETE", "make destroy STACK=droplens"),
        ("DELETE_FAILED", "make destroy STACK=droplens"),
        ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback"),
        ("UPDATE_IN_PROGRESS", "wait"),
    ],
)
def test_a_stack_that_takes_no_deployment_fails_with_what_to_do(
    preflight: Preflight, status: str, advice: str
) -> None:
    answers = empty_account(READY)
    answers["cloudformation", "DescribeStacks"] = in_state(status)
    code, output = preflight(answers)
    (row,) = rows(output, "stack")
    assert row.startswith(f"FAILS stack droplens is {status}")
    assert advice in row
    assert code == 1


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_that_is_there_is_updated_and_its_own_names_are_no_obstacle(
    preflight: Preflight, status: str
) -> None:
    answers = empty_account(READY)
    answers["cloudformation", "DescribeStacks"] = in_state(status)
    answers["logs", "DescribeLogGroups"] = {
        "logGroups": [{"logGroupName": "/aws/lambda/droplens-build-images"}]
    }
    code, output = preflight(answers)
    assert code == 0, output
    assert not rows(output, "log groups")


def test_what_a_failed_creation_left_is_named_with_the_commands_that_remove_it(
    preflight: Preflight,
) -> None:
    answers = empty_account(READY)
    left = [
        "/aws/lambda/droplens-build-images",
        "/aws/lambda/droplens-build-images-of-another",
        "/aws/lambda/droplens-dev-rollback",
    ]
    answers["logs", "DescribeLogGroups"] = {"logGroups": [{"logGroupName": name} for name in left]}
    answers["s3", "ListBuckets"] = {"Buckets": [{"Name": "droplens-bucket-8k3mwq2ra1xz"}]}
    answers["dynamodb", "ListTables"] = {"TableNames": ["droplens-Runs-1X", "droplens-dev-Runs-2"]}
    code, output = preflight(answers)
    (row,) = rows(output, "log groups")
    assert row.startswith("FAILS")
    assert re.findall(r"--log-group-name (\S+)", row) == ["/aws/lambda/droplens-build-images"]
    (row,) = rows(output, "an earlier stack's data")
    assert row.startswith("note")
    assert "s3://droplens-bucket-8k3mwq2ra1xz, table droplens-Runs-1X" in row
    assert code == 1


def test_an_upload_bucket_that_is_gone_fails(preflight: Preflight) -> None:
    answers = empty_account(READY)

    def stacks(request: dict[str, Any]) -> Any:
        if request["StackName"] == "droplens":
            return refused("ValidationError")
        output = {"OutputKey": "SourceBucket", "OutputValue": "sams-bucket"}
        return {
            "Stacks": [
                {
                    "StackName": request["StackName"],
                    "StackStatus": "CREATE_COMPLETE",
                    "CreationTime": 1,
                    "Outputs": [output],
                }
            ]
        }

    answers["cloudformation", "DescribeStacks"] = stacks
    answers["s3", "HeadBucket"] = {}
    code, output = preflight(answers)
    assert (code, rows(output, "upload bucket")) == (0, ["ok upload bucket s3://sams-bucket"])
    answers["s3", "HeadBucket"] = refused("NoSuchBucket")
    code, output = preflight(answers)
    assert rows(output, "upload bucket")[0].startswith("FAILS upload bucket s3://sams-bucket")


# --- Permissions ---


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"EvalDecision": "implicitDeny"}, "FAILS permissions no policy allows"),
        ({"EvalDecision": "explicitDeny"}, "FAILS permissions a policy denies"),
        (
            {
                "EvalDecision": "implicitDeny",
                "OrganizationsDecisionDetail": {"AllowedByOrganizations": False},
            },
            "FAILS permissions a service control policy of the organisation does not allow",
        ),
        (
            {
                "EvalDecision": "implicitDeny",
                "PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": False},
            },
            "FAILS permissions the identity's permissions boundary does not allow",
        ),
        (
            {"EvalDecision": "implicitDeny", "MissingContextValues": ["aws:ResourceTag/team"]},
            "unknown permissions depends on aws:ResourceTag/team:",
        ),
    ],
)
def test_what_is_not_allowed_is_told_with_the_action_and_the_cause(
    preflight: Preflight, decision: dict[str, Any], said: str
) -> None:
    action = "batch:CreateComputeEnvironment"
    status, output = preflight(empty_account(READY) | simulated({action: decision}))
    found = [row for row in rows(output, "permissions") if row.startswith(said)]
    assert len(found) == 1, output
    assert action in found[0]
    assert status == said.startswith("FAILS")
    assert ("docs/deployer-policy.json" in found[0]) == said.startswith("FAILS")


def test_a_role_s_session_is_simulated_by_the_role_s_own_arn(preflight: Preflight) -> None:
    name = "AWSReservedSSO_Admin_1a2b"
    role = f"arn:aws:iam::{ACCOUNT}:role/aws-reserved/sso.amazonaws.com/eu-west-1/{name}"
    answers = empty_account(READY, f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/ann")
    answers["iam", "GetRole"] = {
        "Role": {
            "Path": "/aws-reserved/sso.amazonaws.com/eu-west-1/",
            "RoleName": name,
            "RoleId": "AROAEXAMPLE12345",
            "Arn": role,
            "CreateDate": 1,
        }
    }
    status, output = preflight(answers)
    assert status == 0, output
    asked = [call for _, op, call in preflight.recorded.calls if op == "SimulatePrincipalPolicy"]
    assert {call["PolicySourceArn"] for call in asked} == {role}


@pytest.mark.parametrize(
    ("arn", "state"),
    [
        (f"arn:aws:sts::{ACCOUNT}:federated-user/ann", "unknown"),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/Deploy/ann", "unknown"),  # iam:GetRole is denied
        (f"arn:aws:iam::{ACCOUNT}:root", "note"),
    ],
)
def test_who_cannot_be_simulated_is_neither_well_nor_amiss(
    preflight: Preflight, arn: str, state: str
) -> None:
    status, output = preflight(empty_account(READY, arn))
    (row,) = rows(output, "permissions")
    assert row.startswith(state)
    assert status == 0


def test_passing_a_role_is_asked_with_the_service_that_gets_it(preflight: Preflight) -> None:
    preflight(empty_account(READY))
    services = set()
    for _, operation, call in preflight.recorded.calls:
        if operation == "SimulatePrincipalPolicy" and "iam:PassRole" in call.values():
            key = next(k for k, value in call.items() if value == "iam:PassedToService")
            services.add(call[key.replace("ContextKeyName", "ContextKeyValues.member.1")])
    assert services == {
        "ecs-tasks.amazonaws.com",
        "codebuild.amazonaws.com",
        "lambda.amazonaws.com",
    }


# --- What cannot be asked ---


def test_an_identity_that_may_ask_nothing_is_told_what_it_would_need(preflight: Preflight) -> None:
    only = {("sts", "GetCallerIdentity"): empty_account()["sts", "GetCallerIdentity"]}
    status, output = preflight(only)
    assert status == 0
    assert "Could not be checked; may be in order or not:" in output
    for action in (
        "cloudformation:DescribeStacks",
        "iam:SimulatePrincipalPolicy",
        "servicequotas:ListAWSDefaultServiceQuotas",
        "servicequotas:GetServiceQuota",
        "logs:DescribeLogGroups",
        "ecr:DescribeRepositories",
        "s3:ListAllMyBuckets",
    ):
        assert f"{action} is not allowed to this identity" in output
    assert not re.search(r"^  (ok|FAILS) +(endpoint|training|permissions)", output, re.MULTILINE)


@pytest.mark.parametrize("left_out", sorted(set(empty_account()) - {("sts", "GetCallerIdentity")}))
def test_each_answer_that_is_missing_ends_no_other_check(
    preflight: Preflight, left_out: tuple[str, str]
) -> None:
    answers = empty_account(READY) | endpoints(("theirs", 1))
    answers[left_out] = denied(":".join(left_out))
    status, output = preflight(answers, "EndpointMaxConcurrency=4")
    assert status == 0, output
    assert len(re.findall(r"^  ok ", output, re.MULTILINE)) >= 6
    if left_out != (
        "service-quotas",
        "GetAWSDefaultServiceQuota",
    ):  # asked for what is missing only
        assert re.search(r"^  unknown ", output, re.MULTILINE), output


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "ExpiredToken"])
def test_credentials_that_aws_does_not_take_end_it(preflight: Preflight, code: str) -> None:
    status, output = preflight({("sts", "GetCallerIdentity"): refused(code, "The security token")})
    assert status == 1
    assert "no usable credentials" in output
    assert "aws sts get-caller-identity" in output


# --- Parameters and the build environment ---


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("Recipe=other", "Recipe=other is not one of finetune, probe"),
        ("NotThere=1", "the template has no parameter NotThere"),
        ("KeepModels=11", "KeepModels=11 is not a number of 0 to 10"),
        ("NotificationEmail=me", "an e-mail address, or nothing"),
    ],
)
def test_parameters_that_cloudformation_would_refuse_fail(
    preflight: Preflight, parameter: str, said: str
) -> None:
    status, output = preflight(empty_account(READY), parameter)
    assert status == 1
    assert said in rows(output, "parameters")[0]


def test_saved_answers_are_read_and_the_command_line_stands_above_them(
    preflight: Preflight, tmp_path: Path
) -> None:
    config = tmp_path / "samconfig.account.toml"
    config.write_text(
        "version = 0.1\n[default.global.parameters]\nstack_name = 'lens'\n"
        '[default.deploy.parameters]\nparameter_overrides = \'PythonRuntime="python3.13" '
        'Recipe="probe"\'\n'
    )
    quotas = NEW_ACCOUNT | instances(spot__ml_m5_xlarge=1)
    status, output = preflight(empty_account(quotas), target=("--config", str(config)))
    assert status == 0, output
    assert output.startswith(f"lens in {REGION}, account {ACCOUNT}")
    status, _ = preflight(
        empty_account(quotas), "Recipe=finetune", target=("--config", str(config))
    )
    assert status == 1


@pytest.mark.parametrize(
    ("runtime", "state"),
    [("python3.13", "ok"), ("python3.12", "FAILS"), ("python3.11", "FAILS")],
)
def test_the_python_must_be_there_and_newer_than_amazon_linux_2_s(
    preflight: Preflight, runtime: str, state: str
) -> None:
    assert shutil.which("python3.13")
    _, output = preflight(empty_account(READY), f"PythonRuntime={runtime}")
    (row,) = rows(output, "Python")
    assert row.startswith(state)
    if state == "FAILS":
        assert "instead: PythonRuntime=python3.13" in row


@pytest.mark.parametrize(
    ("answer", "state"), [({}, "ok"), (refused("AccessDenied"), "ok"), (None, "unknown")]
)
def test_a_registry_that_answers_at_all_will_do(answer: Any, state: str) -> None:
    """A registry asks for a sign-in: an answer too."""

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if answer == {} else 401)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Registry)
    url = f"http://127.0.0.1:{server.server_port}/v2/"
    if answer is None:
        server.server_close()
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    finding = build_environment.reachable("base images", url, "BaseImageRegistry")
    if answer is not None:
        server.shutdown()
        server.server_close()
    assert finding.state == state
    if state == "unknown":
        assert "BaseImageRegistry" in finding.found

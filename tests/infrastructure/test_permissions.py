"""Who may do what: least privilege, by calls that are allowed and calls that are not."""

import re
from pathlib import Path
from typing import Any

import pytest

from droplens.domain import layout
from droplens.state.runs import ATTENTION
from tests.infrastructure.roles import (
    KEY,
    MAY,
    NOBODY_MAY,
    NOBODY_MAY_WITH_KEY,
    Call,
    calls,
    mine,
    unused,
    update,
)
from tests.support.expanded_template import ACCOUNT, BUCKET, Stack, expanded_in, listed

ROLES = sorted(MAY)
MANAGED = {
    "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
    "arn:aws:iam::aws:policy/AWSXrayWriteOnlyAccess",
}
# Every S3 call that makes an object, or makes one come back or change its owner's mind.
WRITES = (
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:RestoreObject",
    "s3:ReplicateObject",
    "s3:PutObjectAcl",
    "s3:PutObjectTagging",
)
PREFIXES = (
    layout.DATASETS,
    layout.INPUT,
    layout.RESULTS,
    layout.PACKED,
    layout.TRAINING,
    layout.MODELS,
    layout.REPORTS,
    layout.BUILD,
    "",
)
# Calls that AWS offers no narrower resource for.
STAR = {
    ("PrepareDatasetRole", "batch:ListJobs"),
    ("ReportFailureRole", "batch:ListJobs"),
    ("PackingExecutionRole", "ecr:GetAuthorizationToken"),
    ("ImageBuildRole", "ecr:GetAuthorizationToken"),
    ("TrainingRole", "ecr:GetAuthorizationToken"),
    ("TrainingRole", "cloudwatch:PutMetricData"),
    ("ServingRole", "ecr:GetAuthorizationToken"),
    ("ServingRole", "cloudwatch:PutMetricData"),
    ("PauseEndpointRole", "cloudwatch:GetMetricStatistics"),
}


def s3_object(prefix: str) -> str:
    return f"arn:aws:s3:::{BUCKET}/{prefix}cars/a"


# --- the tables


@pytest.fixture(scope="module", params=["", KEY], ids=["AWS's keys", "the user's key"])
def deployed(request: pytest.FixtureRequest, stack: Stack) -> Stack:
    """The stack as it is with and without a key of the user's."""
    return Stack(stack.template, parameters={"KmsKeyArn": request.param})


def has_key(stack: Stack) -> bool:
    return stack.ref("KmsKeyArn") != ""


def test_every_role_has_a_table(deployed: Stack) -> None:
    assert sorted(deployed.of_type("AWS::IAM::Role")) == ROLES


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_all_of_its_table_and_nothing_of_another_s(
    deployed: Stack, role: str
) -> None:
    own = mine(role, has_key(deployed))
    # Whoever has a row without a condition may do what others may under one.
    without = {(call.action, call.resource) for call in own if not call.context}
    others = {
        call
        for other in ROLES
        for call in mine(other, with_key=True)
        if (call.action, call.resource) not in without
    } - set(own)
    assert [str(call) for call in own if not call.allowed(deployed, role)] == []
    assert [str(call) for call in others if call.allowed(deployed, role)] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_near_miss_is_refused(deployed: Stack, role: str) -> None:
    near = [*NOBODY_MAY, *NOBODY_MAY_WITH_KEY]
    assert [str(call) for call in near if call.allowed(deployed, role)] == []


@pytest.mark.parametrize("role", ROLES)
def test_no_permission_is_without_use(deployed: Stack, role: str) -> None:
    assert unused(deployed, role, mine(role, has_key(deployed))) == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["droplens-dev", "drop", "droplens2"])
def test_nothing_of_another_stack_s_is_within_reach(stack: Stack, role: str, name: str) -> None:
    other = Stack(stack.template, name=name)
    for call in mine(role, with_key=False):
        if call.on(other) != call.on(stack):
            assert not call.allowed(stack, role, of=other), str(call)
            assert call.allowed(other, role, of=other), str(call)


@pytest.mark.parametrize("role", ROLES)
def test_the_same_holds_in_every_partition(role: str, repo_root: Path) -> None:
    for region in ("cn-north-1", "us-gov-west-1"):
        there = expanded_in(region, repo_root)
        own = mine(role, with_key=False)
        assert [str(call) for call in own if not call.allowed(there, role)] == []
        assert unused(there, role, own) == []


def test_a_call_without_its_condition_is_another_call() -> None:
    """Else a table's row would say nothing about conditions."""
    assert Call("a:B", "c", {"k": "v"}) != Call("a:B", "c")


@pytest.mark.parametrize("attribute", ["image", "model_data", "status", "endpoint", ATTENTION])
def test_packing_writes_nothing_of_a_run_but_its_progress(stack: Stack, attribute: str) -> None:
    for call in (*update(attribute), *update("progress", attribute)):
        assert not call.allowed(stack, "PackingRole"), str(call)
    for call in (
        *update("progress", dynamodb_ReturnValues="ALL_NEW"),
        *calls("dynamodb:UpdateItem", "${Runs.Arn}"),
        *calls("dynamodb:GetItem PutItem Query", "${Runs.Arn}"),
    ):
        assert not call.allowed(stack, "PackingRole"), str(call)


def test_an_endpoint_reads_models_and_writes_nothing(stack: Stack) -> None:
    for key in ("packed/cars/r/train/train.rec", "training/cars/r/checkpoints/c", "models/a"):
        assert not stack.allows("ServingRole", "s3:GetObject", f"arn:aws:s3:::{BUCKET}/{key}")
    for action in WRITES:
        for prefix in PREFIXES:
            assert not stack.allows("ServingRole", action, s3_object(prefix))


# --- across all roles


@pytest.mark.parametrize("role", ROLES)
def test_nobody_may_write_where_a_write_would_wake_a_function(stack: Stack, role: str) -> None:
    for prefix in (layout.DATASETS, layout.INPUT):
        for action in WRITES:
            assert not stack.allows(role, action, s3_object(prefix))


@pytest.mark.parametrize("role", ROLES)
def test_nobody_may_delete_an_object_but_a_result_or_change_the_bucket(
    stack: Stack, role: str
) -> None:
    """A result that is deleted stays as a noncurrent version, which nobody may delete."""
    deletes = {p for p in PREFIXES if stack.allows(role, "s3:DeleteObject", s3_object(p))}
    assert deletes == ({layout.RESULTS} if role == "ClassifyImageRole" else set())
    for prefix in PREFIXES:
        assert not stack.allows(role, "s3:DeleteObjectVersion", s3_object(prefix))
    for action in ("s3:PutBucketPolicy", "s3:DeleteBucket", "s3:PutBucketNotification"):
        assert not stack.allows(role, action, f"arn:aws:s3:::{BUCKET}")


WORK = "packed/cars/20261122-120000-1a2b3c/work/0-of-4/train.rec"


@pytest.mark.parametrize("role", ROLES)
def test_scaffolding_of_packing_is_all_that_anybody_may_delete(stack: Stack, role: str) -> None:
    assert stack.allows(role, "s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/{WORK}") == (
        role in ("PackingRole", "ReportFailureRole")
    )
    failure = f"arn:aws:s3:::{BUCKET}/packed/cars/20261122-120000-1a2b3c/failure.json"
    assert stack.allows(role, "s3:DeleteObject", failure) == (role == "PackingRole")
    for key in (
        "packed/cars/20261122-120000-1a2b3c/train/train.rec",
        "packed/cars/20261122-120000-1a2b3c/dataset.json",
        "datasets/cars/work/a.jpg",
        "models/work/live.json",
    ):
        assert not stack.allows(role, "s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/{key}")
    assert not stack.allows(role, "s3:DeleteObjectVersion", f"arn:aws:s3:::{BUCKET}/{WORK}")


@pytest.mark.parametrize("role", ROLES)
def test_no_statement_names_all_actions_of_a_service(stack: Stack, role: str) -> None:
    for statement in stack.statements(role):
        assert "NotAction" not in statement
        assert "NotResource" not in statement
        assert not any("*" in action for action in listed(statement["Action"]))


def test_all_resources_are_named_only_where_aws_knows_no_narrower_one(stack: Stack) -> None:
    found = {
        (role, action)
        for role in ROLES
        for statement in stack.statements(role)
        if "*" in listed(statement["Resource"])
        for action in listed(statement["Action"])
    }
    assert found == STAR


def test_every_star_says_why_beside_it(repo_root: Path) -> None:
    """A comment right above the statement, which is where its reader looks."""
    lines = (repo_root / "template.yaml").read_text("utf-8").splitlines()
    stars = [
        number for number, line in enumerate(lines) if re.search(r"""Resource: ["']\*""", line)
    ]
    assert stars
    for star in stars:
        start = next(at for at in range(star, 0, -1) if lines[at].lstrip().startswith("- "))
        assert lines[start - 1].lstrip().startswith("# "), f"template.yaml:{star + 1}"


@pytest.mark.parametrize("role", ROLES)
def test_managed_policies_are_those_for_logs_and_traces(stack: Stack, role: str) -> None:
    assert set(stack.properties(role).get("ManagedPolicyArns", [])) <= MANAGED


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_assumed_by_one_service_of_this_account(stack: Stack, role: str) -> None:
    [statement] = stack.properties(role)["AssumeRolePolicyDocument"]["Statement"]
    [service] = listed(statement["Principal"]["Service"])
    if service != "lambda.amazonaws.com":  # which may only be handed a role of its own account
        assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert service == {
        "ImageBuildRole": "codebuild.amazonaws.com",
        "PackingRole": "ecs-tasks.amazonaws.com",
        "PackingExecutionRole": "ecs-tasks.amazonaws.com",
        "TrainingRole": "sagemaker.amazonaws.com",
        "ServingRole": "sagemaker.amazonaws.com",
    }.get(role, "lambda.amazonaws.com")


# --- the bucket


@pytest.fixture
def bucket(stack: Stack) -> dict[str, Any]:
    """The bucket's properties."""
    [properties] = stack.of_type("AWS::S3::Bucket").values()
    return properties


def test_the_bucket_is_private_encrypted_versioned_and_tells_of_its_objects(
    bucket: dict[str, Any],
) -> None:
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert bucket["NotificationConfiguration"] == {
        "EventBridgeConfiguration": {"EventBridgeEnabled": True}
    }


def test_old_versions_and_broken_uploads_do_not_pile_up(bucket: dict[str, Any]) -> None:
    everywhere, packing, checkpoints, sources = bucket["LifecycleConfiguration"]["Rules"]
    assert "Prefix" not in everywhere
    assert "NoncurrentVersionExpiration" in everywhere
    assert "AbortIncompleteMultipartUpload" in everywhere
    assert everywhere["ExpiredObjectDeleteMarker"] is True
    assert packing["Prefix"] == layout.PACKED
    assert packing["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert checkpoints["Prefix"] == layout.TRAINING
    assert checkpoints["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert sources["Prefix"] == layout.BUILD
    for rule in (everywhere, packing, checkpoints, sources):
        assert rule["Status"] == "Enabled"
        assert ("ExpirationInDays" in rule) == (rule is sources)


@pytest.mark.parametrize("name", ["InputRetentionDays", "ResultsRetentionDays"])
def test_what_expires_is_gone_with_its_versions_and_nothing_else_is(
    stack: Stack, name: str
) -> None:
    deployed = Stack(stack.template, parameters={name: "40"})
    [properties] = deployed.of_type("AWS::S3::Bucket").values()
    *others, rule = properties["LifecycleConfiguration"]["Rules"]
    [always] = stack.of_type("AWS::S3::Bucket").values()
    assert others == always["LifecycleConfiguration"]["Rules"]
    assert (
        rule["Prefix"]
        == {
            "InputRetentionDays": layout.INPUT,
            "ResultsRetentionDays": layout.RESULTS,
        }[name]
    )
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", "40")
    # An expired object is a noncurrent version below a delete marker.
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}


def test_the_bucket_takes_no_plain_http(stack: Stack) -> None:
    [policy] = stack.of_type("AWS::S3::BucketPolicy").values()
    [statement] = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Action"] == "s3:*"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    arn = stack.attribute("Bucket", "Arn")
    assert statement["Resource"] == [arn, f"{arn}/*"]


@pytest.mark.parametrize("name", ["Bucket", "Runs", "Reviews"])
def test_what_users_own_outlives_the_stack(stack: Stack, name: str) -> None:
    resource = stack.template["Resources"][name]
    policies = (resource["DeletionPolicy"], resource["UpdateReplacePolicy"])
    assert policies == ("RetainExceptOnCreate", "Retain")


def test_nothing_comes_in_to_the_packing_jobs(stack: Stack) -> None:
    [group] = stack.of_type("AWS::EC2::SecurityGroup").values()
    assert "SecurityGroupIngress" not in group
    assert not stack.of_type("AWS::EC2::SecurityGroupIngress")
    assert [(rule["FromPort"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]] == [
        (443, 443)
    ]

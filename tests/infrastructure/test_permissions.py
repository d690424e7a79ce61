"""Who may do what: least privilege, by calls that are allowed and calls that are not."""

from typing import Any

import pytest

from droplens import layout
from tests.infrastructure.stack import ACCOUNT, BUCKET, REGION, Stack, listed

ROLES = [
    "BuildImagesRole",
    "ImageBuildRole",
    "PrepareDatasetRole",
    "PackingRole",
    "PackingExecutionRole",
    "StartTrainingRole",
    "SageMakerRole",
    "DeployEndpointRole",
    "PromoteEndpointRole",
    "RollbackRole",
    "ClassifyImageRole",
    "ReportFailureRole",
]
MANAGED = {
    "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
    "arn:aws:iam::aws:policy/AWSXrayWriteOnlyAccess",
    "arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole",
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
WRITES_BELOW = {
    "BuildImagesRole": {layout.BUILD},
    "PackingRole": {layout.PACKED},
    "SageMakerRole": {layout.TRAINING},
    "PromoteEndpointRole": {layout.MODELS, layout.REPORTS},
    "RollbackRole": {layout.MODELS},
    "ClassifyImageRole": {layout.RESULTS},
}
READS_BELOW = {
    "PrepareDatasetRole": {layout.DATASETS},
    "PackingRole": {layout.DATASETS, layout.PACKED},
    "StartTrainingRole": {layout.PACKED},
    "SageMakerRole": {layout.PACKED, layout.TRAINING},
    "PromoteEndpointRole": {
        layout.PACKED,
        layout.MODELS,
        layout.RESULTS,
        layout.REPORTS,
        layout.TRAINING,
    },
    "RollbackRole": {layout.MODELS},
    "ClassifyImageRole": {layout.INPUT, layout.MODELS, layout.RESULTS},
    "ReportFailureRole": {layout.PACKED, layout.MODELS},
}
# Calls that AWS offers no narrower resource for.
STAR = {
    ("PrepareDatasetRole", "batch:ListJobs"),
    ("ReportFailureRole", "batch:ListJobs"),
    ("PackingExecutionRole", "ecr:GetAuthorizationToken"),
    ("ImageBuildRole", "ecr:GetAuthorizationToken"),
    ("SageMakerRole", "ecr:GetAuthorizationToken"),
    ("SageMakerRole", "cloudwatch:PutMetricData"),
}


def s3_object(prefix: str) -> str:
    return f"arn:aws:s3:::{BUCKET}/{prefix}cars/a"


def sagemaker(kind: str, name: str = "droplens-cars-20261122-120000-1a2b3c") -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


def test_there_is_no_other_role(stack: Stack) -> None:
    assert sorted(stack.of_type("AWS::IAM::Role")) == sorted(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_nobody_may_write_where_a_write_would_wake_a_function(stack: Stack, role: str) -> None:
    for prefix in (layout.DATASETS, layout.INPUT):
        for action in WRITES:
            assert not stack.allows(role, action, s3_object(prefix))


@pytest.mark.parametrize("role", ROLES)
def test_each_writes_below_its_own_prefixes_only(stack: Stack, role: str) -> None:
    may = {prefix for prefix in PREFIXES if stack.allows(role, "s3:PutObject", s3_object(prefix))}
    assert may == WRITES_BELOW.get(role, set())


@pytest.mark.parametrize("role", ROLES)
def test_each_reads_below_its_own_prefixes_only(stack: Stack, role: str) -> None:
    may = {prefix for prefix in PREFIXES if stack.allows(role, "s3:GetObject", s3_object(prefix))}
    assert may == READS_BELOW.get(role, set())


@pytest.mark.parametrize("role", ROLES)
def test_nobody_may_delete_an_object_or_change_the_bucket(stack: Stack, role: str) -> None:
    for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
        assert not any(stack.allows(role, action, s3_object(prefix)) for prefix in PREFIXES)
    for action in ("s3:PutBucketPolicy", "s3:DeleteBucket", "s3:PutBucketNotification"):
        assert not stack.allows(role, action, f"arn:aws:s3:::{BUCKET}")


WORK = "packed/cars/20261122-120000-1a2b3c/work/0-of-4/train.rec"


@pytest.mark.parametrize("role", ROLES)
def test_shards_are_all_that_anybody_may_delete(stack: Stack, role: str) -> None:
    assert stack.allows(role, "s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/{WORK}") == (
        role in ("PackingRole", "ReportFailureRole")
    )
    for key in (
        "packed/cars/20261122-120000-1a2b3c/train/train.rec",
        "packed/cars/20261122-120000-1a2b3c/dataset.json",
        "datasets/cars/work/a.jpg",
        "models/work/live.json",
    ):
        assert not stack.allows(role, "s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/{key}")
    assert not stack.allows(role, "s3:DeleteObjectVersion", f"arn:aws:s3:::{BUCKET}/{WORK}")


def test_shards_can_be_joined_by_copies(stack: Stack) -> None:
    """UploadPartCopy reads its source and writes its target."""
    target = f"arn:aws:s3:::{BUCKET}/packed/cars/20261122-120000-1a2b3c/train/train.rec"
    assert stack.allows("PackingRole", "s3:GetObject", f"arn:aws:s3:::{BUCKET}/{WORK}")
    assert stack.allows("PackingRole", "s3:PutObject", target)
    assert stack.allows("PackingRole", "s3:AbortMultipartUpload", target)


@pytest.mark.parametrize("role", sorted(READS_BELOW))
def test_who_reads_can_tell_missing_from_forbidden(stack: Stack, role: str) -> None:
    assert stack.allows(role, "s3:ListBucket", f"arn:aws:s3:::{BUCKET}")
    assert not stack.allows(role, "s3:ListBucket", "arn:aws:s3:::another-bucket")


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


def test_metrics_of_sagemaker_stay_in_its_namespace(stack: Stack) -> None:
    def may(namespace: str) -> bool:
        return stack.allows(
            "SageMakerRole", "cloudwatch:PutMetricData", "*", cloudwatch_namespace=namespace
        )

    assert may("/aws/sagemaker/Endpoints")
    assert not may("Billing")


@pytest.mark.parametrize("role", ROLES)
def test_managed_policies_are_the_three_for_logs_traces_and_the_queue(
    stack: Stack, role: str
) -> None:
    managed = set(stack.properties(role).get("ManagedPolicyArns", []))
    assert managed <= MANAGED
    queue = "arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole"
    assert (queue in managed) == (role == "ClassifyImageRole")


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
        "SageMakerRole": "sagemaker.amazonaws.com",
    }.get(role, "lambda.amazonaws.com")


@pytest.mark.parametrize("role", ROLES)
def test_only_sagemaker_is_lent_its_role(stack: Stack, role: str) -> None:
    own = stack.attribute("SageMakerRole", "Arn")
    lent = stack.allows(role, "iam:PassRole", own, iam_PassedToService="sagemaker.amazonaws.com")
    assert lent == (role in ("StartTrainingRole", "DeployEndpointRole", "RollbackRole"))
    assert not stack.allows(role, "iam:PassRole", own, iam_PassedToService="lambda.amazonaws.com")
    for other in ROLES:
        if other != "SageMakerRole":
            arn = stack.attribute(other, "Arn")
            assert not stack.allows(
                role, "iam:PassRole", arn, iam_PassedToService="sagemaker.amazonaws.com"
            )


SAGEMAKER = {
    "training-job": {
        "StartTrainingRole": {"CreateTrainingJob", "AddTags"},
        "DeployEndpointRole": {"DescribeTrainingJob", "ListTags"},
        "ReportFailureRole": {"DescribeTrainingJob", "ListTags"},
    },
    "endpoint": {
        "DeployEndpointRole": {"CreateEndpoint", "DescribeEndpoint", "AddTags"},
        "RollbackRole": {"CreateEndpoint", "DescribeEndpoint", "AddTags"},
        "PromoteEndpointRole": {"InvokeEndpoint", "DeleteEndpoint", "ListTags"},
        "ClassifyImageRole": {"InvokeEndpoint"},
        "ReportFailureRole": {"DescribeEndpoint", "DeleteEndpoint", "ListTags"},
    },
    "endpoint-config": {
        "DeployEndpointRole": {"CreateEndpointConfig", "DescribeEndpointConfig", "CreateEndpoint"},
        "RollbackRole": {"CreateEndpointConfig", "DescribeEndpointConfig", "CreateEndpoint"},
        "PromoteEndpointRole": {"DeleteEndpointConfig"},
        "ReportFailureRole": {"DeleteEndpointConfig"},
    },
    "model": {
        "DeployEndpointRole": {"CreateModel", "DescribeModel", "AddTags"},
        "RollbackRole": {"CreateModel", "DescribeModel", "AddTags"},
        "PromoteEndpointRole": {"DeleteModel"},
        "ReportFailureRole": {"DeleteModel"},
    },
    "model-package-group": {
        "PromoteEndpointRole": {
            "CreateModelPackageGroup",
            "DescribeModelPackageGroup",
            "CreateModelPackage",
        },
    },
    "model-package": {
        "PromoteEndpointRole": {"CreateModelPackage", "DescribeModelPackage"},
        "ReportFailureRole": {"DescribeModelPackage"},
    },
}


@pytest.mark.parametrize("kind", SAGEMAKER)
@pytest.mark.parametrize("role", ROLES)
def test_sagemaker_calls_reach_the_stack_s_own_resources_only(
    stack: Stack, role: str, kind: str
) -> None:
    for action in SAGEMAKER[kind].get(role, ()):
        assert stack.allows(role, f"sagemaker:{action}", sagemaker(kind))
    for actions in SAGEMAKER[kind].values():
        for action in actions:
            assert not stack.allows(role, f"sagemaker:{action}", sagemaker(kind, "other-cars"))
    if role not in SAGEMAKER[kind]:
        assert not any(
            stack.allows(role, f"sagemaker:{action}", sagemaker(kind))
            for action in (
                "CreateTrainingJob",
                "StopTrainingJob",
                "CreateEndpoint",
                "InvokeEndpoint",
                "DeleteEndpoint",
                "UpdateEndpoint",
                "CreateModel",
                "DeleteModel",
                "CreateModelPackage",
                "UpdateModelPackage",
            )
        )


RUNS = {
    "PrepareDatasetRole": {"GetItem", "PutItem", "UpdateItem"},
    "PackingRole": {"UpdateItem"},
    "StartTrainingRole": {"GetItem", "UpdateItem"},
    "DeployEndpointRole": {"GetItem", "UpdateItem"},
    "PromoteEndpointRole": {"GetItem", "UpdateItem", "Query"},
    "RollbackRole": {"GetItem", "UpdateItem", "Query"},
    "ClassifyImageRole": {"Query"},
    "ReportFailureRole": {"GetItem", "UpdateItem", "Query"},
}


@pytest.mark.parametrize("role", ROLES)
def test_runs_are_touched_by_those_who_need_to(stack: Stack, role: str) -> None:
    table = stack.attribute("Runs", "Arn")
    calls = ("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan", "BatchWriteItem")
    may = {call for call in calls if stack.allows(role, f"dynamodb:{call}", table)}
    assert may == RUNS.get(role, set())


ONE_OF_A_KIND: list[tuple[str, str, set[str]]] = [
    (
        "sns:Publish",
        "Failures",
        {"PrepareDataset", "StartTraining", "DeployEndpoint", "PromoteEndpoint", "ReportFailure"},
    ),
    ("sqs:SendMessage", "PictureQueue", {"PromoteEndpoint"}),
    ("batch:SubmitJob", "JobQueue", {"PrepareDataset"}),
    ("batch:SubmitJob", "JobDefinition", {"PrepareDataset"}),
    (
        "lambda:InvokeFunction",
        "ReportFailure",
        {"PrepareDataset", "StartTraining", "DeployEndpoint", "PromoteEndpoint"},
    ),
    ("lambda:InvokeFunction", "PromoteEndpoint", {"PromoteEndpoint", "Rollback"}),
    ("lambda:InvokeFunction", "Rollback", set()),
]


@pytest.mark.parametrize(("action", "target", "functions"), ONE_OF_A_KIND)
def test_who_may_notify_enqueue_submit_and_invoke(
    stack: Stack, action: str, target: str, functions: set[str]
) -> None:
    named = str(stack.ref(target))
    arn = named if named.startswith("arn:") else stack.attribute(target, "Arn")
    may = {role for role in ROLES if stack.allows(role, action, arn)}
    assert may == {f"{function}Role" for function in functions}


@pytest.mark.parametrize("role", ROLES)
def test_no_function_approves_a_model_itself(stack: Stack, role: str) -> None:
    arn = sagemaker("model-package", "droplens-cars/1")
    assert not stack.allows(role, "sagemaker:UpdateModelPackage", arn)


@pytest.mark.parametrize("revision", ["", ":1", ":27"])
def test_any_revision_of_the_packing_job_can_be_submitted(stack: Stack, revision: str) -> None:
    arn = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/droplens-batch-prep{revision}"
    assert stack.allows("PrepareDatasetRole", "batch:SubmitJob", arn)
    other = arn.replace("droplens-batch-prep", "other-job")
    assert not stack.allows("PrepareDatasetRole", "batch:SubmitJob", other)


def test_answers_are_announced_under_our_own_name_only(stack: Stack) -> None:
    bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"

    def may(source: str) -> bool:
        return stack.allows("ClassifyImageRole", "events:PutEvents", bus, events_source=source)

    assert may("droplens")
    assert not may("aws.s3")


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
    everywhere, packing = bucket["LifecycleConfiguration"]["Rules"]
    assert "Prefix" not in everywhere
    assert "NoncurrentVersionExpiration" in everywhere
    assert "AbortIncompleteMultipartUpload" in everywhere
    assert packing["Prefix"] == layout.PACKED
    assert packing["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    for rule in (everywhere, packing):
        assert rule["Status"] == "Enabled"
        assert "ExpirationInDays" not in rule


def test_the_bucket_takes_no_plain_http(stack: Stack) -> None:
    [policy] = stack.of_type("AWS::S3::BucketPolicy").values()
    [statement] = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Action"] == "s3:*"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    arn = stack.attribute("Bucket", "Arn")
    assert statement["Resource"] == [arn, f"{arn}/*"]


@pytest.mark.parametrize("name", ["Bucket", "Runs"])
def test_what_users_own_outlives_the_stack(stack: Stack, name: str) -> None:
    resource = stack.template["Resources"][name]
    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_every_store_is_encrypted(stack: Stack) -> None:
    for queue in stack.of_type("AWS::SQS::Queue").values():
        assert queue["SqsManagedSseEnabled"] is True
    for topic in stack.of_type("AWS::SNS::Topic").values():
        assert topic["KmsMasterKeyId"] == "alias/aws/sns"
    for table in stack.of_type("AWS::DynamoDB::Table").values():
        assert table["SSESpecification"] == {"SSEEnabled": True}


def test_nothing_comes_in_to_the_packing_jobs(stack: Stack) -> None:
    [group] = stack.of_type("AWS::EC2::SecurityGroup").values()
    assert "SecurityGroupIngress" not in group
    assert not stack.of_type("AWS::EC2::SecurityGroupIngress")
    assert [(rule["FromPort"], rule["ToPort"]) for rule in group["SecurityGroupEgress"]] == [
        (443, 443)
    ]


@pytest.mark.parametrize("role", ROLES)
def test_only_who_classifies_may_put_a_picture_off(stack: Stack, role: str) -> None:
    for queue in ("PictureQueue", "PictureDlq", "EventDlq"):
        may = stack.allows(role, "sqs:ChangeMessageVisibility", stack.attribute(queue, "Arn"))
        assert may == ((role, queue) == ("ClassifyImageRole", "PictureQueue"))

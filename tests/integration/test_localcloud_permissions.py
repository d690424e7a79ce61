"""With DROPLENS_AUTH=true the local cloud allows what a role's policies allow, and no more."""

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud import ACCOUNT, REGION, Cloud, eventually
from tests.support.localcloud_batch import Jobs
from tests.support.localcloud_sagemaker import SageMaker

JOBS = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:"
CALLER = """
import boto3, botocore.exceptions

def handler(event, context):
    try:
        client = boto3.client(event["service"])
        getattr(client, event["call"])(**event["parameters"])
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return "allowed"
"""


@pytest.fixture(scope="module")
def strict(new_cloud: Callable[[], Cloud]) -> Cloud:
    cloud = new_cloud()
    cloud.up(DROPLENS_AUTH="true")
    return cloud


def test_a_function_may_do_what_its_role_allows_and_no_more(strict: Cloud) -> None:
    bucket = strict.bucket("guarded")
    strict.function("caller", CALLER, Timeout=10)
    statements = [
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/in/*"},
        {
            "Effect": "Allow",
            "Action": ["sagemaker:DescribeEndpoint", "sagemaker:InvokeEndpoint"],
            "Resource": f"{JOBS}endpoint/ours-*",
        },
        {"Effect": "Allow", "Action": "batch:ListJobs", "Resource": "*"},
        {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "events:PutEvents",
            "Resource": "*",
            "Condition": {"StringEquals": {"events:source": "ours"}},
        },
    ]
    strict.client("iam").put_role_policy(
        RoleName="caller-role",
        PolicyName="p",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}),
    )
    # As in the template: whoever does not come by TLS is turned away, also from an own bucket.
    tls = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": f"arn:aws:s3:::{bucket}/*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [tls]})
    strict.client("s3").put_bucket_policy(Bucket=bucket, Policy=policy)
    Jobs(strict)

    def told(service: str, call: str, **parameters: Any) -> str:
        event = {"service": service, "call": call, "parameters": parameters}
        return str(strict.invoke("caller", event))

    assert told("s3", "put_object", Bucket=bucket, Key="in/a") == "allowed"
    assert told("s3", "put_object", Bucket=bucket, Key="out/a") == "AccessDenied"
    describe = {"service": "sagemaker", "call": "describe_endpoint"}
    assert told(**describe, EndpointName="ours-1") == "ValidationException"  # it does not exist
    assert told(**describe, EndpointName="theirs") == "AccessDeniedException"
    invoke = {"service": "sagemaker-runtime", "call": "invoke_endpoint", "Body": "x"}
    assert told(**invoke, EndpointName="ours-1") == "ValidationError"
    assert told(**invoke, EndpointName="theirs") == "AccessDeniedException"
    assert told("batch", "list_jobs", jobQueue="queue") == "allowed"
    url = strict.client("sqs").create_queue(QueueName="guarded")["QueueUrl"]
    entries = [{"Id": "1", "MessageBody": "m"}]
    assert told("sqs", "send_message_batch", QueueUrl=url, Entries=entries) == "allowed"
    assert told("sqs", "receive_message", QueueUrl=url).startswith("AccessDenied")
    entry = {"DetailType": "d", "Detail": "{}"}
    assert told("events", "put_events", Entries=[{**entry, "Source": "ours"}]) == "allowed"
    theirs = told("events", "put_events", Entries=[{**entry, "Source": "theirs"}])
    assert theirs == "AccessDeniedException"
    submit = {"jobName": "j", "jobQueue": "queue", "jobDefinition": "d"}
    assert told("batch", "submit_job", **submit) == "AccessDeniedException"


def test_a_person_moves_dead_letters_who_may_receive_delete_and_send_them(strict: Cloud) -> None:
    sqs, iam = strict.client("sqs"), strict.client("iam")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:"
    redrive = json.dumps({"deadLetterTargetArn": f"{arn}dead", "maxReceiveCount": 1})
    queue = sqs.create_queue(
        QueueName="alive", Attributes={"RedrivePolicy": redrive, "VisibilityTimeout": "0"}
    )["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="picture")
    for _ in range(2):
        sqs.receive_message(QueueUrl=queue)
    iam.create_user(UserName="person")
    key = iam.create_access_key(UserName="person")["AccessKey"]
    person = boto3.client(
        "sqs",
        endpoint_url=f"http://127.0.0.1:{strict.port}",
        region_name=REGION,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )
    statements = []
    for action, name in (
        ("StartMessageMoveTask", "dead"),
        ("ReceiveMessage", "dead"),
        ("DeleteMessage", "dead"),
        ("GetQueueAttributes", "dead"),
        ("SendMessage", "alive"),
    ):
        with pytest.raises(ClientError, match="not authorized"):
            person.start_message_move_task(SourceArn=f"{arn}dead")
        statements.append(
            {"Effect": "Allow", "Action": f"sqs:{action}", "Resource": f"{arn}{name}"}
        )
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        if len(statements) == 1:
            policy = iam.create_policy(PolicyName="moves", PolicyDocument=document)["Policy"]["Arn"]
            iam.attach_user_policy(UserName="person", PolicyArn=policy)
        else:
            iam.create_policy_version(PolicyArn=policy, PolicyDocument=document, SetAsDefault=True)
    person.start_message_move_task(SourceArn=f"{arn}dead")
    assert sqs.receive_message(QueueUrl=dead).get("Messages", []) == []


def test_a_job_that_may_not_read_its_data_fails_and_says_so(strict: Cloud) -> None:
    sagemaker = SageMaker(strict)
    job = sagemaker.trained(sagemaker.train("not-allowed"))
    assert job["TrainingJobStatus"] == "Failed"
    assert "AccessDenied" in job["FailureReason"]
    statement = {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{sagemaker.bucket}", f"arn:aws:s3:::{sagemaker.bucket}/*"],
    }
    strict.client("iam").put_role_policy(
        RoleName="sagemaker-role",
        PolicyName="data",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    assert sagemaker.trained(sagemaker.train("allowed"))["TrainingJobStatus"] == "Completed"
    eventually("its events", sagemaker.events)


def test_a_role_may_be_passed_only_by_who_is_allowed_to(strict: Cloud) -> None:
    strict.function("passer", CALLER, Timeout=10)
    role = strict.role("passed-role", "sagemaker.amazonaws.com")
    allowed = [{"Effect": "Allow", "Action": "sagemaker:*", "Resource": "*"}]

    def told(name: str, statements: list[dict[str, Any]]) -> str:
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        strict.client("iam").put_role_policy(
            RoleName="passer-role", PolicyName="p", PolicyDocument=document
        )
        model = {
            "ModelName": name,
            "ExecutionRoleArn": role,
            "PrimaryContainer": {"Image": "tiny-model"},
        }
        event = {"service": "sagemaker", "call": "create_model", "parameters": model}
        return str(strict.invoke("passer", event))

    assert told("m1", allowed) == "AccessDeniedException"
    passing = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role}
    condition = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    assert told("m2", [*allowed, {**passing, "Condition": condition}]) == "AccessDeniedException"
    condition = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    assert told("m3", [*allowed, {**passing, "Condition": condition}]) == "allowed"
    with pytest.raises(ClientError, match="already existing model"):
        strict.client("sagemaker").create_model(
            ModelName="m3", ExecutionRoleArn=role, PrimaryContainer={"Image": "tiny-model"}
        )


def test_a_new_policy_takes_its_time_and_the_old_one_counts_meanwhile(strict: Cloud) -> None:
    bucket = strict.bucket("slow-policies")
    strict.function("slow", CALLER, Timeout=10)

    def allow(prefix: str) -> None:
        resource = f"arn:aws:s3:::{bucket}/{prefix}/*"
        statement = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": resource}
        strict.client("iam").put_role_policy(
            RoleName="slow-role",
            PolicyName="p",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )

    def put(prefix: str) -> str:
        parameters = {"Bucket": bucket, "Key": f"{prefix}/a"}
        event = {"service": "s3", "call": "put_object", "parameters": parameters}
        return str(strict.invoke("slow", event))

    allow("old")
    assert put("old") == "allowed"
    assert strict.cli("faults", "--iam-delay", "4").returncode == 0
    time.sleep(1)
    allow("new")
    assert (put("old"), put("new")) == ("allowed", "AccessDenied")
    eventually("the new policy counts", lambda: put("new") == "allowed")
    assert put("old") == "AccessDenied"
    assert strict.cli("faults").returncode == 0

"""What the managed policies for people allow, call by call; everything else is denied.

Written as the tables of the roles are.
"""

from droplens.state.reviews import QUEUE_INDEX, SAMPLE_INDEX
from tests.infrastructure.roles import (
    ARTEFACT,
    ASKED,
    AT,
    CARD,
    CHECKPOINT,
    CORRECTION,
    CORRECTIONS_LIST,
    DATASET,
    JOB_DEFINITION,
    LIST,
    LOGS,
    PACKED,
    PICTURE,
    REPORT,
    RESULT,
    RUN,
    SOURCES,
    SUSPECTS,
    WITH_KEY,
    Call,
    calls,
    sagemaker,
    table,
)

STACK = f"arn:${{AWS::Partition}}:cloudformation:{AT}:stack/${{AWS::StackName}}/1a2b"
LISTED = f"${{Bucket.Arn}}/inference/cars/{RUN}/images/00000.jsonl.gz"
PEOPLE = ("OperatorPolicy", "ReviewerPolicy")

REVIEWER: list[Call] = table(
    calls("cloudformation:DescribeStacks", STACK),
    LIST,
    calls("s3:GetObject", PICTURE, RESULT, REPORT, CARD, PACKED, SUSPECTS, CORRECTION),
    calls("s3:GetObjectVersion", PICTURE),
    calls("s3:PutObject DeleteObject", CORRECTION),
    # status, and what is shown beside results
    calls("dynamodb:GetItem Query Scan", "${Runs.Arn}"),
    calls("sqs:GetQueueAttributes", "${PictureQueue.Arn}", "${PictureDlq.Arn}", "${EventDlq.Arn}"),
    calls("dynamodb:GetItem Query UpdateItem DeleteItem", "${Reviews.Arn}"),
    calls(
        "dynamodb:Query",
        f"${{Reviews.Arn}}/index/{QUEUE_INDEX}",
        f"${{Reviews.Arn}}/index/{SAMPLE_INDEX}",
    ),
)
MAY: dict[str, list[Call]] = {
    "ReviewerPolicy": REVIEWER,
    "OperatorPolicy": table(
        REVIEWER,
        # the progress of trainings
        calls("logs:DescribeLogStreams", f"{LOGS}/aws/sagemaker/TrainingJobs:*"),
        calls(
            "logs:GetLogEvents",
            f"{LOGS}/aws/sagemaker/TrainingJobs:log-stream:${{AWS::StackName}}--cars-{RUN}/algo-1",
        ),
        # redrive
        calls("sqs:StartMessageMoveTask ReceiveMessage DeleteMessage", "${PictureDlq.Arn}"),
        calls("sqs:SendMessage", "${PictureQueue.Arn}"),
        # rollback, resume, pause
        calls(
            "lambda:InvokeFunction", "${Rollback.Arn}", "${ResumeRuns.Arn}", "${PauseEndpoint.Arn}"
        ),
        # approve
        calls(
            "sagemaker:ListModelPackages DescribeModelPackage UpdateModelPackage",
            *sagemaker("model-package"),
        ),
        # class maps
        calls("sagemaker:InvokeEndpoint", *sagemaker("endpoint")),
        # upload, classify
        calls("s3:PutObject AbortMultipartUpload", DATASET, PICTURE),
        calls("s3:GetObject", DATASET),
        # classify --prefix, and what forget rewrites of it
        calls("s3:GetObject PutObject", LISTED),
        # forget
        calls(
            "s3:GetObjectVersion DeleteObject DeleteObjectVersion",
            PICTURE,
            RESULT,
            REPORT,
            CORRECTION,
            PACKED,
            DATASET,
            LISTED,
        ),
        calls("s3:ListBucketVersions", "${Bucket.Arn}"),
    ),
}

# Similar calls, denied to people: no table has them.
NOBODY_MAY: list[Call] = table(
    # The template, the code and the permissions of what it makes.
    calls("cloudformation:UpdateStack DeleteStack CreateChangeSet GetTemplate", STACK),
    calls("cloudformation:DescribeStacks", STACK.replace("${AWS::StackName}", "another")),
    calls(
        "lambda:UpdateFunctionCode UpdateFunctionConfiguration AddPermission",
        "${ClassifyImage.Arn}",
    ),
    calls("lambda:InvokeFunction", "${PromoteEndpoint.Arn}", "${BuildImages.Arn}"),
    calls(
        "iam:AttachRolePolicy PutRolePolicy UpdateAssumeRolePolicy PassRole",
        "${ClassifyImageRole.Arn}",
    ),
    calls("iam:PassRole", "${TrainingRole.Arn}", iam_PassedToService="sagemaker.amazonaws.com"),
    calls("iam:CreatePolicyVersion SetDefaultPolicyVersion", "${ReviewerPolicy}"),
    calls(
        "s3:PutBucketPolicy PutLifecycleConfiguration PutBucketVersioning DeleteBucket",
        "${Bucket.Arn}",
    ),
    # What only the stack's own functions write.
    calls("s3:PutObject", RESULT, REPORT, PACKED, CORRECTIONS_LIST, CARD, ARTEFACT, SOURCES, ASKED),
    calls("s3:DeleteObject DeleteObjectVersion", CARD, ARTEFACT, CHECKPOINT, SOURCES),
    calls("s3:GetObject", ARTEFACT, SOURCES, "${Bucket.Arn}/elsewhere/a"),
    calls("dynamodb:PutItem UpdateItem DeleteItem BatchWriteItem DeleteTable", "${Runs.Arn}"),
    calls(
        "sqs:PurgeQueue SetQueueAttributes DeleteQueue", "${PictureQueue.Arn}", "${PictureDlq.Arn}"
    ),
    calls("sqs:ReceiveMessage", "${PictureQueue.Arn}", "${EventDlq.Arn}"),
    calls("sqs:SendMessage", "${PictureDlq.Arn}"),
    calls(
        "sagemaker:CreateEndpoint DeleteEndpoint UpdateEndpoint DeleteModel",
        *sagemaker("endpoint", "model"),
    ),
    calls("sagemaker:CreateTrainingJob StopTrainingJob", *sagemaker("training-job")),
    calls("sagemaker:DeleteModelPackage CreateModelPackage", *sagemaker("model-package")),
    calls("sns:Publish Subscribe", "${Failures}"),
    calls("batch:SubmitJob", "${JobQueue}", JOB_DEFINITION),
    calls("dynamodb:PutItem Scan BatchWriteItem DeleteTable", "${Reviews.Arn}"),
    calls(
        "logs:GetLogEvents",
        f"{LOGS}/aws/sagemaker/TrainingJobs:log-stream:other--cars-{RUN}/algo-1",
    ),
    calls("logs:FilterLogEvents", "${ClassifyImageLogs.Arn}"),
    calls("s3:ListBucket", "arn:${AWS::Partition}:s3:::another-bucket"),
)


def mine(policy: str, with_key: bool) -> list[Call]:
    """The policy's whole table."""
    return [*MAY[policy], *(WITH_KEY if with_key else [])]

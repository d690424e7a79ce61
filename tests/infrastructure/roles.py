"""What each role may do, call by call; everything else is denied.

Resources are written as the template's `!Sub` writes them. A row stands for each of its actions on
each of its resources, and every action and resource of every statement needs a row that uses it.
"""

from dataclasses import dataclass, field
from itertools import product

from droplens.journey.train import builtin_accounts
from droplens.state.reviews import SAMPLE_INDEX
from droplens.state.runs import ATTENTION
from tests.support.expanded_template import Stack, applies, listed

RUN = "20261122-120000-1a2b3c"
AT = "${AWS::Region}:${AWS::AccountId}"
SAGEMAKER = f"arn:${{AWS::Partition}}:sagemaker:{AT}:"
LOGS = f"arn:${{AWS::Partition}}:logs:{AT}:log-group:"
JOB_DEFINITION = f"arn:${{AWS::Partition}}:batch:{AT}:job-definition/${{AWS::StackName}}-batch-prep"
BUILTIN_IMAGES = [
    f"arn:${{AWS::Partition}}:ecr:${{AWS::Region}}:{account}:repository/image-classification"
    for account in sorted(set(builtin_accounts().values()))
]
# One object of each prefix.
DATASET = "${Bucket.Arn}/datasets/cars/labels.csv"
CORRECTION = "${Bucket.Arn}/corrections/cars/audi/a.jpg"
CORRECTIONS_LIST = f"${{Bucket.Arn}}/packed/cars/{RUN}/corrections.jsonl"
PICTURE = "${Bucket.Arn}/input/cars/a.jpg"
RESULT = "${Bucket.Arn}/results/cars/a.jpg.json"
PACKED = f"${{Bucket.Arn}}/packed/cars/{RUN}/train/train.rec"
SHARD = f"${{Bucket.Arn}}/packed/cars/{RUN}/work/0-of-4/train.rec"
SUSPECTS = f"${{Bucket.Arn}}/packed/cars/{RUN}/suspects.jsonl"
FAILURE = f"${{Bucket.Arn}}/packed/cars/{RUN}/failure.json"
ARTEFACT = f"${{Bucket.Arn}}/training/cars/{RUN}/job/output/model.tar.gz"
MODEL = f"${{Bucket.Arn}}/training/cars/{RUN}/job/output/model.onnx"
CHECKPOINT = f"${{Bucket.Arn}}/training/cars/{RUN}/checkpoints/checkpoint.pt"
CARD = "${Bucket.Arn}/models/cars/live.json"
SOURCES = "${Bucket.Arn}/build/batch-prep/1a2b3c.zip"
ASKED = "${Bucket.Arn}/build/asked/1a2b3c.json"
REPORT = f"${{Bucket.Arn}}/reports/cars/{RUN}/evaluation.json"


@dataclass(frozen=True)
class Call:
    """One action on one resource, with the condition keys that AWS would send."""

    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.action} {self.resource} {self.context or ''}".rstrip()

    def allowed(self, stack: Stack, role: str, of: Stack | None = None) -> bool:
        """Whether the role of `stack` may make it, on resources `of` that stack or another."""
        return stack.allows(role, self.action, self.on(of or stack), **self.seen(stack))

    def on(self, stack: Stack) -> str:
        """The resource, of this stack."""
        return str(stack.resolve({"Fn::Sub": self.resource}))

    def seen(self, stack: Stack) -> dict[str, str]:
        """The condition keys, with "_" for ":"."""
        return {
            key.replace(":", "_"): str(stack.resolve({"Fn::Sub": value}))
            for key, value in self.context.items()
        }


def calls(actions: str, *resources: str, **context: str) -> list[Call]:
    """A row: actions divided by spaces, of the first one's service unless they name their own."""
    service = actions.partition(":")[0]
    given = {key.replace("_", ":", 1): value for key, value in context.items()}
    return [
        Call(action if ":" in action else f"{service}:{action}", resource, given)
        for action, resource in product(actions.split(), resources)
    ]


def sagemaker(*kinds: str) -> list[str]:
    """Resources of this run or classifier, of these kinds."""
    ends = {"model-package-group": "cars", "model-package": "cars/1"}
    return [
        f"{SAGEMAKER}{kind}/${{AWS::StackName}}--{ends.get(kind, f'cars-{RUN}')}" for kind in kinds
    ]


def table(*rows: list[Call]) -> list[Call]:
    return [call for row in rows for call in row]


LIST = calls("s3:ListBucket", "${Bucket.Arn}")
NOTIFY = calls("sns:Publish", "${Failures}")
ON_FAILURE = calls("lambda:InvokeFunction", "${ReportFailure.Arn}")
FOR_SAGEMAKER = "sagemaker.amazonaws.com"
LEND_FOR_TRAINING = calls("iam:PassRole", "${TrainingRole.Arn}", iam_PassedToService=FOR_SAGEMAKER)
LEND = calls("iam:PassRole", "${ServingRole.Arn}", iam_PassedToService=FOR_SAGEMAKER)
HOST = table(
    calls("sagemaker:CreateModel DescribeModel AddTags", *sagemaker("model")),
    calls(
        "sagemaker:CreateEndpointConfig DescribeEndpointConfig CreateEndpoint AddTags",
        *sagemaker("endpoint-config"),
    ),
    calls("sagemaker:CreateEndpoint DescribeEndpoint AddTags", *sagemaker("endpoint")),
)
REMOVE = table(
    calls("sagemaker:DeleteModel", *sagemaker("model")),
    calls("sagemaker:DeleteEndpointConfig", *sagemaker("endpoint-config")),
    calls("sagemaker:DeleteEndpoint DescribeEndpoint", *sagemaker("endpoint")),
)
OF_WHICH_RUN = calls("sagemaker:ListTags", *sagemaker("endpoint"))
FETCH_IMAGE = "ecr:BatchCheckLayerAvailability GetDownloadUrlForLayer BatchGetImage"

METRICS = table(
    calls("cloudwatch:PutMetricData", "*", cloudwatch_namespace="/aws/sagemaker/Endpoints"),
    calls("cloudwatch:PutMetricData", "*", cloudwatch_namespace="aws/sagemaker/Endpoints"),
)


def update(*attributes: str, **more: str) -> list[Call]:
    """An update of a run's item that names these attributes and its key."""
    named = " ".join(("classifier", "run_id", *attributes))
    return calls("dynamodb:UpdateItem", "${Runs.Arn}", dynamodb_Attributes=named, **more)


MAY: dict[str, list[Call]] = {
    "BuildImagesRole": table(
        calls(
            "s3:PutObject DeleteObjectVersion",
            SOURCES,
            SOURCES.replace("batch-prep", "trainer"),
            ASKED,
        ),
        calls("s3:GetObject", ASKED),
        LIST,
        calls("s3:ListBucketVersions", "${Bucket.Arn}"),
        calls("logs:CreateLogStream PutLogEvents", "${BuildImagesLogs.Arn}"),
        calls("codebuild:StartBuild", "${ImageBuilds.Arn}"),
        calls("ecr:DescribeImages", "${BatchPrepImages.Arn}", "${TrainerImages.Arn}"),
        calls("logs:GetLogEvents", "${ImageBuildLogs.Arn}"),
        calls("sqs:SendMessage", "${EventDlq.Arn}"),
    ),
    "ImageBuildRole": table(
        calls("s3:GetObject GetObjectVersion", SOURCES, SOURCES.replace("batch-prep", "trainer")),
        calls("logs:CreateLogStream PutLogEvents", "${ImageBuildLogs.Arn}"),
        calls("ecr:GetAuthorizationToken", "*"),
        calls(
            f"{FETCH_IMAGE} PutImage InitiateLayerUpload UploadLayerPart CompleteLayerUpload",
            "${BatchPrepImages.Arn}",
            "${TrainerImages.Arn}",
        ),
    ),
    "PrepareDatasetRole": table(
        calls("s3:GetObject GetObjectVersion", DATASET),
        LIST,
        calls("s3:GetObject PutObject", CORRECTIONS_LIST),
        calls("dynamodb:GetItem PutItem Query UpdateItem", "${Runs.Arn}"),
        calls("batch:SubmitJob", "${JobQueue}", JOB_DEFINITION, f"{JOB_DEFINITION}:27"),
        calls("batch:ListJobs", "*"),
        NOTIFY,
        ON_FAILURE,
    ),
    "PackingRole": table(
        calls("s3:GetObject GetObjectVersion", DATASET, CORRECTION),
        # Shards are joined by copies, which read their source and write their target.
        calls(
            "s3:GetObject GetObjectVersion PutObject AbortMultipartUpload", PACKED, CORRECTIONS_LIST
        ),
        calls("s3:PutObject", SUSPECTS),
        calls("s3:DeleteObject", SHARD, FAILURE),
        LIST,
        update("progress"),
        update("shards"),
        update("shards", dynamodb_ReturnValues="UPDATED_NEW"),
    ),
    "PackingExecutionRole": table(
        calls("ecr:GetAuthorizationToken", "*"),
        calls(FETCH_IMAGE, "${BatchPrepImages.Arn}"),
        calls("logs:CreateLogStream PutLogEvents", "${PackingLogs.Arn}"),
    ),
    "StartTrainingRole": table(
        calls("s3:GetObject", PACKED, CORRECTIONS_LIST),
        LIST,
        calls("dynamodb:GetItem UpdateItem", "${Runs.Arn}"),
        calls("sagemaker:CreateTrainingJob AddTags", *sagemaker("training-job")),
        LEND_FOR_TRAINING,
        NOTIFY,
        ON_FAILURE,
    ),
    "TrainingRole": table(
        calls("s3:GetObject", PACKED, CORRECTIONS_LIST),
        calls(
            "s3:GetObject PutObject AbortMultipartUpload",
            ARTEFACT,
            MODEL,
            CHECKPOINT,
        ),
        calls("s3:DeleteObject", CHECKPOINT),
        LIST,
        METRICS,
        calls("ecr:GetAuthorizationToken", "*"),
        calls(FETCH_IMAGE, "${TrainerImages.Arn}", *BUILTIN_IMAGES),
        calls(
            "logs:CreateLogGroup CreateLogStream DescribeLogStreams",
            f"{LOGS}/aws/sagemaker/TrainingJobs:*",
        ),
        calls(
            "logs:PutLogEvents",
            f"{LOGS}/aws/sagemaker/TrainingJobs:log-stream:${{AWS::StackName}}--cars-{RUN}/algo-1",
        ),
    ),
    "ServingRole": table(
        calls("s3:GetObject", ARTEFACT),
        LIST,
        METRICS,
        calls("ecr:GetAuthorizationToken", "*"),
        calls(FETCH_IMAGE, "${TrainerImages.Arn}", *BUILTIN_IMAGES),
        calls(
            "logs:CreateLogGroup CreateLogStream DescribeLogStreams",
            f"{LOGS}/aws/sagemaker/Endpoints/${{AWS::StackName}}--cars-{RUN}:*",
        ),
        calls(
            "logs:PutLogEvents",
            f"{LOGS}/aws/sagemaker/Endpoints/${{AWS::StackName}}--cars-{RUN}:log-stream:main/i-1",
        ),
    ),
    "DeployEndpointRole": table(
        calls("dynamodb:GetItem UpdateItem", "${Runs.Arn}"),
        calls("sagemaker:DescribeTrainingJob ListTags", *sagemaker("training-job")),
        HOST,
        LEND,
        calls("s3:GetObject", ARTEFACT),
        calls("s3:PutObject", MODEL),
        LIST,
        calls("lambda:InvokeFunction", "${PromoteEndpoint.Arn}"),
        NOTIFY,
        ON_FAILURE,
    ),
    "PromoteEndpointRole": table(
        calls(
            "s3:GetObject",
            PACKED,
            CORRECTIONS_LIST,
            CARD,
            REPORT,
            ARTEFACT,
            MODEL,
            RESULT,
        ),
        calls(
            "s3:PutObject",
            CARD,
            REPORT,
            SUSPECTS,
        ),
        LIST,
        calls("dynamodb:GetItem UpdateItem Query", "${Runs.Arn}"),
        calls("sqs:SendMessage", "${PictureQueue.Arn}"),
        calls("lambda:InvokeFunction", "${PromoteEndpoint.Arn}"),
        calls(
            "sagemaker:CreateModelPackageGroup DescribeModelPackageGroup CreateModelPackage",
            *sagemaker("model-package-group"),
        ),
        calls("sagemaker:CreateModelPackage DescribeModelPackage", *sagemaker("model-package")),
        calls("ecr:BatchGetImage DescribeImages", "${TrainerImages.Arn}"),
        calls("sagemaker:InvokeEndpoint", *sagemaker("endpoint")),
        REMOVE,
        OF_WHICH_RUN,
        NOTIFY,
        ON_FAILURE,
    ),
    "RollbackRole": table(
        calls("s3:GetObject PutObject", CARD),
        LIST,
        calls("dynamodb:GetItem UpdateItem Query", "${Runs.Arn}"),
        HOST,
        REMOVE,
        LEND,
        calls("lambda:InvokeFunction", "${PromoteEndpoint.Arn}"),
    ),
    "ResumeRunsRole": table(
        calls("dynamodb:Query", f"${{Runs.Arn}}/index/{ATTENTION}"),
        calls("dynamodb:GetItem UpdateItem Query", "${Runs.Arn}"),
        calls("dynamodb:Query", f"${{Reviews.Arn}}/index/{SAMPLE_INDEX}"),
        calls("s3:GetObject", CARD),
        LIST,
        calls("lambda:InvokeFunction", "${StartTraining.Arn}", "${DeployEndpoint.Arn}"),
        REMOVE,
        NOTIFY,
        calls("sqs:SendMessage", "${EventDlq.Arn}"),
    ),
    "PauseEndpointRole": table(
        calls("s3:GetObject", CARD),
        LIST,
        calls("cloudwatch:GetMetricStatistics", "*"),
        calls("sagemaker:DescribeEndpointConfig CreateEndpoint", *sagemaker("endpoint-config")),
        calls(
            "sagemaker:CreateEndpoint DescribeEndpoint DeleteEndpoint AddTags",
            *sagemaker("endpoint"),
        ),
        calls("sqs:SendMessage", "${EventDlq.Arn}"),
    ),
    "ClassifyImageRole": table(
        calls(
            "s3:GetObject",
            PICTURE,
            CARD,
            MODEL,
            RESULT,
        ),
        calls("s3:PutObject DeleteObject", RESULT),
        LIST,
        calls("dynamodb:Query", "${Runs.Arn}"),
        calls("dynamodb:PutItem", "${Reviews.Arn}"),
        calls("sagemaker:InvokeEndpoint", *sagemaker("endpoint")),
        calls(
            "sqs:ReceiveMessage DeleteMessage GetQueueAttributes ChangeMessageVisibility",
            "${PictureQueue.Arn}",
        ),
        calls(
            "events:PutEvents",
            f"arn:${{AWS::Partition}}:events:{AT}:event-bus/default",
            events_source="droplens",
        ),
    ),
    "ReportFailureRole": table(
        calls("s3:GetObject", PACKED, CORRECTIONS_LIST, CARD),
        calls("s3:DeleteObject", SHARD),
        LIST,
        calls("dynamodb:GetItem UpdateItem Query", "${Runs.Arn}"),
        calls("sagemaker:DescribeTrainingJob ListTags", *sagemaker("training-job")),
        calls("sagemaker:DescribeModelPackage", *sagemaker("model-package")),
        REMOVE,
        OF_WHICH_RUN,
        calls("batch:ListJobs", "*"),
        NOTIFY,
        calls("sqs:SendMessage", "${EventDlq.Arn}"),
    ),
}

# Similar calls, denied to every role: no table has them.
NOBODY_MAY: list[Call] = table(
    # Writes that would invoke a function.
    calls("s3:PutObject", "${Bucket.Arn}/datasets/cars/_READY", PICTURE),
    calls("s3:PutObject GetObject", "${Bucket.Arn}/elsewhere/a"),
    calls("s3:DeleteObject", PACKED, CARD, ARTEFACT, "${Bucket.Arn}/datasets/cars/work/a.jpg"),
    calls("s3:DeleteObjectVersion", SHARD),
    calls("s3:PutBucketPolicy DeleteBucket PutBucketNotification", "${Bucket.Arn}"),
    calls("dynamodb:DeleteItem Scan BatchWriteItem DeleteTable", "${Runs.Arn}", "${Reviews.Arn}"),
    # Only a person decides.
    calls("dynamodb:GetItem UpdateItem", "${Reviews.Arn}"),
    calls("batch:SubmitJob", f"arn:${{AWS::Partition}}:batch:{AT}:job-queue/other"),
    calls("batch:SubmitJob", f"arn:${{AWS::Partition}}:batch:{AT}:job-definition/other:1"),
    calls("batch:TerminateJob", f"arn:${{AWS::Partition}}:batch:{AT}:job/1a2b"),
    *(
        table(
            calls("iam:PassRole", role, iam_PassedToService="lambda.amazonaws.com"),
            calls("iam:PassRole", role),
        )
        for role in ("${TrainingRole.Arn}", "${ServingRole.Arn}")
    ),
    calls(
        "iam:PassRole",
        "${PackingRole.Arn}",
        "${RollbackRole.Arn}",
        iam_PassedToService="sagemaker.amazonaws.com",
    ),
    calls("iam:PassRole", "${PackingRole.Arn}", iam_PassedToService="ecs-tasks.amazonaws.com"),
    calls("sagemaker:StopTrainingJob", *sagemaker("training-job")),
    calls("sagemaker:UpdateEndpoint", *sagemaker("endpoint")),
    # Only a person approves a model.
    calls("sagemaker:UpdateModelPackage", *sagemaker("model-package")),
    calls("sagemaker:InvokeEndpoint", f"{SAGEMAKER}endpoint/other-cars"),
    calls("cloudwatch:PutMetricData", "*", cloudwatch_namespace="Billing"),
    calls("cloudwatch:PutMetricData", "*"),
    calls("logs:PutLogEvents", f"{LOGS}/aws/sagemaker/TrainingJobs:log-stream:other/algo-1"),
    calls("ecr:BatchGetImage", f"arn:${{AWS::Partition}}:ecr:{AT}:repository/other"),
    # Another account may name a repository as AWS does.
    calls(
        FETCH_IMAGE,
        "arn:${AWS::Partition}:ecr:${AWS::Region}:999999999999:repository/image-classification",
        f"arn:${{AWS::Partition}}:ecr:{AT}:repository/image-classification",
    ),
    calls(
        FETCH_IMAGE,
        "arn:${AWS::Partition}:ecr:${AWS::Region}:999999999999:repository/${AWS::StackName}/trainer",
    ),
    # A model archive in another bucket is out of reach, whatever its key.
    calls(
        "s3:GetObject PutObject",
        f"arn:${{AWS::Partition}}:s3:::another-bucket/training/cars/{RUN}/job/output/model.tar.gz",
    ),
    calls("s3:ListBucket", "arn:${AWS::Partition}:s3:::another-bucket"),
    calls(
        "events:PutEvents",
        f"arn:${{AWS::Partition}}:events:{AT}:event-bus/default",
        events_source="aws.s3",
    ),
    calls("sqs:SendMessage", "${PictureDlq.Arn}"),
    calls("sqs:ReceiveMessage DeleteMessage", "${PictureDlq.Arn}", "${EventDlq.Arn}"),
    calls("lambda:InvokeFunction", "${Rollback.Arn}", "${ClassifyImage.Arn}", "${ResumeRuns.Arn}"),
)

KEY = "arn:aws:kms:us-east-1:123456789012:key/1a2b3c4d-0000-4000-8000-123456789abc"
SERVICES_OF_THE_KEY = ("s3", "dynamodb", "sqs", "sns")
# With KmsKeyArn, for every role that uses an encrypted resource.
WITH_KEY: list[Call] = table(
    *(
        calls(
            "kms:Decrypt GenerateDataKey",
            "${KmsKeyArn}",
            kms_ViaService=f"{service}.${{AWS::Region}}.${{AWS::URLSuffix}}",
        )
        for service in SERVICES_OF_THE_KEY
    )
)
# Of these, some do more with it.
LEND_KEY = calls("kms:CreateGrant", "${KmsKeyArn}", kms_GrantIsForAWSResource="true")
MORE_WITH_KEY: dict[str, list[Call]] = {
    "TrainingRole": table(calls("kms:Encrypt", "${KmsKeyArn}"), LEND_KEY),
    "DeployEndpointRole": LEND_KEY,
    "RollbackRole": LEND_KEY,
    "PauseEndpointRole": LEND_KEY,
}
NOBODY_MAY_WITH_KEY: list[Call] = table(
    calls("kms:Decrypt GenerateDataKey CreateGrant", "${KmsKeyArn}"),
    calls("kms:CreateGrant", "${KmsKeyArn}", kms_GrantIsForAWSResource="false"),
    calls(
        "kms:Decrypt",
        "${KmsKeyArn}",
        kms_ViaService="secretsmanager.${AWS::Region}.${AWS::URLSuffix}",
    ),
    calls(
        "kms:Decrypt",
        f"arn:${{AWS::Partition}}:kms:{AT}:key/another",
        kms_ViaService="s3.${AWS::Region}.${AWS::URLSuffix}",
    ),
    calls("kms:PutKeyPolicy ScheduleKeyDeletion", "${KmsKeyArn}"),
)


def mine(role: str, with_key: bool) -> list[Call]:
    """The role's whole table. With a key, whoever has a row of one of its services uses it."""
    rows = list(MAY.get(role, []))
    if with_key and any(call.action.partition(":")[0] in SERVICES_OF_THE_KEY for call in rows):
        rows += [*WITH_KEY, *MORE_WITH_KEY.get(role, [])]
    return rows


def unused(stack: Stack, role: str, rows: list[Call]) -> list[tuple[str, str]]:
    """The actions and resources of the role's statements that no row needs."""
    left = []
    for statement in stack.statements(role):
        for part in ("Action", "Resource"):
            for one in listed(statement[part]):
                alone = {**statement, part: one}
                if not any(
                    applies(alone, call.action, call.on(stack), call.seen(stack)) for call in rows
                ):
                    left.append((part, one))
    return left

"""What a person can do about a run that failed, was refused or waits."""

from dataclasses import dataclass

from droplens.domain.run import Run, Stage, Status


@dataclass(frozen=True, slots=True)
class Advice:
    """steps: what to do, the most likely first; page: of the documents, "" for none."""

    steps: tuple[str, ...]
    page: str = ""


_READY = "Then put datasets/<classifier>/_READY there again, or upload the dataset again."
_RUNBOOK = "docs/operations.md"
# By the longest beginning of an error's code.
_BY_CODE = {
    "accuracy.too_low": Advice(
        (
            "Look at the report: which classes are confused, and which have few pictures.",
            "Add pictures to those, correct wrong labels, and upload the dataset again.",
            "Or ask for less, by the parameters MinimumAccuracy and AccuracyConfidence.",
        ),
        "docs/models.md",
    ),
    "accuracy.worse_than_live": Advice(
        (
            "The live model stays. Compare the two on the page Models.",
            "Look for what has changed in the dataset: fewer pictures, or wrong labels.",
        ),
        "docs/models.md",
    ),
    "account.quota": Advice(
        (
            "Ask for a larger quota in the Service Quotas console; the reason names it.",
            "Or deploy with another instance type. The run is retried by itself while it waits.",
        ),
        f"{_RUNBOOK}, A run that waits",
    ),
    "approval.rejected": Advice(("A person rejected the model. A new dataset trains another.",)),
    "aws.capacity": Advice(
        ("Wait: the run is retried by itself.", "Or deploy with another instance type."),
        f"{_RUNBOOK}, A run that waits",
    ),
    "corrections": Advice(
        ("Look at corrections/<classifier>/ in the bucket, and remove what the reason names.",),
        "docs/datasets.md, Corrections",
    ),
    "dataset": Advice(("Change the dataset as the reason says.", _READY), "docs/datasets.md"),
    "endpoint": Advice(
        (
            "Retry the run: its training is finished, and is not repeated.",
            "If it fails again, look at the endpoint's log in CloudWatch.",
        ),
        f"{_RUNBOOK}, RunsFail",
    ),
    "function.failed": Advice(
        (
            "This is an internal error: the function's log in CloudWatch has its trace.",
            "Retry the run where it can be; else upload the dataset again.",
        ),
        f"{_RUNBOOK}, RunsFail",
    ),
    "packing.dataset": Advice(
        ("Change the dataset as the reason says.", _READY), "docs/datasets.md"
    ),
    "packing": Advice(
        (
            "The reason is AWS Batch's own; the job's log in CloudWatch has more.",
            "Where memory was short, deploy with a larger PackingMemoryMiB.",
            _READY,
        ),
        f"{_RUNBOOK}, RunsFail",
    ),
    "promotion.unfinished": Advice(
        ("The model is live. Look at the function's log in CloudWatch for what was not finished.",),
        f"{_RUNBOOK}, RunsFail",
    ),
    "training.stopped": Advice(
        ("Deploy with a larger MaxTrainingMinutes, or without UseSpot, then retry the run.",),
        f"{_RUNBOOK}, TrainingTakesLong",
    ),
    "training": Advice(
        (
            "Where the reason names a parameter, deploy with another value.",
            "The training job's log in CloudWatch has more.",
            "Retry the run where it can be; else upload the dataset again.",
        ),
        f"{_RUNBOOK}, RunsFail",
    ),
}
_UNKNOWN = Advice(
    ("Look at the reason, and at the logs in CloudWatch of what it names.",),
    f"{_RUNBOOK}, RunsFail",
)
# Stages of a failed run that resume_runs may repeat.
_RESUMED = {Stage.TRAIN.value, Stage.DEPLOY.value}


def advice(run: Run) -> Advice | None:
    """What to do about a run; None where nothing went wrong."""
    if run.status is Status.WAITING:
        code = str(run.waits_for.get("code", ""))
    elif run.status in (Status.FAILED, Status.REFUSED) or run.error:
        code = str(run.error.get("code", ""))
    else:
        return None
    parts = code.split(".")
    beginnings = (".".join(parts[:most]) for most in range(len(parts), 0, -1))
    return next((_BY_CODE[one] for one in beginnings if one in _BY_CODE), _UNKNOWN)


def may_resume(run: Run) -> bool:
    """Whether to offer a retry now; resume_runs decides whether it can be."""
    if run.status is Status.WAITING:
        return True
    return run.status is Status.FAILED and run.error.get("stage") in _RESUMED

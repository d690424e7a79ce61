"""A training job's progress and figures, from its lines in CloudWatch Logs."""

import re
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from droplens.domain.figures import percent

if TYPE_CHECKING:
    from types_boto3_logs.client import CloudWatchLogsClient as LogsClient
    from types_boto3_logs.type_defs import GetLogEventsRequestTypeDef

GROUP = "/aws/sagemaker/TrainingJobs"
_FEATURES = re.compile(r"features channel=(\w+) done=(\d+) total=(\d+)")
# Calibrating and timing an int8 variant takes seconds in which nothing else is logged.
_INT8 = re.compile(r"\b(trying)? ?int8(?: kept| dropped|:)")
_TRIES_INT8 = "trying whether an 8-bit variant answers as well and faster"
# As the built-in algorithm writes it, and our own trainer after it.
_ACCURACY = re.compile(r"Epoch\[(\d{1,6})\].*?(Train|Validation)-accuracy=([0-9.]{1,20})")
# Pages of the log that one `look` reads at most.
_MOST_PAGES = 20


class TrainingLog:
    """One job's log, read from where the last read ended. Not thread-safe.

    done, total: images of the step that is under way, None where that is not known. epochs: the
    accuracies by epoch, each by "train" and "validation".
    """

    def __init__(self, logs: "LogsClient", job: str) -> None:
        self._logs, self._job = logs, job
        self._stream, self._token = "", ""
        self.done: int | None = None
        self.total: int | None = None
        self.epochs: dict[int, dict[str, float]] = {}
        self._reading = ""
        self._accuracies: dict[str, float] = {}
        self._tries_int8 = False

    @property
    def said(self) -> str:
        """The latest figures in words, e.g. "accuracy 99.1 % train, 95.3 % validation"."""
        shares = (f"{percent(share)} {name}" for name, share in self._accuracies.items())
        told = f"accuracy {', '.join(shares)}" if self._accuracies else self._reading
        return f"{told}; {_TRIES_INT8}" if self._tries_int8 else told

    def look(self) -> None:
        """Read the new lines, and store their progress and accuracies."""
        try:
            if not self._stream:
                streams = self._logs.describe_log_streams(
                    logGroupName=GROUP, logStreamNamePrefix=self._job
                )["logStreams"]
                if not streams:
                    return
                self._stream = streams[0]["logStreamName"]
            for _ in range(_MOST_PAGES):
                if not self._read_page():
                    return
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return  # the job has not logged anything yet

    def _read_page(self) -> bool:
        """Read the next page; False where there was none: the token of the last page repeats.

        https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html
        """
        request: GetLogEventsRequestTypeDef = {
            "logGroupName": GROUP,
            "logStreamName": self._stream,
            "startFromHead": True,
        }
        if self._token:
            request["nextToken"] = self._token
        page = self._logs.get_log_events(**request)
        for event in page["events"]:
            self._take(event["message"])
        before, self._token = self._token, page["nextForwardToken"]
        return self._token != before and bool(page["events"])

    def _take(self, line: str) -> None:
        if features := _FEATURES.search(line):
            self._reading = f"features of the {features[1]} pictures"
            self.done, self.total = int(features[2]), int(features[3])
        elif tried := _INT8.search(line):
            self._tries_int8 = tried[1] == "trying"
        elif accuracy := _ACCURACY.search(line):
            self.done = self.total = None
            channel, share = accuracy[2].lower(), _share(accuracy[3])
            if share is not None:
                self._accuracies[channel] = share
                self.epochs.setdefault(int(accuracy[1]), {})[channel] = share


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None

"""Have the pictures that were given up tried again: from the dead-letter queue back to their own.

    python -m tools.redrive             # in the cloud that the environment names: the local one
    python -m tools.redrive CONFIG      # in the account and stack whose answers sam saved there

SQS moves them in the background, each as a new message with all its tries ahead of it.
"""

import sys
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.account import Saved, explained

LOCAL_STACK = "droplens"


def redrive(session: Any, stack: str) -> int:
    """Start to move what is in the stack's dead-letter queue of pictures; returns how many."""
    (described,) = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    sqs = session.client("sqs")
    attributes = sqs.get_queue_attributes(
        QueueUrl=outputs["PictureDlqUrl"],
        AttributeNames=["QueueArn", "ApproximateNumberOfMessages"],
    )["Attributes"]
    waiting = int(attributes["ApproximateNumberOfMessages"])
    if waiting:
        sqs.start_message_move_task(SourceArn=attributes["QueueArn"])
    return waiting


def main() -> None:
    """Run the command line."""
    options: dict[str, Any] = {}
    match sys.argv[1:]:
        case []:
            stack = LOCAL_STACK
        case [config]:
            saved = Saved(Path(config))
            if saved.stack is None:
                raise SystemExit(f"{config} names no stack: make deploy saves its answers there")
            stack, options = saved.stack, saved.session_options
        case _:
            raise SystemExit(__doc__)
    try:
        found = redrive(boto3.Session(**options), stack)
    except (BotoCoreError, ClientError) as error:
        raise SystemExit("\n".join(explained(error))) from None
    print(f"pictures on their way back to their queue: {found}" if found else "no picture waits")


if __name__ == "__main__":
    main()

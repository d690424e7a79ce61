"""Returns the pictures of the dead-letter queue to their queue, to be retried.

    python -m tools.redrive             # in the cloud that the environment names: the local one
    python -m tools.redrive CONFIG      # in the account and stack whose answers sam saved there

SQS moves them in the background, each as a new message with a receive count of zero.
"""

import sys
from pathlib import Path

from tools.stack import Stack, errors_explained


def redrive(stack: Stack) -> int:
    """Start to move what is in the stack's dead-letter queue of pictures; returns how many."""
    sqs = stack.client("sqs")
    attributes = sqs.get_queue_attributes(
        QueueUrl=stack.output("PictureDlqUrl"),
        AttributeNames=["QueueArn", "ApproximateNumberOfMessages"],
    )["Attributes"]
    waiting = int(attributes["ApproximateNumberOfMessages"])
    if waiting:
        sqs.start_message_move_task(SourceArn=attributes["QueueArn"])
    return waiting


def main() -> None:
    """Run the command line."""
    match sys.argv[1:]:
        case []:
            config = None
        case [named]:
            config = Path(named)
        case _:
            raise SystemExit(__doc__)
    with errors_explained():
        found = redrive(Stack(config))
    print(
        f"Pictures sent back from the dead-letter queue: {found}"
        if found
        else "Dead-letter queue is empty"
    )


if __name__ == "__main__":
    main()

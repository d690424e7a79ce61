"""Returns the pictures of the dead-letter queue to their queue, to be retried.

SQS moves them in the background, each as a new message with a receive count of zero.
"""

from droplens_cli.stack import Stack


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

"""Print the outputs of the deployed stack, in the cloud that the environment names.

python -m tools.outputs                      # of the stack "droplens"
"""

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.account import explained
from tools.stack_functions import STACK

NEXT = """
Now upload class folders to s3://{bucket}/datasets/cars/ and then an empty datasets/cars/_READY,
with `eval "$(.local/venv/cloud/bin/python -m localcloud env)"` for any AWS client, and follow it
by make logs. make demo shows it all on scanned digits."""


def main() -> None:
    """A line for each output, and what to do with them."""
    try:
        [found] = boto3.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    except (BotoCoreError, ClientError) as error:
        raise SystemExit("\n".join(explained(error))) from None
    outputs = {one["OutputKey"]: one["OutputValue"] for one in found["Outputs"]}
    width = max(map(len, outputs))
    for name, value in sorted(outputs.items()):
        print(f"  {name:{width}}  {value}")
    print(NEXT.format(bucket=outputs["BucketName"]))


if __name__ == "__main__":
    main()

"""Print the outputs of the stack in the local cloud: python -m tools.outputs"""

import sys

from droplens_cli.errors import CommandError, errors_explained
from droplens_cli.stack import Stack
from droplens_cli.target import local_target

NEXT = """
Now `droplens upload FOLDER --as cars` (docs/cli.md), or any AWS client (docs/local-cloud.md): class
folders to s3://{bucket}/datasets/cars/ and then an empty datasets/cars/_READY.
make logs follows it; make demo shows it all on scanned digits."""


def main() -> None:
    """Print a line for each output, and the next step."""
    try:
        with errors_explained():
            outputs = Stack(local_target()).outputs
    except CommandError as error:
        sys.exit(str(error))
    width = max(map(len, outputs))
    for name, value in sorted(outputs.items()):
        print(f"  {name:{width}}  {value}")
    print(NEXT.format(bucket=outputs["BucketName"]))


if __name__ == "__main__":
    main()

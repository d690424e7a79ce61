"""Print the outputs of the deployed stack, in the cloud that the environment names.

python -m tools.outputs                      # of the stack "droplens"
"""

from tools.stack import Stack, errors_explained

NEXT = """
Now upload class folders to s3://{bucket}/datasets/cars/ and then an empty datasets/cars/_READY,
with `eval "$(.local/venv/cloud/bin/python -m localcloud env)"` for any AWS client, and follow it
by make logs. make demo shows it all on scanned digits."""


def main() -> None:
    """Print a line for each output, and the next step."""
    with errors_explained():
        outputs = Stack(None).outputs
    width = max(map(len, outputs))
    for name, value in sorted(outputs.items()):
        print(f"  {name:{width}}  {value}")
    print(NEXT.format(bucket=outputs["BucketName"]))


if __name__ == "__main__":
    main()

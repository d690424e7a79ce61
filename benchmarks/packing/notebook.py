"""The way people pack a bucket of pictures for SageMaker: boto3, im2rec.py, boto3.

    python notebook.py BUCKET PREFIX DESTINATION FOLDER THREADS

Runs in an environment with MXNet. DESTINATION "-" packs PREFIX, then a local folder, and uploads
nothing. Differs from most notebooks where that makes it faster: all downloads share one transfer
manager, as `aws s3 cp` does it, instead of starting one for each picture.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager

_SHORTER_SIDE = 256
_QUALITY = 95
_TRAIN_SHARE = 0.8


def download(bucket: str, prefix: str, folder: Path) -> None:
    """Fetch every object below the prefix, by as many threads as boto3 uses by default."""
    client = boto3.client("s3")
    with create_transfer_manager(client, TransferConfig()) as manager:
        transfers = []
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page["Contents"]:
                target = folder / item["Key"].removeprefix(prefix)
                target.parent.mkdir(parents=True, exist_ok=True)
                transfers.append(manager.download(bucket, item["Key"], str(target)))
        for transfer in transfers:
            transfer.result()


def im2rec(pictures: Path, prefix: Path, threads: str) -> None:
    """List the pictures, split the list, and pack the parts one after the other."""
    package = find_spec("mxnet")
    assert package is not None
    assert package.origin is not None
    tool = Path(package.origin).parent / "tools" / "im2rec.py"
    listing = ["--list", "--recursive", f"--train-ratio={_TRAIN_SHARE}"]
    packing = [f"--resize={_SHORTER_SIDE}", f"--quality={_QUALITY}", f"--num-thread={threads}"]
    steps = (("", listing), ("_train", packing), ("_val", packing))
    for part, options in steps:
        command = [sys.executable, str(tool), f"{prefix}{part}", str(pictures), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def upload(prefix: Path, bucket: str, destination: str) -> None:
    """Put the records and their indexes where training will read them."""
    client = boto3.client("s3")
    for path in sorted(prefix.parent.glob(f"{prefix.name}_*.*")):
        client.upload_file(str(path), bucket, destination + path.name)


def main(bucket: str, prefix: str, destination: str, folder: str, threads: str) -> None:
    """The whole notebook, from its first cell to its last."""
    records = Path(folder, "records", "data")
    records.parent.mkdir(parents=True)
    if destination == "-":
        im2rec(Path(prefix), records, threads)
        return
    pictures = Path(folder, "pictures")
    download(bucket, prefix, pictures)
    im2rec(pictures, records, threads)
    upload(records, bucket, destination)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The network of a model archive as an object of its own, which classify_image loads and runs.

The archive is compressed, and holds much that no prediction needs. It is the output of a training
job, so nothing of it is trusted: ONNX Runtime reads the network only after it was checked here.
"""

import hashlib
import json
import math
import tarfile
from pathlib import PurePosixPath
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from droplens.aws.s3 import Bucket
from droplens.domain.card import ModelObject
from droplens.domain.errors import ObjectMissing, RetryLater, UserError
from droplens.domain.layout import MODEL_FILE
from droplens.evaluation.artefact import (
    MAX_ARCHIVE_BYTES,
    MAX_BYTES,
    MAX_FILES,
    TRAINING_FILE,
)
from droplens.inference.graph import Signature, UnknownNetwork, signature
from droplens.prediction.loaded_models import MOST_BYTES
from droplens.runtime.telemetry import logger

# Of trainer/artefact.py, which says what is in them.
INT8_FILE, PREPROCESSING_FILE = "model.int8.onnx", "preprocessing.json"
_MAX_BYTES = {
    MODEL_FILE: MOST_BYTES,
    INT8_FILE: MOST_BYTES,
    PREPROCESSING_FILE: 64 * 1024,
    TRAINING_FILE: MAX_BYTES[TRAINING_FILE],
}
# How classify_image makes the network's input, as trainer/data/preprocess.py did in training.
_PREPROCESSING = {"resize": "squash", "filter": "bilinear", "input": "uint8 NHWC RGB"}


class TooSlow(Exception):
    """A prediction takes longer than was allowed, or training has not reported how long."""


def publish_model(bucket: Bucket, model_data: str, most_ms: float = math.inf) -> ModelObject:
    """Store the network of a model archive beside the archive; a repetition stores the same.

    model_data: the archive's s3:// URI; most_ms: that a prediction may take one core, by what
    training has measured. Of an archive with an int8 variant that is taken: training
    keeps it only where it is better. Raises TooSlow, UserError for anything that is no network of
    ours, and RetryLater.
    """
    archive = model_data.removeprefix(f"s3://{bucket.name}/")
    try:
        files = _files(bucket, archive)
        name = INT8_FILE if INT8_FILE in files else MODEL_FILE
        if name not in files:
            raise UserError("model.missing", f"{model_data} holds no {MODEL_FILE}")
        network = files[name]
        found = _checked(network, files.get(PREPROCESSING_FILE), f"{model_data}: {name}")
        if not (took := _milliseconds(files.get(TRAINING_FILE))) <= most_ms:
            raise TooSlow(f"a prediction takes {took:g} ms, more than {most_ms:g}")
        model = ModelObject(
            key=str(PurePosixPath(archive).with_name(MODEL_FILE)),
            sha256=hashlib.sha256(network).hexdigest(),
            bytes=len(network),
            height=found.height,
            width=found.width,
        )
        bucket.client.put_object(
            Bucket=bucket.name,
            Key=model.key,
            Body=network,
            ContentType="application/octet-stream",
        )
    except ObjectMissing as error:
        raise UserError("model.missing", f"{model_data} is not in the bucket") from error
    except (BotoCoreError, ClientError) as error:
        raise RetryLater("model.unreadable", f"{model_data}: {error}") from error
    logger.info("model is published", key=model.key, bytes=model.bytes, file=name)
    return model


def _milliseconds(training: bytes | None) -> float:
    """Of a prediction by one core; infinite where training has not measured it."""
    try:
        return float(json.loads(training or b"")["prediction_ms"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf


def _files(bucket: Bucket, archive: str) -> dict[str, bytes]:
    """The contents of the files that are needed, by name. Raises UserError, ObjectMissing."""
    found: dict[str, bytes] = {}
    total = 0
    try:
        with (
            bucket.stream(archive) as body,
            tarfile.open(fileobj=cast(Any, body), mode="r|gz") as tar,
        ):
            for number, member in enumerate(tar):
                total += member.size
                if number == MAX_FILES or total > MAX_ARCHIVE_BYTES:
                    raise UserError("model.refused", f"{archive} has too many files, or too large")
                name = PurePosixPath(member.name).name
                if name not in _MAX_BYTES or name in found or not member.isfile():
                    continue
                if member.size > _MAX_BYTES[name]:
                    raise UserError(
                        "model.too_large",
                        f"{archive}: {name} has {member.size:,} bytes, at most "
                        f"{_MAX_BYTES[name]:,} are run inside Lambda: deploy with another "
                        "EndpointMode",
                    )
                if (content := tar.extractfile(member)) is not None:
                    found[name] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, BotoCoreError):
            raise
        raise UserError("model.refused", f"{archive} is no complete archive: {error}") from error
    return found


def _checked(network: bytes, preprocessing: bytes | None, name: str) -> Signature:
    """Raises UserError for a network, or a preprocessing, that this version does not know."""
    try:
        found = signature(network)
    except UnknownNetwork as error:
        raise UserError("model.refused", f"{name} is not run inside Lambda: {error}") from error
    expected = {**_PREPROCESSING, "width": found.width, "height": found.height}
    try:
        given = json.loads(preprocessing or b"null")
    except (ValueError, RecursionError):
        given = None
    if given != expected:
        raise UserError(
            "model.preprocessing",
            f"{name} expects images as no network of ours: {PREPROCESSING_FILE} is "
            f"{(preprocessing or b'missing')[:200]!r}, expected {expected}",
        )
    return found

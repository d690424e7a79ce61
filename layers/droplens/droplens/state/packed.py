"""The packed dataset of a run in the bucket."""

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing, UserError
from droplens.domain.run import RunKey
from droplens.records.manifest import PackedDataset, parse_manifest


def read_packed(bucket: Bucket, run: RunKey) -> PackedDataset:
    """Read dataset.json, which batch_prep writes last. Raises UserError if it is missing."""
    prefix = layout.packed_prefix(run.classifier, run.run_id)
    try:
        body, _ = bucket.read(f"{prefix}dataset.json")
    except ObjectMissing as error:
        raise UserError(
            "packed.incomplete", f"{prefix} holds no dataset.json: the packing did not finish"
        ) from error
    return parse_manifest(prefix, body)

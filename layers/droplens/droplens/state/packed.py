"""The packed dataset of a run in the bucket, and single images of it."""

from collections.abc import Collection
from itertools import pairwise

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing, UserError
from droplens.domain.run import RunKey
from droplens.records.manifest import PackedDataset, parse_manifest
from droplens.records.recordio import parse_record, read_index


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


Span = tuple[int, int]


def read_images(
    bucket: Bucket, prefix: str, channel: str, records: Collection[int]
) -> dict[int, bytes]:
    """The packed images of those of `records` that the channel has, by record id.

    prefix: of the packed dataset.
    """
    return {
        record: read_image(bucket, prefix, channel, span)
        for record, span in find_spans(bucket, prefix, channel, records).items()
    }


def read_image(bucket: Bucket, prefix: str, channel: str, span: Span) -> bytes:
    """The packed image, a JPEG, in this span of the channel's record file."""
    return parse_record(bucket.read_range(f"{prefix}{channel}/{channel}.rec", *span)).payload


def find_spans(
    bucket: Bucket, prefix: str, channel: str, records: Collection[int]
) -> dict[int, Span]:
    """The byte ranges of `records`: the index of a training channel may have millions of lines."""
    wanted, found = set(records), {}
    stem = f"{prefix}{channel}/{channel}"
    size = bucket.head(f"{stem}.rec").bytes
    index = read_index(bucket.read(f"{stem}.idx")[0].decode())
    for (record, start), (_, end) in pairwise([*index, (-1, size)]):
        if record in wanted:
            found[record] = (start, end)
    return found

"""Records are decoded in their order, by this process or by others, and a damaged one is named."""

from pathlib import Path

import numpy as np
import pytest

from droplens.records.recordio import RecordWriter
from tests.support.trainer import LABELS, drawn_records
from trainer.data.decode import RECORDS_PER_TASK, decode
from trainer.data.features import Channel, DatasetError
from trainer.data.preprocess import Resize

RESIZE = Resize(width=20, height=16)


def channel(folder: Path, payloads: list[bytes]) -> Channel:
    with (folder / "train.rec").open("wb") as rec, RecordWriter(rec) as writer:
        for number, payload in enumerate(payloads):
            writer.write(number, 0, payload)
    return Channel.open("train", folder, len(LABELS))


# Those of one task are decoded here, and of more by other processes.
@pytest.mark.parametrize("records", [0, 5, RECORDS_PER_TASK + 2])
def test_every_record_has_its_pixels_in_its_place(tmp_path: Path, records: int) -> None:
    payloads = [jpeg for _, jpeg in drawn_records(12)][:records]
    decoded = decode(channel(tmp_path, payloads), RESIZE)
    assert decoded.shape == (records, 16, 20, 3)
    for pixels, payload in zip(decoded, payloads, strict=True):
        np.testing.assert_array_equal(pixels, RESIZE.pixels(payload))


@pytest.mark.parametrize("records", [2, RECORDS_PER_TASK + 1])
def test_a_record_that_cannot_be_decoded_is_named(tmp_path: Path, records: int) -> None:
    payloads = [jpeg for _, jpeg in drawn_records(11)][:records]
    payloads[-1] = b"no picture"
    with pytest.raises(DatasetError, match=rf"^train\.rec: record {records - 1} cannot be read: "):
        decode(channel(tmp_path, payloads), RESIZE)

"""A channel is checked before it is trained on, and every fault is told by its record."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from droplens.records.recordio import RecordWriter
from trainer.data.features import Channel, DatasetError, extract
from trainer.data.preprocess import Resize
from trainer.nets.convert import write_backbone
from trainer.nets.specification import LITE0


def jpeg(seed: int, size: tuple[int, int] = (80, 60)) -> bytes:
    rng = np.random.default_rng(seed)
    stored = BytesIO()
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8))
    coarse.resize(size).save(stored, "JPEG")
    return stored.getvalue()


def write(folder: Path, *records: tuple[float, bytes], name: str = "train.rec") -> Path:
    with (folder / name).open("wb") as file, RecordWriter(file) as writer:
        for number, (label, payload) in enumerate(records):
            writer.write(number, label, payload)
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("weights"))


def test_the_labels_of_a_channel_are_read_in_order(tmp_path: Path) -> None:
    channel = Channel.open("train", write(tmp_path, (2, b"a"), (0, b"b"), (1, b"c")), 3)
    assert channel.labels.tolist() == [2, 0, 1]
    assert len(channel) == 3


@pytest.mark.parametrize("label", [3.0, -1.0, 0.5, float("nan"), float("inf")])
def test_a_label_that_is_no_class_is_refused(tmp_path: Path, label: float) -> None:
    with pytest.raises(DatasetError, match=r"train.rec: record 1 has the label"):
        Channel.open("train", write(tmp_path, (0, b"a"), (label, b"b")), 3)


def test_a_channel_without_records_or_with_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found 0"):
        Channel.open("train", tmp_path, 3)
    write(tmp_path, (0, b"a"))
    write(tmp_path, (0, b"a"), name="more.rec")
    with pytest.raises(DatasetError, match="found 2"):
        Channel.open("train", tmp_path, 3)


def test_a_record_file_that_ends_early_is_refused_by_offset(tmp_path: Path) -> None:
    path = write(tmp_path, (0, jpeg(0)), (1, jpeg(1))) / "train.rec"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match=r"train.rec: the file ends inside the record at byte"):
        Channel.open("train", tmp_path, 2)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, backbone: Path) -> None:
    channel = Channel.open("train", write(tmp_path, (0, jpeg(0)), (1, jpeg(1)[:300])), 2)
    with pytest.raises(DatasetError, match=r"train.rec: record 1 cannot be read"):
        extract(backbone, channel, Resize(width=64, height=64), 8)


def test_features_come_in_the_records_order_whatever_the_batch(
    tmp_path: Path, backbone: Path
) -> None:
    payloads = [jpeg(seed) for seed in range(11)]
    channel = Channel.open("train", write(tmp_path, *((0, data) for data in payloads)), 1)
    resize = Resize(width=64, height=64)
    one_by_one, in_fours = (extract(backbone, channel, resize, size) for size in (1, 4))
    assert one_by_one.shape == (11, LITE0.features)
    np.testing.assert_allclose(one_by_one, in_fours, atol=1e-3)
    distances = np.linalg.norm(one_by_one[:, None] - in_fours[None], axis=2)
    assert distances.argmin(axis=1).tolist() == list(range(11))

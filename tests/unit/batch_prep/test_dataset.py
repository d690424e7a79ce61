"""From what was packed to a labelled dataset, and the sentences where there is none."""

import hashlib

import numpy as np
import pytest

from batch_prep.dataset import Dataset, SkippedFiles, Table, assemble, check_classes
from batch_prep.errors import JobError
from batch_prep.fingerprint import FINGERPRINT_BYTES
from batch_prep.pieces import PackedPicture, Skipped

BAD = "image.unreadable"


def looks(number: int) -> bytes:
    """A fingerprint like no other one."""
    waves = np.random.default_rng(number).normal(size=FINGERPRINT_BYTES)
    return np.rint(waves * 127 / np.linalg.norm(waves)).astype(np.int8).tobytes()


def table(*pictures: tuple[str, str, str], same_looks: str = "") -> Table:
    """Pictures of (file content, class, channel); those with content in `same_looks` look alike."""
    rows = Table()
    for number, (content, label, channel) in enumerate(pictures):
        fingerprint = looks(999) if content in same_looks.split() else looks(number)
        digest = hashlib.sha256(content.encode()).hexdigest()
        rows.add(
            0,
            PackedPicture(
                id=number,
                name=f"{label}/{number}.jpg",
                label="abc".index(label),
                channel=channel,
                sha256=digest,
                fingerprint=fingerprint,
                start=10 * number,
                end=10 * number + 10,
                size=5,
                width=4,
                height=3,
                upscaled=False,
            ),
        )
    return rows


def skipped_files(*skipped: Skipped, most: int = 100) -> SkippedFiles:
    files = SkippedFiles(most)
    for one in skipped:
        files.add(one)
    return files


def dataset_of(rows: Table, *skipped: Skipped, classes: str = "ab") -> Dataset:
    dataset = assemble(list(classes), rows, skipped_files(*skipped), max_bad=0.5)
    labels = dataset.rows["label"]
    names = {row: f"{classes[label]}/{row}.jpg" for row, label in enumerate(labels)}
    check_classes(dataset, lambda: names)
    return dataset


GOOD = (
    ("1", "a", "train"),
    ("2", "a", "validation"),
    ("3", "b", "train"),
    ("4", "b", "validation"),
)


def test_sound_pictures_all_stay() -> None:
    dataset = dataset_of(table(*GOOD))
    assert dataset.kept.all()
    assert not dataset.duplicates + dataset.conflicts + dataset.near + dataset.near_conflicts
    assert dataset.count(dataset.in_channel("train")) == [1, 1]


def test_of_equal_files_in_one_class_the_first_stays() -> None:
    rows = table(*GOOD, ("2", "a", "train"), ("2", "a", "validation"))
    dataset = dataset_of(rows)
    assert dataset.duplicates == [[1, 4, 5]]
    assert dataset.kept.tolist() == [True] * 4 + [False, False]


def test_equal_files_in_two_classes_are_all_left_out() -> None:
    dataset = dataset_of(table(*GOOD, ("x", "a", "train"), ("x", "b", "validation")))
    assert dataset.conflicts == [[4, 5]]
    assert dataset.labels([4, 5]) == ["a", "b"]
    assert dataset.kept.tolist() == [True] * 4 + [False, False]


def test_alike_pictures_are_never_on_both_sides_of_the_split() -> None:
    rows = table(*GOOD, ("x", "a", "train"), ("y", "a", "validation"), same_looks="x y")
    dataset = dataset_of(rows)
    assert dataset.near == [[4, 5]]
    assert dataset.kept.tolist() == [True] * 5 + [False]


def test_alike_pictures_on_one_side_stay() -> None:
    rows = table(*GOOD, ("x", "a", "validation"), ("y", "a", "validation"), same_looks="x y")
    dataset = dataset_of(rows)
    assert dataset.near == [[4, 5]]
    assert dataset.kept.all()


def test_alike_pictures_in_two_classes_are_told() -> None:
    rows = table(*GOOD, ("x", "a", "train"), ("y", "b", "validation"), same_looks="x y")
    dataset = dataset_of(rows)
    assert (dataset.near, dataset.near_conflicts) == ([], [[4, 5]])
    assert dataset.kept.tolist() == [True] * 5 + [False]


def test_too_many_bad_pictures_are_too_many() -> None:
    bad = [Skipped(f"a/{n}.jpg", "a", BAD, "the file is empty (0 bytes)") for n in range(5)]
    with pytest.raises(JobError, match=r"5 of 9 pictures \(56%\) cannot be used.*a/0\.jpg: the fi"):
        dataset_of(table(*GOOD), *bad)


def test_what_is_no_picture_does_not_count_as_a_bad_one() -> None:
    other = [Skipped(f"a/{n}.txt", "a", "file.not_a_picture", "?") for n in range(50)]
    assert dataset_of(table(*GOOD), *other).kept.all()


def test_a_class_of_bad_pictures_only_is_named_with_the_first() -> None:
    with pytest.raises(JobError, match=r"class 'c' has no readable picture; the first of 1 skipp"):
        dataset_of(table(*GOOD), Skipped("c/x.jpg", "c", BAD, "?"), classes="abc")


def test_a_class_without_a_file_is_named() -> None:
    with pytest.raises(JobError, match=r"The class 'c' has no readable picture: its folder is em"):
        dataset_of(table(*GOOD), classes="abc")


def test_a_class_with_nothing_left_to_train_on_is_named() -> None:
    rows = table(*GOOD, ("5", "c", "validation"))
    with pytest.raises(JobError, match=r"The class 'c' has no readable picture to train on; the f"):
        dataset_of(rows, Skipped("c/x.jpg", "c", BAD, "?"), classes="abc")


def test_a_class_whose_pictures_all_lie_elsewhere_too_is_named_with_one() -> None:
    rows = table(*GOOD, ("1", "c", "train"))
    with pytest.raises(JobError, match=r"The class 'a' .*: c/4\.jpg is the same file as a/0\.jpg"):
        dataset_of(rows, classes="abc")


def test_nothing_to_validate_with_is_said() -> None:
    with pytest.raises(JobError, match="nothing to validate with"):
        dataset_of(table(("1", "a", "train"), ("2", "b", "train")))


def test_nothing_at_all_is_said() -> None:
    with pytest.raises(JobError, match=r"^The dataset has no readable picture\.$"):
        dataset_of(table())

"""From what was packed to a labelled dataset, and the sentences where there is none."""

import hashlib

import numpy as np
import pytest

from batch_prep.errors import JobError
from batch_prep.image.fingerprint import FINGERPRINT_BYTES
from batch_prep.manifest.dataset import Dataset, SkippedFiles, Table, assemble, check_classes
from batch_prep.shards.files import PackedImage, Skipped

BAD = "image.unreadable"


def looks_of(number: int) -> bytes:
    """A fingerprint like no other one."""
    waves = np.random.default_rng(number).normal(size=FINGERPRINT_BYTES)
    return np.rint(waves * 127 / np.linalg.norm(waves)).astype(np.int8).tobytes()


def packed(
    number: int, sha256: str, label: int = 0, channel: str = "train", looks: bytes | None = None
) -> PackedImage:
    """Record `number` of 10 bytes each."""
    return PackedImage(
        id=number,
        name=f"{label}/{number}.jpg",
        label=label,
        channel=channel,
        sha256=sha256,
        fingerprint=looks or looks_of(number),
        start=10 * number,
        end=10 * number + 10,
        size=5,
        width=4,
        height=3,
        upscaled=False,
    )


def table(*pictures: tuple[str, str, str], same_looks: str = "") -> Table:
    """Pictures of (file content, class, channel); those with content in `same_looks` look alike."""
    rows = Table()
    for number, (content, label, channel) in enumerate(pictures):
        digest = hashlib.sha256(content.encode()).hexdigest()
        looks = looks_of(999) if content in same_looks.split() else None
        rows.add(0, packed(number, digest, "abcd".index(label), channel, looks))
    return rows


def skipped_files(*skipped: Skipped, most: int = 100) -> SkippedFiles:
    files = SkippedFiles(most)
    for one in skipped:
        files.add(one)
    return files


def dataset_of(
    rows: Table, *skipped: Skipped, classes: str = "ab", is_split: bool = False
) -> Dataset:
    files = skipped_files(*skipped)
    dataset = assemble(list(classes), rows, files, max_bad=0.5, is_split=is_split)
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


@pytest.mark.parametrize("is_split", [False, True])
def test_a_class_without_a_validation_picture_is_no_fault_where_another_has_one(
    is_split: bool,
) -> None:
    rows = table(("1", "a", "train"), ("2", "a", "validation"), ("3", "b", "train"))
    dataset = dataset_of(rows, is_split=is_split)
    assert dataset.count(dataset.in_channel("validation")) == [1, 0]


def test_nothing_to_validate_with_is_said() -> None:
    with pytest.raises(JobError, match="nothing to validate with"):
        dataset_of(table(("1", "a", "train"), ("2", "b", "train")))


def test_a_share_of_bad_pictures_as_large_as_is_allowed_is_allowed() -> None:
    bad = [Skipped(f"a/{n}.jpg", "a", BAD, "?") for n in range(4)]
    assert dataset_of(table(*GOOD), *bad).skipped.bad == 4


def test_of_a_split_the_equal_file_that_is_trained_on_stays() -> None:
    copies = (("x", "a", "test"), ("x", "a", "validation"), ("x", "a", "train"))
    dataset = dataset_of(table(*GOOD, *copies), is_split=True)
    assert dataset.duplicates == [[6, 5, 4]]
    assert dataset.kept.tolist() == [True] * 4 + [False, False, True]
    drawn = dataset_of(table(*GOOD, *copies))
    assert drawn.duplicates == [[4, 5, 6]]
    assert drawn.kept.tolist() == [True] * 5 + [False, False]


def test_every_group_of_equal_files_is_found() -> None:
    pairs = [(content, "a", "train") for content in "pqrs"]
    first = (("p", "b", "train"), *GOOD)
    dataset = dataset_of(table(*first, *pairs, *pairs[1:], *pairs[3:]))
    assert dataset.conflicts == [[0, 5]]
    assert sorted(dataset.duplicates) == [[6, 9], [7, 10], [8, 11, 12]]
    assert dataset.kept.tolist() == [False, *[True] * 4, False, *[True] * 3, *[False] * 4]


def test_alike_pictures_stay_in_the_first_of_their_channels_only() -> None:
    alike = [("v", "a", "test"), ("w", "a", "validation"), ("x", "a", "test")]
    dataset = dataset_of(table(*GOOD, *alike, same_looks="v w x"))
    assert dataset.near == [[4, 5, 6]]
    assert dataset.kept.tolist() == [True] * 4 + [False, True, False]


def test_what_was_left_out_as_a_copy_leaves_out_nothing_else() -> None:
    # The same file in two classes is in no channel: what only looks like it stays.
    rows = table(
        *GOOD,
        ("x", "a", "train"),
        ("x", "b", "train"),
        ("y", "a", "validation"),
        same_looks="x y",
    )
    dataset = dataset_of(rows)
    assert (dataset.conflicts, dataset.near, dataset.near_conflicts) == ([[4, 5]], [], [])
    assert dataset.kept.tolist() == [True] * 4 + [False, False, True]


def test_a_split_with_nothing_left_to_validate_with_is_said() -> None:
    rows = table(("1", "a", "train"), ("2", "b", "train"), ("1", "a", "validation"))
    with pytest.raises(JobError, match=r"^Nothing is left to validate with: every picture that"):
        dataset_of(rows, is_split=True)


def test_classes_that_the_split_holds_out_are_counted() -> None:
    rows = table(*GOOD, ("5", "c", "test"), ("6", "d", "validation"))
    with pytest.raises(
        JobError,
        match=r"^The class 'c' \(like 1 more\) has no readable picture to train on: the dataset's "
        r"split holds all of them out\.$",
    ):
        dataset_of(rows, classes="abcd", is_split=True)


def test_the_class_of_a_conflict_is_the_one_that_is_explained_by_it() -> None:
    rows = table(*GOOD, ("x", "a", "train"), ("x", "b", "train"))
    with pytest.raises(JobError, match=r"^The class 'c' has no readable picture: its folder is em"):
        dataset_of(rows, classes="abc")


def test_a_table_grows_and_keeps_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [(str(number), "abc"[number % 3], "train") for number in range(7)]
    whole, looks = table(*pictures).freeze()
    assert whole["start"].tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert whole["length"].tolist() == [10] * 7
    assert whole["label"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (looks == np.stack([np.frombuffer(looks_of(n), np.int8) for n in range(7)])).all()
    # 133 bytes with the fingerprint: docs/packing.md counts with it.
    assert (whole.itemsize, looks.itemsize * looks.shape[1]) == (43, 90)
    for at_once in (1, 3, 7, 8):
        monkeypatch.setattr("batch_prep.manifest.dataset._ROWS_AT_ONCE", at_once)
        rows = table(*pictures)
        parts, part_looks = rows.freeze()
        assert parts.tobytes() == whole.tobytes()
        assert (part_looks == looks).all()


def test_files_are_told_apart_by_the_first_sixteen_bytes_of_their_digests() -> None:
    rows = Table()
    for number, digest in enumerate(("a" * 64, "a" * 31 + "b" * 33, "c" * 32 + "d" * 32)):
        rows.add(0, packed(number, digest))
    digests = rows.freeze()[0]["sha256"]
    assert len(set(digests.tolist())) == 3


def test_what_was_skipped_is_counted_and_the_first_of_it_kept() -> None:
    names = [f"{label}/{number}" for number in range(9) for label in ("b", "a", "")]
    files = SkippedFiles(4)
    for number, name in enumerate(reversed(names)):
        code = BAD if number % 3 == 1 else "file.not_a_picture"
        files.add(Skipped(name, name.partition("/")[0], code, f"reason {number}"))
        assert len(files._kept) <= 8
    assert (files.total, files.bad) == (27, 9)
    assert files.by_class == {"a": 9, "b": 9, "": 9}
    assert [one.name for one in files.first] == ["/0", "/1", "/2", "/3"]
    assert files.first_bad is not None
    assert files.first_bad.name == "a/0"
    assert {label: one.name for label, one in files.first_of_class.items()} == {
        "": "/0",
        "a": "a/0",
        "b": "b/0",
    }
    assert SkippedFiles(4).first == []


def test_nothing_at_all_is_said() -> None:
    with pytest.raises(JobError, match=r"^The dataset has no readable picture\.$"):
        dataset_of(table())

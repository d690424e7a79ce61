"""From what was packed to a labelled dataset, and the sentences where there is none."""

import pytest

from batch_prep.dataset import Conflict, Dataset, Duplicate, assemble
from batch_prep.entries import Refused
from batch_prep.errors import JobError
from batch_prep.pack import Packed, Picture

BAD = "image.unreadable"


def picture(name: str, digest: str | None = None) -> Picture:
    return Picture(name, tuple(name.split("/")), digest or f"digest of {name}", 0, 1, False)


def skipped(name: str, code: str = BAD, reason: str = "the file is empty (0 bytes)") -> Refused:
    return Refused(name, tuple(name.split("/")) if code != "member.path" else (), code, reason)


def dataset_of(*entries: Picture | Refused, folders: tuple[str, ...] = ()) -> Dataset:
    packed = Packed(
        [entry for entry in entries if isinstance(entry, Picture)],
        [entry for entry in entries if isinstance(entry, Refused)],
        {tuple(folder.split("/")) for folder in folders},
    )
    return assemble(packed, max_bad=0.5)


def names(dataset: Dataset) -> dict[str, list[str]]:
    return {name: [one.name for one in dataset.pictures[name]] for name in dataset.classes}


def test_the_top_folder_is_the_class_however_deep_the_picture_lies() -> None:
    dataset = dataset_of(picture("b/x.jpg"), picture("a/deep/er/y.jpg"))
    assert names(dataset) == {"a": ["a/deep/er/y.jpg"], "b": ["b/x.jpg"]}


def test_classes_are_numbered_by_their_sorted_names() -> None:
    # '-' sorts before '/', so by path "cat-2/x" would come before "cat/x".
    dataset = dataset_of(picture("cat-2/x.jpg"), picture("cat/x.jpg"), picture("Dog/x.jpg"))
    assert dataset.classes == ["Dog", "cat", "cat-2"]


def test_one_folder_around_the_class_folders_is_looked_through() -> None:
    dataset = dataset_of(
        picture("cars/a/x.jpg"), picture("cars/b/y.jpg"), skipped("cars/b/z.jpg"), folders=("cars",)
    )
    assert names(dataset) == {"a": ["cars/a/x.jpg"], "b": ["cars/b/y.jpg"]}
    assert [entry.name for entry in dataset.skipped["b"]] == ["cars/b/z.jpg"]


def test_files_beside_wrapped_class_folders_are_ignored() -> None:
    dataset = dataset_of(
        picture("cars/a/x.jpg"), picture("cars/b/y.jpg"), skipped("cars/broken.jpg")
    )
    assert dataset.skipped == {}


def test_one_class_is_too_few() -> None:
    with pytest.raises(JobError, match=r"one class \('a'\), but a classifier needs at least two"):
        dataset_of(picture("a/x.jpg"), picture("a/deep/y.jpg"))


def test_a_folder_with_nothing_in_it_is_an_empty_class() -> None:
    with pytest.raises(JobError, match=r"The class 'c' has no readable picture: its folder is em"):
        dataset_of(picture("a/x.jpg"), picture("b/x.jpg"), folders=("a", "b", "c"))


def test_a_class_without_a_readable_picture_is_named_with_the_first_reason() -> None:
    with pytest.raises(JobError) as raised:
        dataset_of(picture("a/x.jpg"), picture("b/x.jpg"), skipped("c/1.jpg"), skipped("d/1.jpg"))
    assert str(raised.value) == (
        "The class 'c' (like 1 more) has no readable picture; the first of 1 skipped is c/1.jpg: "
        "the file is empty (0 bytes)."
    )


def test_nothing_readable_is_said_so() -> None:
    with pytest.raises(JobError, match=r"no readable picture; the first of 2 skipped is a/x\.jpg:"):
        dataset_of(skipped("a/x.jpg"), skipped("b/y.jpg"))
    with pytest.raises(JobError, match=r"^The dataset has no readable picture\.$"):
        dataset_of(folders=("a", "b"))


def test_too_many_bad_pictures_are_too_many() -> None:
    good = [picture("a/x.jpg"), picture("b/y.jpg")]
    bad = [skipped(f"a/bad{number}.jpg") for number in range(3)]
    assert dataset_of(*good, *bad[:2]).classes == ["a", "b"]
    with pytest.raises(JobError, match=r"3 of 5 pictures \(60%\) cannot .* the 50%"):
        dataset_of(*good, *bad)


@pytest.mark.parametrize("code", ["file.not_a_picture", "member.link", "member.path"])
def test_what_was_never_a_picture_is_not_counted_as_a_bad_one(code: str) -> None:
    others = [skipped(f"a/other{number}.txt", code) for number in range(9)]
    dataset = dataset_of(picture("a/x.jpg"), picture("b/y.jpg"), *others)
    assert dataset.classes == ["a", "b"]
    assert sum(map(len, dataset.skipped.values())) == 9


def test_the_same_file_twice_in_a_class_is_kept_once_under_the_first_name() -> None:
    dataset = dataset_of(picture("a/2.jpg", "same"), picture("a/1.jpg", "same"), picture("b/x.jpg"))
    assert names(dataset) == {"a": ["a/1.jpg"], "b": ["b/x.jpg"]}
    assert dataset.duplicates == [Duplicate("a/2.jpg", "a/1.jpg", "a")]


def test_the_same_file_in_two_classes_is_left_out_of_both() -> None:
    dataset = dataset_of(
        picture("a/1.jpg", "same"),
        picture("b/1.jpg", "same"),
        picture("a/x.jpg"),
        picture("b/x.jpg"),
    )
    assert names(dataset) == {"a": ["a/x.jpg"], "b": ["b/x.jpg"]}
    assert dataset.conflicts == [Conflict("b/1.jpg", "a/1.jpg", ["a", "b"])]


def test_a_class_that_only_has_another_ones_pictures_is_named() -> None:
    with pytest.raises(JobError, match=r"'b' has no picture of its own: b/1\.jpg is the same file"):
        dataset_of(picture("a/1.jpg", "same"), picture("b/1.jpg", "same"), picture("a/x.jpg"))

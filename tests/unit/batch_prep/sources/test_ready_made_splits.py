"""Folders that are a ready-made split, and folders that are only called like one."""

import itertools
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_prep.errors import JobError
from batch_prep.shards.split import Plan, plan
from batch_prep.sources.entries import Entry, File, FolderSeen, Ignored, Refused


def file(path: str, split: str = "") -> File:
    return File(path, tuple(path.split("/")), lambda: b"", 1, split=split)


def files(*folders: str, each: int = 3) -> list[Entry]:
    return [file(f"{folder}/{number}.jpg") for folder in folders for number in range(each)]


def planned(entries: list[Entry], *, shard: int = 0, shards: int = 1, listed: str = "") -> Plan:
    return plan(
        partial(iter, entries),
        listed=listed,
        validation=0.2,
        seed=0,
        shard=shard,
        shards=shards,
    )


def channels(done: Plan) -> dict[str, str]:
    return {one.image.name: one.channel for one in done.images}


def by_folder(done: Plan, depth: int = 0) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, channel in channels(done).items():
        found.setdefault(name.split("/")[depth], set()).add(channel)
    return found


@pytest.mark.parametrize("held_out", ["val", "valid", "Validation", "test", "Testing"])
@pytest.mark.parametrize("wrap", ["", "export/"])
def test_folders_that_are_a_split_are_one_dataset_of_the_classes_in_them(
    held_out: str, wrap: str
) -> None:
    entries = files(*(f"{wrap}{top}/{c}" for top in ("train", held_out) for c in "ab"))
    done = planned([*entries, file(f"{wrap}train/c/only.jpg")])
    assert done.classes == ["a", "b", "c"]
    assert by_folder(done, int(bool(wrap))) == {"train": {"train"}, held_out: {"validation"}}
    assert done.reading.channels == ("train", "validation")
    assert done.reading.given == {"train": "'train/'", "validation": f"'{held_out}/'"}
    assert done.reading.warnings == []
    assert "the split is the dataset's own" in done.reading.read_as


def test_test_pictures_beside_validation_pictures_are_a_channel_of_their_own() -> None:
    done = planned(files(*(f"{top}/{c}" for top in ("train", "valid", "test") for c in "ab")))
    assert by_folder(done) == {"train": {"train"}, "valid": {"validation"}, "test": {"test"}}
    assert done.reading.channels == ("train", "validation", "test")
    assert [one.id for one in done.images] == list(range(18))


@pytest.mark.parametrize(
    ("entries", "classes", "warned"),
    [
        # Vehicles and what is done with them: pictures right in the folders.
        (files("train", "test"), ["test", "train"], "they do not hold the same class folders"),
        # Kinds of trains, kinds of tests.
        (
            files("train/steam", "train/diesel", "test/blood", "test/eyes"),
            ["test", "train"],
            "they do not hold the same class folders",
        ),
        (files("train", "bus", "plane"), ["bus", "plane", "train"], ""),
        (files("train/old", "train/new", "bus/old", "bus/new"), ["bus", "train"], ""),
        (
            files("train/a", "train/b", "val/a", "val/b", "more"),
            ["more", "train", "val"],
            "look like splits, but 'more' lies beside them",
        ),
    ],
)
def test_classes_that_are_called_like_splits_stay_classes(
    entries: list[Entry], classes: list[str], warned: str
) -> None:
    done = planned(entries)
    assert done.classes == classes
    assert done.reading.given is None
    doubts = [one for one in done.reading.warnings if one.startswith("The folders")]
    assert len(doubts) == bool(warned)
    assert warned in "".join(doubts)


def test_a_single_folder_for_training_is_only_a_wrapper() -> None:
    done = planned(files("train/a", "train/b", each=10))
    assert done.classes == ["a", "b"]
    assert done.reading.given is None
    other = planned(files("x/a", "x/b", each=10))
    assert [one.channel for one in done.images] == [one.channel for one in other.images]
    assert {one.channel for one in done.images} == {"train", "validation"}


def test_test_pictures_without_labels_are_left_out_by_name() -> None:
    entries = files("train/a", "train/b", each=10) + files("test")
    done = planned(entries)
    assert done.classes == ["a", "b"]
    assert done.reading.given is None
    assert {one.channel for one in done.images} == {"train", "validation"}
    assert {(label, one.name, one.code) for label, one in done.skipped} == {
        ("", f"test/{n}.jpg", "file.unlabelled") for n in range(3)
    }
    assert done.reading.warnings == [
        "3 pictures right in 'test' are in no class folder: they are left out."
    ]


def test_what_is_no_picture_beside_the_splits_does_no_harm() -> None:
    notes = Refused("labels/a.xml", ("labels", "a.xml"), "file.not_a_picture", "?")
    deep = Refused("meta/a/b.xml", ("meta", "a", "b.xml"), "file.not_a_picture", "?")
    seen = [FolderSeen(("labels",)), FolderSeen(("labels", "x")), FolderSeen(("train", "c"))]
    done = planned([*seen, notes, deep, *files("train/a", "train/b", "val/a", "val/b")])
    assert done.classes == ["a", "b", "c"]
    assert done.skipped == [("", deep)]


def test_a_split_without_a_picture_to_train_on_is_said() -> None:
    with pytest.raises(JobError, match="no picture to train on: all are for test and validation"):
        planned(
            [file("a/x.jpg", "test"), file("b/y.jpg", "validation")],
            listed="labels.csv",
        )


def test_a_list_that_only_trains_has_its_validation_pictures_drawn() -> None:
    entries: list[Entry] = [file(f"{c}/{n}.jpg", "train") for c in "ab" for n in range(10)]
    done = planned(entries, listed="labels.csv")
    assert sorted(channels(done).values()).count("validation") == 4


@given(
    st.lists(st.sampled_from(["train", "validation", "test"]), min_size=2, max_size=60),
    st.integers(1, 7),
    st.randoms(),
    st.booleans(),
)
def test_shards_in_any_number_plan_the_same_split(
    splits: list[str], shards: int, order: Random, listed: bool
) -> None:
    names = ["train", "validation", *splits]
    entries: list[Entry] = [
        file(f"{'ab'[n % 2]}/{n}.jpg", split) if listed else file(f"{split}/{'ab'[n % 2]}/{n}.jpg")
        for n, split in enumerate([*names, *names])
    ]
    name = "labels.csv" if listed else ""
    try:
        whole = planned(entries, listed=name)
    except JobError:
        return  # a split of one class
    order.shuffle(entries)
    parts = [planned(entries, shard=n, shards=shards, listed=name) for n in range(shards)]
    assert list(itertools.chain.from_iterable(part.images for part in parts)) == whole.images
    assert {part.dataset for part in parts} == {whole.dataset}
    assert all(part.reading == whole.reading for part in parts)


def test_another_split_of_a_picture_changes_its_shard_and_the_dataset() -> None:
    splits = ["train", "validation", "test", "train", "train", "validation"]
    before: list[Entry] = [file(f"{'ab'[n % 2]}/{n}.jpg", s) for n, s in enumerate(splits)]
    after = [file("a/0.jpg", "test"), *before[1:]]
    one, other = (planned(entries, listed="labels.csv") for entries in (before, after))
    assert one.dataset != other.dataset
    swapped = [file("a/0.jpg", "test"), before[1], file("a/2.jpg", "train"), *before[3:]]
    assert planned(swapped, listed="labels.csv").shard != one.shard


def test_a_class_that_holds_folders_of_classes_is_warned_of_by_name() -> None:
    done = planned(files("cars/audi", "cars/bmw", "cars/fiat", "cars/vw", "birds", "dogs/deep"))
    assert done.classes == ["birds", "cars", "dogs"]
    assert done.reading.warnings == [
        (
            "The class 'cars' has no picture in its folder itself, but in 4 folders in it, "
            "'audi', 'bmw', 'fiat' and 1 more: all are taken for one class. If they are classes, "
            "put them a level higher."
        )
    ]


def test_what_is_passed_over_is_warned_of_by_name() -> None:
    ignored = [
        Ignored("a/.DS_Store", by_system=True),
        Ignored("Thumbs.db", by_system=True),
        Ignored("stray.jpg", by_system=False),
    ]
    done = planned([*ignored, *files("a", "b")])
    assert done.reading.warnings == [
        "1 pictures beside the class folders are in no class and left out: 'stray.jpg'.",
        (
            "2 files that systems make are no part of the dataset and passed over: 'a/.DS_Store' "
            "and 'Thumbs.db'."
        ),
    ]


def test_a_label_file_beside_pictures_in_an_archive_is_asked_to_be_unpacked() -> None:
    labels = Refused("train/metadata.csv", ("train", "metadata.csv"), "file.not_a_picture", "?")
    notes = Refused("train/notes.csv", ("train", "notes.csv"), "file.not_a_picture", "?")
    with pytest.raises(JobError, match=r"^train/metadata\.csv seems to label the pictures beside"):
        planned([notes, labels, *files("train", "test")])
    assert planned([notes, *files("train", "test")]).classes == ["test", "train"]


def test_ten_of_the_folders_of_a_split_are_named() -> None:
    # Spelled in eleven ways, which a file system that knows cases holds side by side.
    tops = [f"{head}{tail}" for head in ("t", "T") for tail in ("rain", "RAIN", "raIn")]
    tops += ["training", "Training", "TRAINING", "traiNing", "traininG"]
    done = planned(files(*(f"{top}/{c}" for top in (*tops, "val") for c in "ab"), each=1))
    assert done.reading.given is not None
    first = sorted(tops)
    shown = ", ".join(f"'{top}/'" for top in first[:10])
    assert done.reading.given["train"] == f"{shown} and 1 more"
    labels = ", ".join(f"'{top}'" for top in first[:10])
    assert f"class folders in the folders {labels} and 2 more;" in done.reading.read_as

"""Order, number and channel of every picture: exact, stratified, and the same for any shards."""

import hashlib
import itertools
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_prep.errors import JobError
from batch_prep.shards.split import Crowded, Plan, plan
from batch_prep.sources.entries import Entry, File, FolderSeen, Refused


def file(path: str, version: str = "") -> File:
    return File(path, tuple(path.split("/")), lambda: b"", 1, version)


def files(label: str, count: int) -> list[Entry]:
    return [file(f"{label}/{number}.jpg") for number in range(count)]


def planned(
    entries: list[Entry],
    *,
    validation: float = 0.2,
    seed: int = 0,
    listed: str = "",
    shard: int = 0,
    shards: int = 1,
) -> Plan:
    return plan(
        partial(iter, entries),
        listed=listed,
        validation=validation,
        seed=seed,
        shard=shard,
        shards=shards,
    )


def held_out(done: Plan) -> set[str]:
    return {one.image.name for one in done.images if one.channel == "validation"}


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=5),
    st.floats(0.01, 0.5),
    st.integers(0, 3),
)
def test_every_class_gives_its_share(counts: list[int], share: float, seed: int) -> None:
    entries: list[Entry] = [one for n, count in enumerate(counts) for one in files(str(n), count)]
    done = planned(entries, validation=share, seed=seed)
    assert [one.id for one in done.images] == list(range(sum(counts)))
    for label, count in enumerate(counts):
        channels = [one.channel for one in done.images if one.label == label]
        assert len(channels) == count
        held = channels.count("validation")
        if count == 1:
            assert held == 0
        else:
            # At least one to measure, at least one to train, else the nearest whole number.
            assert 1 <= held <= count - 1
            assert abs(held - count * share) <= 0.5 or held == 1


@given(st.lists(st.integers(1, 40), min_size=2, max_size=4), st.integers(1, 9), st.randoms())
def test_shards_in_any_number_plan_the_same(counts: list[int], shards: int, order: Random) -> None:
    entries: list[Entry] = [one for n, count in enumerate(counts) for one in files(str(n), count)]
    entries.append(Refused("1/x.txt", ("1", "x.txt"), "file.not_a_picture", "?"))
    whole = planned(entries)
    order.shuffle(entries)
    parts = [planned(entries, shard=number, shards=shards) for number in range(shards)]
    assert list(itertools.chain.from_iterable(part.images for part in parts)) == whole.images
    assert list(itertools.chain.from_iterable(part.skipped for part in parts)) == whole.skipped
    assert {part.dataset for part in parts} == {whole.dataset}
    assert {tuple(part.classes) for part in parts} == {tuple(whole.classes)}


def test_a_picture_more_moves_no_other_one() -> None:
    fewer = held_out(planned(files("a", 30) + files("b", 20)))
    more = held_out(planned(files("a", 31) + files("b", 20)))
    assert len(fewer ^ more) <= 2  # the new one in, and at the border one for it


def test_another_seed_gives_another_split_and_order() -> None:
    one, other = (planned(files("a", 30) + files("b", 20), seed=seed) for seed in (0, 1))
    assert held_out(one) != held_out(other)
    assert [picture.image.name for picture in one.images] != [
        picture.image.name for picture in other.images
    ]
    assert one.dataset != other.dataset


def test_the_classes_are_mixed_in_the_order_of_the_records() -> None:
    labels = [one.label for one in planned(files("a", 50) + files("b", 50)).images]
    changes = sum(one != other for one, other in itertools.pairwise(labels))
    assert changes > 20


def test_classes_are_numbered_by_their_sorted_names() -> None:
    # '-' sorts before '/', so by path "cat-2/x" would come before "cat/x".
    done = planned([file("cat-2/x.jpg"), file("cat/x.jpg"), file("Dog/deep/er/x.jpg")])
    assert done.classes == ["Dog", "cat", "cat-2"]
    labels = {one.image.name: one.label for one in done.images}
    assert labels == {"Dog/deep/er/x.jpg": 0, "cat/x.jpg": 1, "cat-2/x.jpg": 2}


def test_one_folder_around_the_class_folders_is_looked_through() -> None:
    refused = Refused("cars/b/z.jpg", ("cars", "b", "z.jpg"), "image.too_large", "?")
    beside = Refused("cars/x.txt", ("cars", "x.txt"), "file.not_a_picture", "?")
    wrapped: list[Entry] = [
        FolderSeen(("cars",)),
        file("cars/a/x.jpg"),
        file("cars/b/y.jpg"),
        refused,
        beside,
    ]
    done = planned(wrapped)
    assert done.classes == ["a", "b"]
    assert done.skipped == [("b", refused)]
    bare = planned([file("a/x.jpg"), file("b/y.jpg")])
    assert [one.id for one in done.images] == [one.id for one in bare.images]
    assert {one.image.parts[-1] for one in done.images} == {"x.jpg", "y.jpg"}


def test_a_list_of_class_folders_gives_the_order_that_the_folders_have() -> None:
    folders = files("a", 20) + files("b", 20)
    labelled: list[Entry] = [
        File(one.name, (one.parts[0], *one.parts), one.read, one.size)
        for one in folders
        if isinstance(one, File)
    ]
    listed = planned(labelled, listed="labels.csv")
    assert [one.image.name for one in listed.images] == [
        one.image.name for one in planned(folders).images
    ]
    assert held_out(listed) == held_out(planned(folders))


def test_a_folder_with_nothing_in_it_is_a_class() -> None:
    done = planned([file("a/x.jpg"), file("b/x.jpg"), FolderSeen(("c",))])
    assert done.classes == ["a", "b", "c"]


def test_one_class_is_too_few() -> None:
    with pytest.raises(JobError, match=r"one class \('a'\), but a classifier needs at least two"):
        planned([file("a/x.jpg"), file("a/deep/y.jpg")])


def test_a_changed_picture_changes_its_shard_only() -> None:
    before = files("a", 30) + files("b", 30)
    after = [file("a/0.jpg", "changed"), *before[1:]]
    parts = [
        (planned(before, shard=n, shards=4), planned(after, shard=n, shards=4)) for n in range(4)
    ]
    assert sum(one.shard != other.shard for one, other in parts) == 1
    assert all(one.dataset == other.dataset for one, other in parts)


def test_a_shard_with_too_many_names_says_how_many_pictures_there_are() -> None:
    with pytest.raises(Crowded) as crowded:
        plan(
            partial(iter, files("a", 30) + files("b", 31)),
            listed="",
            validation=0.2,
            seed=0,
            most=20,
        )
    assert crowded.value.images == 61


def test_every_shard_has_its_part_of_the_work() -> None:
    entries = files("a", 200) + files("b", 200)
    sizes = [len(planned(entries, shard=n, shards=4).images) for n in range(4)]
    assert sum(sizes) == 400
    # 100 each by expectation; the hashes of other names may differ by three deviations of 8.7.
    assert all(74 <= size <= 126 for size in sizes), sizes


def test_a_list_with_one_label_does_not_fall_back_on_folder_names() -> None:
    labelled = [
        File(f"{folder}/{n}.jpg", ("car", folder, f"{n}.jpg"), lambda: b"", 1)
        for folder in ("audi", "bmw")
        for n in range(3)
    ]
    with pytest.raises(JobError, match=r"one class \('car'\)"):
        planned(list(labelled), listed="labels.csv")


def test_a_class_whose_files_are_all_refused_is_still_a_class() -> None:
    refused = Refused("c/x.jpg", ("c", "x.jpg"), "image.too_large", "?")
    done = planned([file("a/x.jpg"), file("b/x.jpg"), refused])
    assert done.classes == ["a", "b", "c"]
    assert done.skipped == [("c", refused)]


def test_a_file_beside_the_class_folders_is_no_class() -> None:
    beside = Refused("x.txt", ("x.txt",), "file.not_a_picture", "?")
    done = planned([file("a/x.jpg"), file("b/x.jpg"), file("stray.jpg"), beside])
    assert done.classes == ["a", "b"]
    assert [one.image.name for one in done.images].count("stray.jpg") == 0
    assert len(done.images) == 2


def test_a_picture_in_the_wrapping_folder_makes_it_a_class() -> None:
    entries: list[Entry] = [file("cars/stray.jpg"), file("cars/a/x.jpg"), file("cars/b/y.jpg")]
    with pytest.raises(JobError, match=r"one class \('cars'\)"):
        planned(entries)


@pytest.mark.parametrize(
    ("count", "held"),
    # A fifth, rounded, at least one and never all; of a single picture none.
    [(1, 0), (2, 1), (4, 1), (7, 1), (8, 2), (10, 2), (13, 3), (40, 8)],
)
def test_a_class_gives_a_fifth(count: int, held: int) -> None:
    done = planned(files("a", count) + files("b", 5))
    channels = [one.channel for one in done.images if one.label == 0]
    assert (channels.count("validation"), len(channels)) == (held, count)


@pytest.mark.parametrize("name", ["c" * 600_000, "two\nlines", "\u202egpj"])
def test_a_class_whose_name_cannot_be_shown_ends_the_job_by_its_name(name: str) -> None:
    with pytest.raises(JobError, match="cannot be the name of a class: it has") as refusal:
        planned([*files(name, 2), *files("a", 2)])
    message = str(refusal.value)
    assert message.isprintable()
    assert len(message) < 250
    assert message[1:4] in (name[:3], "\ufffdgp")


def test_more_classes_than_a_function_can_hold_end_the_job() -> None:
    entries: list[Entry] = [file(f"{number}/0.jpg") for number in range(50_000)]
    assert len(planned(entries).classes) == 50_000
    with pytest.raises(JobError, match="has 50,001 classes, the limit is 50,000"):
        planned([*entries, file("another/0.jpg")])


def test_without_a_number_the_only_shard_is_planned() -> None:
    entries = files("a", 7) + files("b", 5)
    done = plan(partial(iter, entries), listed="", validation=0.2, seed=0)
    assert [one.id for one in done.images] == list(range(12))


@pytest.mark.parametrize(("wrap", "split"), [("", ""), ("cars/", ""), ("", "train/")])
def test_the_order_is_that_of_a_hash_of_seed_and_name(wrap: str, split: str) -> None:
    paths = [f"{split}{label}/{number}.jpg" for label in "ab" for number in range(20)]
    others = [f"val/{label}/{number}.jpg" for label in "ab" for number in range(20)]
    paths += others if split else []
    done = planned([file(wrap + path) for path in paths], seed=3)
    expected = sorted(paths, key=lambda path: hashlib.sha256(f"3 {path}".encode()).digest())
    assert [one.image.name.removeprefix(wrap) for one in done.images] == expected


@pytest.mark.parametrize("seed", range(4))
def test_of_a_large_class_exactly_a_fifth_is_held_out(seed: int) -> None:
    done = planned(files("a", 3000) + files("b", 1001), seed=seed)
    held = [one.label for one in done.images if one.channel == "validation"]
    assert (held.count(0), held.count(1)) == (600, 200)
    places = [one.id for one in done.images if one.label == 0 and one.channel == "validation"]
    assert places == [one.id for one in done.images if one.label == 0][:600]


def test_another_picture_is_another_dataset() -> None:
    fewer, more = files("a", 3) + files("b", 3), files("a", 4) + files("b", 3)
    assert planned(fewer).dataset != planned(more).dataset
    assert planned(fewer).dataset == planned(fewer[::-1]).dataset


@pytest.mark.parametrize(("most", "crowded"), [(60, True), (61, False), (62, False)])
def test_as_many_names_as_may_be_are_not_too_many(most: int, crowded: bool) -> None:
    entries = files("a", 30) + files("b", 31)
    counted = partial(plan, partial(iter, entries), listed="", validation=0.2, seed=0)
    if crowded:
        with pytest.raises(Crowded):
            counted(most=most)
    else:
        assert len(counted(most=most).images) == 61


def test_a_folder_with_nothing_but_refused_files_is_no_wrapper() -> None:
    refused = Refused("a/x.jpg", ("a", "x.jpg"), "image.too_large", "?")
    done = planned([refused])
    assert (done.classes, done.skipped, done.images) == (["a"], [("a", refused)], [])


def test_a_path_that_leads_out_of_the_dataset_is_skipped_under_no_class() -> None:
    unsafe = Refused("../x.jpg", (), "file.unsafe_path", "?")
    done = planned([unsafe, *files("a", 2), *files("b", 2)])
    assert done.skipped == [("", unsafe)]
    assert done.classes == ["a", "b"]


@pytest.mark.parametrize(
    ("folders", "said"), [(1, ""), (2, "2 folders"), (99, "99 folders"), (150, "100 or more fold")]
)
def test_a_class_of_folders_is_warned_of_from_two_on(folders: int, said: str) -> None:
    nested: list[Entry] = [file(f"cars/{number:03}/0.jpg") for number in range(folders)]
    warnings = planned([*nested, *files("birds", 2)]).reading.warnings
    assert len(warnings) == bool(said)
    assert f"but in {said}" in "".join(warnings) or not said


@pytest.mark.parametrize("pictures_first", [False, True])
def test_a_class_with_pictures_of_its_own_may_have_folders(pictures_first: bool) -> None:
    nested: list[Entry] = [file(f"cars/{number}/0.jpg") for number in range(3)]
    own = files("cars", 1)
    entries = [*own, *nested] if pictures_first else [*nested, *own]
    assert planned([*entries, *files("birds", 2)]).reading.warnings == []

"""Training or validation: exact, stratified, and the same for the same pictures and seed."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_prep.errors import JobError
from batch_prep.pack import Picture
from batch_prep.split import Split, split


def pictures(label: str, count: int, prefix: str = "") -> list[Picture]:
    return [
        Picture(f"{prefix}{label}/{n}", (label, str(n)), f"{label} {n}", 0, 1, False)
        for n in range(count)
    ]


def digests(done: Split) -> tuple[list[str], list[str]]:
    return (
        [labelled.picture.digest for labelled in done.train],
        [labelled.picture.digest for labelled in done.validation],
    )


@given(
    st.lists(st.integers(2, 40), min_size=2, max_size=5),
    st.floats(0.01, 0.5),
    st.integers(0, 3),
)
def test_every_class_gives_its_share(counts: list[int], share: float, seed: int) -> None:
    classes = [pictures(str(label), count) for label, count in enumerate(counts)]
    done = split(classes, share, seed)
    for label, count in enumerate(counts):
        held_out = sum(labelled.label == label for labelled in done.validation)
        trained = sum(labelled.label == label for labelled in done.train)
        assert held_out == min(max(1, round(count * share)), count - 1)
        assert trained == count - held_out
    train, validation = digests(done)
    assert not set(train) & set(validation)


def test_names_and_order_of_arrival_change_nothing() -> None:
    one = split([pictures("a", 30), pictures("b", 20)], 0.2, 0)
    other = split([pictures("a", 30, "x/")[::-1], pictures("b", 20, "y/")[::-1]], 0.2, 0)
    assert digests(one) == digests(other)


def test_another_seed_gives_another_split_and_order() -> None:
    classes = [pictures("a", 30), pictures("b", 20)]
    (train, validation), (other_train, other_validation) = (
        digests(split(classes, 0.2, seed)) for seed in (0, 1)
    )
    assert set(validation) != set(other_validation)
    assert train != other_train


def test_a_picture_more_moves_no_other_one() -> None:
    fewer = split([pictures("a", 30), pictures("b", 20)], 0.2, 0)
    more = split([pictures("a", 31), pictures("b", 20)], 0.2, 0)
    moved = set(digests(fewer)[1]) ^ set(digests(more)[1])
    assert len(moved) <= 2  # the new one in, and at the border one for it


def test_the_classes_are_mixed_in_the_order_of_the_records() -> None:
    done = split([pictures("a", 50), pictures("b", 50)], 0.2, 0)
    labels = [labelled.label for labelled in done.train]
    changes = sum(one != other for one, other in itertools.pairwise(labels))
    assert changes > 20


def test_a_single_picture_is_trained_on() -> None:
    done = split([pictures("a", 1), pictures("b", 5)], 0.2, 0)
    assert [labelled.label for labelled in done.validation] == [1]
    assert 0 in [labelled.label for labelled in done.train]


def test_nothing_to_validate_with_is_said() -> None:
    with pytest.raises(JobError, match="nothing to validate with"):
        split([pictures("a", 1), pictures("b", 1)], 0.2, 0)

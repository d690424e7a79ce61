"""A dataset that is larger than was meant is refused at the first file that is too many."""

from collections.abc import Iterator

import pytest

from batch_prep.errors import JobError
from batch_prep.sources.entries import Entry, File, FolderSeen, Refused
from batch_prep.sources.guard import Guard

GIB = 2**30


def files(*sizes: int) -> Iterator[Entry]:
    for number, size in enumerate(sizes):
        yield File(f"a/{number}.jpg", ("a", f"{number}.jpg"), bytes, size)


def test_as_many_as_are_allowed_pass_and_what_is_no_picture_is_not_counted() -> None:
    others: list[Entry] = [
        FolderSeen(("a",)),
        Refused("a/x.txt", ("a", "x.txt"), "file.not_a_picture", "text"),
    ]
    entries = [*others, *files(GIB, GIB), *others]
    assert list(Guard(2, 2).watched(entries)) == entries


@pytest.mark.parametrize(
    ("sizes", "passed", "parameter"),
    [((1, 1, 1, 1), 3, "MaxDatasetPictures"), ((GIB, GIB, 1), 2, "MaxDatasetGiB")],
)
def test_the_first_too_many_names_the_parameter(
    sizes: tuple[int, ...], passed: int, parameter: str
) -> None:
    seen: list[Entry] = []
    with pytest.raises(JobError, match=parameter):
        seen.extend(Guard(3, 2).watched(files(*sizes)))
    taken = Guard(3, 2).watched(files(*sizes))
    assert len([next(taken) for _ in range(passed)]) == passed
    with pytest.raises(JobError):
        next(taken)

"""The limit of a dataset's size, which bounds what packing it may cost."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batch_prep.errors import JobError
from batch_prep.sources.entries import Entry, File

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Guard:
    """The largest dataset that is packed.

    images: files that may be images; gib: their total size, unpacked, in GiB.
    """

    images: int
    gib: int

    def watched(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """`entries`. Raises JobError at the first file beyond a limit."""
        images = size = 0
        for entry in entries:
            if isinstance(entry, File):
                images += 1
                size += entry.size
                if images > self.images:
                    raise JobError(
                        f"The dataset has more than {self.images:,} pictures, the most that are "
                        "packed: deploy with a larger MaxDatasetPictures."
                    )
                if size > self.gib * _GIB:
                    raise JobError(
                        f"The dataset has more than {self.gib:,} GiB of pictures, the most that "
                        "are packed: deploy with a larger MaxDatasetGiB."
                    )
            yield entry

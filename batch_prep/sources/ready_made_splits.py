"""Ready-made splits of a dataset: their names, and the detection of folders that are splits.

The names and structures are those of common exports: an ImageFolder tree of
torchvision and Hugging Face Datasets ("Create an image dataset" and "Structure your repository",
https://huggingface.co/docs/datasets/image_dataset and .../repository_structure), Roboflow's
folders train, valid and test.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# The channel of corrections that are in none of the classes.
NONE = "none"
CHANNELS = (TRAIN, VALIDATION, TEST, NONE)

_SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
WORDS = ", ".join(_SPLITS)
# Label files of exports, at a dataset's top or in the folders of its splits: see `label_files`.
EXPORTS = ("metadata.csv", "metadata.jsonl", "_classes.csv")
# More folders are not counted: there may not be so many classes.
_MOST_FOLDERS = 200_000


def named_split(word: str) -> str | None:
    """The split that `word` denotes in a folder's name or a list; None for another word."""
    return _SPLITS.get(word.strip().lower())


@dataclass(frozen=True, slots=True)
class SplitFolders:
    """The folders of a dataset that are its splits.

    folders: the split of each folder, by name; unlabelled: folders whose images are in no class
    folder.
    """

    folders: Mapping[str, str]
    unlabelled: frozenset[str] = frozenset()


@dataclass(slots=True)
class Survey:
    """Statistics of a dataset's paths, to detect whether its folders are splits.

    Names are not sufficient, since a class may be called "train": see `split_folders`.
    """

    _tops: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))
    _files: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def see(self, parts: tuple[str, ...]) -> None:
        """Count the path of a file that may be an image."""
        outer = self._tops[0]
        outer.add(parts[0])
        if parts[0].lower() in _SPLITS:
            self._count(parts[:-1][:2])
        if len(outer) == 1 and len(parts) > 2:
            self._tops[1].add(parts[1])
            if parts[1].lower() in _SPLITS:
                self._count(parts[:-1][:3])

    def _count(self, path: tuple[str, ...]) -> None:
        if path in self._files or len(self._files) < _MOST_FOLDERS:
            self._files[path] += 1

    def split_folders(self, depth: int) -> SplitFolders | None:
        """The folders at `depth` (1 within a single top folder) as splits; None if they are none.

        They are splits where all folders with images are named like splits, at least one for
        training and one not; each has more images in class folders than directly in it; and each
        of the others has a class folder in common with those for training. Only a test folder may
        have all of its images directly in it.
        """
        tops = self._tops[depth]
        if not tops or any(named_split(top) is None for top in tops):
            return None
        folders = {top: str(named_split(top)) for top in sorted(tops)}
        return self._checked(folders, depth)

    def doubts(self, depth: int) -> list[str]:
        """Warnings on folders that are named like splits but are read as classes."""
        tops = self._tops[depth]
        named = {top: split for top in sorted(tops) if (split := named_split(top)) is not None}
        if len(set(named.values())) < 2 or TRAIN not in named.values():
            return []
        if len(named) < len(tops):
            if self._checked(named, depth) is None:
                return []
            others = [top for top in sorted(tops) if top not in named]
            return [
                (
                    f"The folders {quoted(named)} look like splits, but {quoted(others)} "
                    "lies beside them: each was taken for a class. Move that away."
                )
            ]
        return [
            (
                f"The folders {quoted(named)} are called like splits, but were taken for classes: "
                "they do not hold the same class folders."
            )
        ]

    def _checked(self, folders: Mapping[str, str], depth: int) -> SplitFolders | None:
        within: dict[str, Counter[str]] = {top: Counter() for top in folders}
        bare: Counter[str] = Counter()
        for path, count in self._files.items():
            if len(path) <= depth or path[depth] not in folders:
                continue
            if len(path) == depth + 1:
                bare[path[depth]] += count
            elif len(path) == depth + 2:
                within[path[depth]][path[depth + 1]] += count
        trained = {name for top, split in folders.items() if split == TRAIN for name in within[top]}
        unlabelled = {
            top for top, split in folders.items() if split == TEST and bare[top] and not within[top]
        }
        held_out = {top for top, split in folders.items() if split != TRAIN}
        labelled = folders.keys() - unlabelled
        if (
            not trained
            or not held_out
            or any(bare[top] >= within[top].total() for top in labelled)
            or any(not within[top].keys() & trained for top in held_out - unlabelled)
            or (len(trained) < 2 and not held_out - unlabelled)
        ):
            return None
        return SplitFolders(folders, frozenset(unlabelled))


def quoted(names: Iterable[str], most: int = 3, count: int | None = None) -> str:
    """The first `most` names in quotation marks, and the number of the others.

    count: of all names, if `names` is only the beginning of them.
    """
    every = list(names)
    shown = [f"'{name}'" for name in every[:most]]
    more = (len(every) if count is None else count) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)

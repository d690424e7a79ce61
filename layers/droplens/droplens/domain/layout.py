"""The S3 layout: the one place that knows which key holds what.

datasets/<classifier>/...            labelled images, completed by datasets/<classifier>/_READY
datasets/<classifier>.zip|.tar|...   or one archive of class folders
datasets/<classifier>/labels.csv|... or a list that labels the images, put there last
input/<classifier>/...               images to classify
input/<file>                         those that the default classifier answers
results/<classifier>/....json        one answer per image
packed/<classifier>/<run>/...        RecordIO channels, classes.json, dataset.json; meanwhile work/
training/<classifier>/<run>/...      what SageMaker writes
models/<classifier>/...              model cards; live.json is the one that answers
reports/<classifier>/<run>/...       how a model was measured: evaluation.json, answers/, index.html
build/<image>/<tag>.zip              a container image's sources; build/asked/: who waits for it
"""

import hashlib
import re
from dataclasses import dataclass

DATASETS = "datasets/"
INPUT = "input/"
RESULTS = "results/"
PACKED = "packed/"
TRAINING = "training/"
MODELS = "models/"
REPORTS = "reports/"
BUILD = "build/"

READY_MARKER = "_READY"
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
# A list that labels the images beside and below it.
LABEL_LISTS = ("labels.csv", "labels.jsonl", "labels.json", "labels.lst")
MAX_KEY_BYTES = 1024
# A name that is cut ends in "~", a digest of the whole and ".json".
_DIGEST_CHARACTERS = 16
_CUT_BYTES = MAX_KEY_BYTES - 1 - _DIGEST_CHARACTERS - len(".json")
DEFAULT_CLASSIFIER_KEY = f"{MODELS}default.json"

# Endings of archives that are not read, and markers that are not `READY_MARKER`.
_OTHER_ARCHIVES = (".7z", ".rar", ".tar.bz2", ".tar.xz", ".tar.zst", ".tbz2", ".txz")
_OTHER_MARKERS = ("_ready", "_ready.txt")
# Archives that a dataset may hold: Stanford Cars' own.
_INNER_ARCHIVES = ("car_ims.tgz", "cars_train.tgz", "cars_test.tgz", "car_devkit.tgz")

_CLASSIFIER = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """A dataset that its owner has declared complete.

    classifier: the name as the user wrote it; check it with `is_classifier_name`.
    key: what to pack: a prefix ending in "/" (class folders), an archive's key or a list's.
    """

    classifier: str
    key: str

    @property
    def folder(self) -> str | None:
        """The prefix that holds its images one by one, or None for an archive."""
        folder, slash, name = self.key.rpartition("/")
        return folder + slash if not name or name in LABEL_LISTS else None


@dataclass(frozen=True, slots=True)
class NearMiss:
    """An object that looks as if it should complete a dataset, and does not.

    classifier: whose dataset it seems to be; "" where it names none. advice: what to do instead.
    """

    classifier: str
    advice: str


def is_classifier_name(name: str) -> bool:
    """Whether `name` can be a classifier: lower-case letters, digits and '-', at most 31."""
    return _CLASSIFIER.fullmatch(name) is not None


def dataset_source(completed_key: str) -> DatasetSource | None:
    """The dataset that the object `completed_key` completes, or None if it completes none."""
    name = completed_key.removeprefix(DATASETS)
    if name == completed_key or not name:
        return None
    if name.endswith("/" + READY_MARKER):
        classifier = name.removesuffix("/" + READY_MARKER)
        # "datasets//_READY" names nobody, and no run can be kept under an empty name.
        return DatasetSource(classifier, f"{DATASETS}{classifier}/") if classifier else None
    classifier, slash, rest = name.partition("/")
    if rest in LABEL_LISTS and classifier:
        return DatasetSource(classifier, completed_key)
    if slash:
        return None  # an ordinary file of a dataset, perhaps an archive among its images
    for suffix in ARCHIVE_SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            return DatasetSource(name.removesuffix(suffix), completed_key)
    return None


def near_miss(key: str) -> NearMiss | None:
    """What `key`, which completes no dataset, was probably meant to complete; None if nothing."""
    path = key.removeprefix(DATASETS)
    if path == key:
        return None
    folder, _, name = path.rpartition("/")
    lower = name.lower()
    if not folder and lower in (READY_MARKER.lower(), *_OTHER_MARKERS, *LABEL_LISTS):
        marker = name if lower in LABEL_LISTS else READY_MARKER
        return NearMiss(
            "",
            f"put the pictures and {marker} into a folder that names the classifier, for example "
            f"{DATASETS}cars/{marker}",
        )
    if folder and lower in _OTHER_MARKERS:
        return NearMiss(
            folder, f"the file is called {READY_MARKER}, in capitals and without an ending"
        )
    if folder and "/" not in folder and lower in LABEL_LISTS:
        return NearMiss(folder, f"the list is called {lower}, in small letters")
    if lower.endswith(_OTHER_ARCHIVES) and not folder:
        return NearMiss(
            name.partition(".")[0],
            f"archives of this kind are not read: use {', '.join(ARCHIVE_SUFFIXES)}",
        )
    ending = next((one for one in ARCHIVE_SUFFIXES if lower.endswith(one) and lower != one), None)
    if ending is None or "/" in folder or name in _INNER_ARCHIVES:
        return None
    stem = name[: -len(ending)]
    if not folder:
        return NearMiss(stem, f"the archive's name ends in {ending}, in small letters")
    return NearMiss(
        f"{folder}/{stem}",
        f"an archive of class folders lies right in {DATASETS}, as {DATASETS}{stem}{ending}; "
        f"within {DATASETS}{folder}/ it is not opened",
    )


def packed_prefix(classifier: str, run_id: str) -> str:
    """Where batch_prep writes a run's records."""
    return f"{PACKED}{classifier}/{run_id}/"


def shards_prefix(classifier: str, run_id: str) -> str:
    """Where batch_prep keeps the shards of a dataset until it has joined them."""
    return f"{packed_prefix(classifier, run_id)}work/"


def training_prefix(classifier: str, run_id: str) -> str:
    """Where SageMaker writes a run's artefacts and checkpoints."""
    return f"{TRAINING}{classifier}/{run_id}/"


def live_card_key(classifier: str) -> str:
    """The model card that answers for `classifier`."""
    return f"{MODELS}{classifier}/live.json"


def live_classifier(key: str) -> str | None:
    """The classifier whose live card stands at `key`, or None where another thing stands."""
    classifier = key.removeprefix(MODELS).partition("/")[0]
    return classifier if key == live_card_key(classifier) else None


def card_key(classifier: str, run_id: str) -> str:
    """The model card of one run, kept after another one went live."""
    return f"{MODELS}{classifier}/{run_id}/card.json"


def report_prefix(classifier: str, run_id: str) -> str:
    """Where the measurement of a run's model stands."""
    return f"{REPORTS}{classifier}/{run_id}/"


def evaluation_key(classifier: str, run_id: str) -> str:
    """What the measurement of a run's model found."""
    return f"{report_prefix(classifier, run_id)}evaluation.json"


def report_key(classifier: str, run_id: str) -> str:
    """The page that shows what the measurement found."""
    return f"{report_prefix(classifier, run_id)}index.html"


def answers_key(classifier: str, run_id: str, part: int, channel: str = "validation") -> str:
    """One part of the endpoint's answers, a line of JSON for each image of `channel`."""
    mark = "" if channel == "validation" else f"{channel}-"
    return f"{report_prefix(classifier, run_id)}answers/{mark}{part:04}.jsonl"


def first_folder(input_key: str) -> str | None:
    """The name of the first folder below input/, or None for a file that stands in no folder."""
    first, slash, _ = input_key.removeprefix(INPUT).partition("/")
    return first if slash else None


def named_classifier(input_key: str) -> str | None:
    """The name of the first folder if a classifier can be called so, else None."""
    first = first_folder(input_key)
    return first if first is not None and is_classifier_name(first) else None


def is_image_key(key: str) -> bool:
    """Whether `key` can be an image to classify: in input/, and not a folder marker."""
    return key.startswith(INPUT) and not key.endswith("/")


def result_key(input_key: str, classifier: str) -> str:
    """Where the answer of `classifier` for `input_key` stands.

    An image in its classifier's folder keeps the rest of its path; any other keeps its whole path
    below input/: a file without a folder, answered by the default classifier, which
    formerly answered images in folders of no classifier too. A name that would grow longer than
    S3 allows is cut and given a digest of the whole. An image that is called like another's
    `other_result_key` must not stand there.
    """
    if _is_other(_result_path(input_key, classifier), classifier):
        return other_result_key(input_key, classifier)
    key = f"{_result_path(input_key, classifier)}.json"
    if len(key.encode()) <= MAX_KEY_BYTES:
        return key
    return f"{result_bound(input_key, classifier)}~{_digest(input_key)}.json"


def result_bound(input_key: str, classifier: str) -> str:
    """A text that sorts before this image's result and before that of every image whose key
    sorts after this one's, as long as both are in the classifier's folder or neither is.

    It begins the image's result, but where that has a digest for its whole name."""
    return _result_path(input_key, classifier).encode()[:_CUT_BYTES].decode(errors="ignore")


def _result_path(input_key: str, classifier: str) -> str:
    path = input_key.removeprefix(INPUT).removeprefix(classifier + "/")
    return f"{RESULTS}{classifier}/{path}"


def other_result_key(input_key: str, classifier: str) -> str:
    """Where the answer stands if another image's stands at `result_key` already.

    input/a.jpg, answered by the default classifier, and input/<that classifier>/a.jpg meet there.
    """
    return f"{RESULTS}{classifier}/~{_digest(input_key)}.json"


def _is_other(path: str, classifier: str) -> bool:
    name = path.removeprefix(f"{RESULTS}{classifier}/")
    return re.fullmatch(rf"~[0-9a-f]{{{_DIGEST_CHARACTERS}}}", name) is not None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:_DIGEST_CHARACTERS]

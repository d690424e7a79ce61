"""The S3 layout: which keys hold what.

datasets/<classifier>/...            labelled images, completed by datasets/<classifier>/_READY
datasets/<classifier>.zip|.tar|...   or one archive of class folders
datasets/<classifier>/labels.csv|... or a list that labels the images, put there last
corrections/<classifier>/<class>/... labelled images that every next run takes beside its dataset
input/<classifier>/...               images to classify
input/<file>                         those for the default classifier
results/<classifier>/....json        one result per image
packed/<classifier>/<run>/...        RecordIO channels, classes.json, dataset.json; meanwhile work/;
                                     suspects.jsonl: training images whose label may be wrong;
                                     digests.txt: which record was made from which file
training/<classifier>/<run>/...      what SageMaker writes
models/<classifier>/...              model cards; live.json is that of the live model
reports/<classifier>/<run>/...       a model's evaluation: evaluation.json, answers/, index.html
inference/<classifier>/<job>/...     a batch inference job; rows/ are its results
build/<image>/<tag>.zip              a container image's sources; build/asked/: requests for it
"""

import hashlib
import re
from dataclasses import dataclass

DATASETS = "datasets/"
CORRECTIONS = "corrections/"
INPUT = "input/"
RESULTS = "results/"
PACKED = "packed/"
TRAINING = "training/"
MODELS = "models/"
REPORTS = "reports/"
INFERENCE = "inference/"
BUILD = "build/"

READY_MARKER = "_READY"
# Among corrections, the class of images that are in none of the classes.
NONE_CLASS = "_none"
CORRECTIONS_LIST = "corrections.jsonl"
DIGESTS_LIST = "digests.txt"
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
# Label files, for the images beside and below them.
LABEL_LISTS = ("labels.csv", "labels.jsonl", "labels.json", "labels.lst")
MAX_KEY_BYTES = 1024
# A truncated name ends in "~", a digest of the whole name and ".json".
_DIGEST_CHARACTERS = 16
_CUT_BYTES = MAX_KEY_BYTES - 1 - _DIGEST_CHARACTERS - len(".json")
DEFAULT_CLASSIFIER_KEY = f"{MODELS}default.json"

# Endings of archives that are not read, and markers that are not `READY_MARKER`.
_OTHER_ARCHIVES = (".7z", ".rar", ".tar.bz2", ".tar.xz", ".tar.zst", ".tbz2", ".txz")
_OTHER_MARKERS = ("_ready", "_ready.txt")
# Archives that a dataset may contain: those of Stanford Cars.
_INNER_ARCHIVES = ("car_ims.tgz", "cars_train.tgz", "cars_test.tgz", "car_devkit.tgz")

_CLASSIFIER = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")

# What is kept of an image's name in that of its correction.
_LONGEST_CORRECTION = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


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

    @property
    def completed_by(self) -> str:
        """The key of the object that its owner puts last."""
        return self.key + READY_MARKER if self.key.endswith("/") else self.key


@dataclass(frozen=True, slots=True)
class NearMiss:
    """An object that was probably meant to complete a dataset, but does not.

    classifier: of the dataset; "" where it names none. advice: what to do instead.
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
        # "datasets//_READY" names no classifier, and DynamoDB refuses an empty key.
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
    """The dataset that `key`, which completes none, was probably meant to complete, or None."""
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


def corrections_prefix(classifier: str) -> str:
    """Where the corrections of `classifier` are."""
    return f"{CORRECTIONS}{classifier}/"


def corrected_classifier(key: str) -> str | None:
    """The classifier that the correction `key` is for; None for any other object."""
    name, slash, path = key.removeprefix(CORRECTIONS).partition("/")
    label, _, file = path.partition("/")
    if not key.startswith(CORRECTIONS) or not slash or not label or not file:
        return None
    return name if is_classifier_name(name) and not key.endswith("/") else None


def correction_key(classifier: str, label: str, image: str) -> str:
    """The key of the correction of `image`, any key, to the class `label`.

    Its file name begins with a digest of the image's key, so that two images have two, and is the
    same in every class.
    """
    name = _UNSAFE.sub("_", image.rpartition("/")[2])[-_LONGEST_CORRECTION:]
    return f"{corrections_prefix(classifier)}{label}/{correction_mark(image)}-{name}"


def correction_mark(image: str) -> str:
    """What the file name of each correction of `image` has before its first hyphen."""
    return _digest(image)


def corrections_list_key(classifier: str, run_id: str) -> str:
    """The list of the corrections that a run takes, a line of JSON for each."""
    return f"{packed_prefix(classifier, run_id)}{CORRECTIONS_LIST}"


def packed_prefix(classifier: str, run_id: str) -> str:
    """Where batch_prep writes a run's records."""
    return f"{PACKED}{classifier}/{run_id}/"


def shards_prefix(classifier: str, run_id: str) -> str:
    """Where batch_prep keeps the shards of a dataset until they are merged."""
    return f"{packed_prefix(classifier, run_id)}work/"


def digests_key(classifier: str, run_id: str) -> str:
    """The digests of the files that a run's records were made from: see records/digests.py."""
    return f"{packed_prefix(classifier, run_id)}{DIGESTS_LIST}"


def training_prefix(classifier: str, run_id: str) -> str:
    """Where SageMaker writes a run's artefacts and checkpoints."""
    return f"{TRAINING}{classifier}/{run_id}/"


# The network of a model archive, beside the archive.
MODEL_FILE = "model.onnx"


def suspects_key(classifier: str, run_id: str) -> str:
    """The training images of a run whose label may be wrong, a line of JSON each."""
    return f"{packed_prefix(classifier, run_id)}suspects.jsonl"


def live_card_key(classifier: str) -> str:
    """The live model card of `classifier`."""
    return f"{MODELS}{classifier}/live.json"


def live_classifier(key: str) -> str | None:
    """The classifier whose live card has the key `key`, or None for any other key."""
    classifier = key.removeprefix(MODELS).partition("/")[0]
    return classifier if key == live_card_key(classifier) else None


def card_key(classifier: str, run_id: str) -> str:
    """The model card of one run, live or not."""
    return f"{MODELS}{classifier}/{run_id}/card.json"


def report_prefix(classifier: str, run_id: str) -> str:
    """Where the evaluation of a run's model is stored."""
    return f"{REPORTS}{classifier}/{run_id}/"


def evaluation_key(classifier: str, run_id: str) -> str:
    """The evaluation of a run's model, as JSON."""
    return f"{report_prefix(classifier, run_id)}evaluation.json"


def report_key(classifier: str, run_id: str) -> str:
    """The evaluation of a run's model, as an HTML report."""
    return f"{report_prefix(classifier, run_id)}index.html"


def predictions_key(classifier: str, run_id: str, part: int, channel: str = "validation") -> str:
    """One part of the endpoint's predictions, a line of JSON for each image of `channel`."""
    mark = "" if channel == "validation" else f"{channel}-"
    return f"{report_prefix(classifier, run_id)}answers/{mark}{part:04}.jsonl"


def first_folder(input_key: str) -> str | None:
    """The name of the first folder below input/, or None for a file directly in input/."""
    first, slash, _ = input_key.removeprefix(INPUT).partition("/")
    return first if slash else None


def named_classifier(input_key: str) -> str | None:
    """The name of the first folder if it is a valid classifier name, else None."""
    first = first_folder(input_key)
    return first if first is not None and is_classifier_name(first) else None


def is_image_key(key: str) -> bool:
    """Whether `key` can be an image to classify: in input/, and not a folder marker."""
    return key.startswith(INPUT) and not key.endswith("/")


def result_key(input_key: str, classifier: str) -> str:
    """The key of the result of `classifier` for `input_key`.

    An image in its classifier's folder keeps the rest of its path; any other keeps its whole path
    below input/: a file without a folder, for the default classifier, which in earlier versions
    also classified images in folders of no classifier. A name that would be longer than S3 allows
    is truncated and gets a digest of the whole. An image with the name of another one's
    `other_result_key` has its result at its own `other_result_key`.
    """
    if _is_other(_result_path(input_key, classifier), classifier):
        return other_result_key(input_key, classifier)
    key = f"{_result_path(input_key, classifier)}.json"
    if len(key.encode()) <= MAX_KEY_BYTES:
        return key
    return f"{result_bound(input_key, classifier)}~{_digest(input_key)}.json"


def result_bound(input_key: str, classifier: str) -> str:
    """A lower bound, in S3's order, of this image's result key and those of all images whose keys
    sort after this one's, provided that all or none are in the classifier's folder.

    It is a prefix of the image's result key, except where that is a digest only."""
    return _result_path(input_key, classifier).encode()[:_CUT_BYTES].decode(errors="ignore")


def _result_path(input_key: str, classifier: str) -> str:
    path = input_key.removeprefix(INPUT).removeprefix(classifier + "/")
    return f"{RESULTS}{classifier}/{path}"


def other_result_key(input_key: str, classifier: str) -> str:
    """The key of the result if another image's result is at `result_key` already.

    input/a.jpg, for the default classifier, and input/<that classifier>/a.jpg have the same.
    """
    return f"{RESULTS}{classifier}/~{_digest(input_key)}.json"


def _is_other(path: str, classifier: str) -> bool:
    name = path.removeprefix(f"{RESULTS}{classifier}/")
    return re.fullmatch(rf"~[0-9a-f]{{{_DIGEST_CHARACTERS}}}", name) is not None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:_DIGEST_CHARACTERS]

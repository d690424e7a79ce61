"""The files by which labelling tools exchange pictures: written from results, read as corrections.

- Label Studio's JSON: https://labelstud.io/guide/task_format ("Label Studio JSON format of
  annotated tasks") and https://labelstud.io/guide/predictions (choices as pre-annotations).
- SageMaker's augmented manifest:
  https://docs.aws.amazon.com/sagemaker/latest/dg/augmented-manifest.html, with Ground Truth's
  metadata of image classification,
  https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html.
- COCO: https://cocodataset.org/#format-data; annotations of whole pictures have no box.

Predictions are written as such in each format. Only what a person has decided is read back.
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO
from xml.sax.saxutils import quoteattr

from batch_prep.errors import JobError
from batch_prep.sources.label_files import read_list
from batch_prep.sources.labels import BadRow, Labels, Row, gather
from droplens.domain.layout import NONE_CLASS
from droplens_cli.errors import CommandError, ExitCode

FORMATS = ("label-studio", "manifest", "coco")
# The attribute of manifests, and Label Studio's name of the choice.
ATTRIBUTE = "class"
_METADATA = f"{ATTRIBUTE}-metadata"
_MOST_ROWS = 1_000_000
Result = Mapping[str, Any]


def write(results: Iterable[Result], form: str) -> Iterator[str]:
    """Classified pictures in the format `form`, in pieces of text."""
    classified = (one for one in results if one["status"] == "classified")
    yield from _WRITERS[form](classified)


def label_studio_view(classes: Iterable[str]) -> str:
    """The labelling interface of a project with these classes, for Label Studio's settings.

    A choice's alias is what its annotations have in place of its value
    (https://labelstud.io/tags/choice).
    """
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="{ATTRIBUTE}" toName="image" choice="single">\n{choices}\n'
        f'    <Choice value="none of these" alias="{NONE_CLASS}"/>\n  </Choices>\n</View>\n'
    )


def read(data: bytes, bucket: str) -> Labels:
    """The labels that people gave, by the key of the picture in the bucket.

    The format is found by the content. Pictures elsewhere are among the refused rows. Raises
    CommandError where the file has none of the formats.
    """
    first = data.lstrip()[:1]
    if first == b"[":
        return _read_list(data, bucket, "labels.json")
    try:
        found = json.loads(data) if first == b"{" else None
    except (ValueError, RecursionError):  # of several lines
        found = None
    if isinstance(found, dict) and "annotations" in found:
        return gather("the file", _coco_rows(found, bucket), unit="annotation")
    if first == b"{":
        return _read_list(b"".join(_by_people(data)), bucket, "labels.jsonl")
    raise CommandError(
        "the file is none of the formats that are read",
        "export JSON from Label Studio, an augmented manifest (JSON Lines) or COCO",
        ExitCode.BAD_INPUT,
    )


class _OneFile:
    """A folder with the bucket's address, and the one list in it: paths in it are keys."""

    def __init__(self, bucket: str, name: str, data: bytes) -> None:
        self.url = f"s3://{bucket}/"
        self._name, self._data = name, data

    def open(self, path: str) -> BinaryIO:
        """The list. Raises FileNotFoundError for any other file."""
        if path != self._name:
            raise FileNotFoundError(path)
        return io.BytesIO(self._data)

    def exists(self, path: str) -> bool:
        """Whether it is the list."""
        return path == self._name


def _read_list(data: bytes, bucket: str, name: str) -> Labels:
    folder: Any = _OneFile(bucket, name, data)
    if not data:
        return Labels(name)
    try:
        return read_list(folder, name, _MOST_ROWS)
    except JobError as error:
        raise CommandError(str(error), code=ExitCode.BAD_INPUT) from None


def _by_people(data: bytes) -> Iterator[bytes]:
    """The lines of a manifest without predictions, which Ground Truth marks in the metadata."""
    for line in data.splitlines(keepends=True):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        values = row.values() if isinstance(row, dict) else ()
        if any(isinstance(one, dict) and one.get("human-annotated") == "no" for one in values):
            continue
        yield line


def _coco_rows(found: Mapping[str, Any], bucket: str) -> Iterator[Row | BadRow]:
    """Annotations of whole pictures. One with a score is a prediction, and is passed over."""
    try:
        names = {one["id"]: str(one["name"]) for one in found["categories"]}
        paths = {one["id"]: str(one.get("coco_url") or one["file_name"]) for one in found["images"]}
        annotations = list(found["annotations"])
    except (LookupError, TypeError, AttributeError) as error:
        raise CommandError(f"the file is no COCO: {error!r}", code=ExitCode.BAD_INPUT) from None
    for number, one in enumerate(annotations, 1):
        if isinstance(one, dict) and "score" in one:
            continue
        try:
            path, label = paths[one["image_id"]], names[one["category_id"]]
        except (LookupError, TypeError):
            yield BadRow(number, "", "row.malformed", "it names no picture or no category")
            continue
        key = path.removeprefix(f"s3://{bucket}/")
        if "://" in key:
            yield BadRow(number, path, "row.elsewhere", f"it is not in the bucket {bucket}")
        else:
            yield Row(number, key, label)


def _uri(result: Result) -> str:
    return f"s3://{result['image']['bucket']}/{result['image']['key']}"


def _label_studio(results: Iterable[Result]) -> Iterator[str]:
    yield "["
    between = "\n"
    for result in results:
        prediction = result["prediction"]
        choice = {
            "from_name": ATTRIBUTE,
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [prediction["label"]]},
        }
        task = {
            "data": {"image": _uri(result)},
            "predictions": [
                {
                    "model_version": result["model"]["run_id"],
                    "score": prediction["probability"],
                    "result": [choice],
                }
            ],
        }
        yield between + json.dumps(task, ensure_ascii=False)
        between = ",\n"
    yield "\n]\n"


def _manifest(results: Iterable[Result]) -> Iterator[str]:
    numbers: dict[str, int] = {}
    for result in results:
        prediction = result["prediction"]
        row = {
            "source-ref": _uri(result),
            ATTRIBUTE: numbers.setdefault(prediction["label"], len(numbers)),
            _METADATA: {
                "class-name": prediction["label"],
                "confidence": prediction["probability"],
                "type": "groundtruth/image-classification",
                "job-name": f"droplens/{result['model']['run_id']}",
                "human-annotated": "no",
                "creation-date": result["classified_at"].removesuffix("Z"),
            },
        }
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _coco(results: Iterable[Result]) -> Iterator[str]:
    numbers: dict[str, int] = {}
    images, annotations = [], []
    for number, result in enumerate(results, 1):
        image, prediction = result["image"], result["prediction"]
        images.append(
            {
                "id": number,
                "file_name": image["key"],
                "coco_url": _uri(result),
                "width": image["width"],
                "height": image["height"],
            }
        )
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": numbers.setdefault(prediction["label"], len(numbers) + 1),
                "score": prediction["probability"],
            }
        )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    document = {"images": images, "categories": categories, "annotations": annotations}
    yield json.dumps(document, ensure_ascii=False, indent=1) + "\n"


_WRITERS: dict[str, Callable[[Iterable[Result]], Iterator[str]]] = {
    "label-studio": _label_studio,
    "manifest": _manifest,
    "coco": _coco,
}

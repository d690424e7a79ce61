"""Pictures go to a labelling tool and come back as corrections, if a person has decided."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from droplens.aws.s3 import Bucket
from droplens.state.cards import Cards
from droplens_cli import labelling_tools
from droplens_cli.app import main
from droplens_cli.errors import CommandError, ExitCode
from tests.support.builders import card, go_live
from tests.support.command import run
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture

RUN = "20261122-120000-1a2b3c"
NAMES = ("a b+ü.jpg", "deep/er/two.jpg", "three.jpg")


def result(bucket: str, name: str, label: str = "audi") -> dict[str, Any]:
    return {
        "schema": "droplens.result.v2",
        "status": "classified",
        "image": {
            "bucket": bucket,
            "key": f"input/cars/{name}",
            "etag": "0" * 32,
            "version_id": None,
            "bytes": 5,
            "width": 30,
            "height": 20,
            "format": "JPEG",
        },
        "classifier": "cars",
        "prediction": {
            "label": label,
            "probability": 0.6,
            "confident": False,
            "familiar": True,
            "familiarity": 0.4,
        },
        "model": {"run_id": RUN, "endpoint": "e", "accuracy": 0.9},
        "classified_at": "2026-11-22T12:00:00Z",
    }


@pytest.fixture
def stack(deployed: Deployed) -> Deployed:  # noqa: F811
    """Three classified pictures of "cars", and one that was rejected."""
    cards = Cards(Bucket(deployed.s3, deployed.outputs["BucketName"]))
    go_live(cards, card(RUN, "cars"))
    for name in NAMES:
        deployed.put(f"input/cars/{name}", name.encode())
        document = result(deployed.bucket.name, name)
        deployed.put(f"results/cars/{name}.json", json.dumps(document).encode())
    rejected = result(deployed.bucket.name, "torn.jpg") | {"status": "rejected", "error": {}}
    deployed.put("results/cars/torn.jpg.json", json.dumps(rejected).encode())
    return deployed


def corrections(stack: Deployed) -> dict[str, bytes]:
    """The content of each correction by class and the last part of its name."""
    prefix = "corrections/cars/"
    return {
        f"{label} {name.partition('-')[2]}": stack.bucket.read(f"{prefix}{label}/{name}")[0]
        for label, name in (
            entry.key.removeprefix(prefix).split("/") for entry in stack.bucket.entries(prefix)
        )
    }


def annotated(task: dict[str, Any], number: int, *choices: str, **more: Any) -> dict[str, Any]:
    """A task as Label Studio exports it, after one person has chosen."""
    decided = {
        "id": 100 + number,
        "completed_by": 1,
        "result": [
            {
                "id": f"x{number}",
                "type": "choices",
                "value": {"choices": [choice]},
                "origin": "manual",
                "to_name": "image",
                "from_name": "class",
            }
            for choice in choices
        ],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-11-25T21:52:49.513742Z",
        "updated_at": "2026-11-25T21:52:49.513758Z",
        "draft_created_at": None,
        "lead_time": 3.1,
        "prediction": {},
        "result_count": 1,
        "unique_id": f"0b9ddfa9-0000-4000-8000-{number:012}",
        "import_id": None,
        "last_action": None,
        "task": number,
        "project": 7,
        "updated_by": 1,
        "parent_prediction": None,
        "parent_annotation": None,
        "last_created_by": None,
    }
    return {
        "id": number,
        "annotations": [decided | more],
        "file_upload": "0a1b2c3d-tasks.json",
        "drafts": [],
        "meta": {},
        "created_at": "2026-11-25T21:50:00.000000Z",
        "updated_at": "2026-11-25T21:52:49.600000Z",
        "inner_id": number,
        "total_annotations": 1,
        "cancelled_annotations": 0,
        "total_predictions": 1,
        "comment_count": 0,
        "project": 7,
        "comment_authors": [],
        **task,
        "predictions": [10 + number],
    }


def test_a_round_trip_through_label_studio(
    stack: Deployed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tasks.json"
    assert run("export", "cars", "--label-studio", "-o", str(path)) == 0
    tasks = json.loads(path.read_text("utf-8"))
    bucket = stack.bucket.name
    assert [task["data"]["image"] for task in tasks] == [
        f"s3://{bucket}/input/cars/{name}" for name in NAMES
    ]
    [prediction] = tasks[0]["predictions"]
    assert (prediction["model_version"], prediction["score"]) == (RUN, 0.6)
    view = ElementTree.parse(tmp_path / "tasks.xml").getroot()  # noqa: S314  our own file
    choices = view.find("Choices")
    assert choices is not None
    # The prediction is shown where the interface has its names and this choice.
    [shown] = prediction["result"]
    assert (shown["from_name"], shown["to_name"]) == (choices.get("name"), choices.get("toName"))
    assert choices.get("choice") == "single"
    offered = [choice.get("alias") or choice.get("value") for choice in choices]
    assert offered == [*card(RUN, "cars").classes, "_none"]

    back = tmp_path / "project-7.json"
    decided = [
        annotated(tasks[0], 1, "bmw"),
        annotated(tasks[1], 2, "_none"),
        annotated(tasks[2], 3, "bmw", was_cancelled=True),
        annotated({"data": {"image": f"s3://{bucket}/input/cars/gone.jpg"}}, 4, "bmw"),
        annotated({"data": {"image": "s3://other/input/cars/a.jpg"}}, 5, "bmw"),
        annotated({"data": {"image": f"s3://{bucket}/input/cars/x.jpg"}}, 6, "bmw", "audi"),
    ]
    back.write_text(json.dumps(decided), encoding="utf-8")
    capsys.readouterr()
    assert run("import", str(back), "--as", "cars") == 0
    assert corrections(stack) == {
        "bmw a_b_.jpg": NAMES[0].encode(),
        "_none two.jpg": NAMES[1].encode(),
    }
    said = capsys.readouterr().out
    assert said.startswith("2 pictures are corrections now\n")
    assert "not in the bucket: 1\n  input/cars/gone.jpg" in said
    assert "outside the dataset" in said
    assert "not one label but 2" in said


def test_importing_again_changes_nothing_and_the_last_label_holds(
    stack: Deployed, tmp_path: Path
) -> None:
    uri = f"s3://{stack.bucket.name}/input/cars/three.jpg"

    def imported(label: str) -> None:
        path = tmp_path / "project.json"
        path.write_text(json.dumps([annotated({"data": {"image": uri}}, 1, label)]))
        run("import", str(path), "--as", "cars")

    for label in ("bmw", "bmw", "audi"):
        imported(label)
        assert list(corrections(stack)) == [f"{label} three.jpg"]
    # Another picture of the same file name has another correction.
    stack.put("input/cars/other/three.jpg", b"other")
    path = tmp_path / "project.json"
    other = {"data": {"image": uri.replace("three", "other/three")}}
    path.write_text(json.dumps([annotated(other, 1, "bmw")]))
    run("import", str(path), "--as", "cars")
    assert len(list(stack.bucket.entries("corrections/cars/"))) == 2


@pytest.mark.parametrize("form", ["manifest", "coco"])
def test_predictions_are_not_read_back_but_decisions_are(
    stack: Deployed, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "exported"
    run("export", "cars", f"--{form}", "-o", str(path))
    if form == "manifest":
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert rows[0]["class-metadata"]["class-name"] == "audi"
    code = main(["--stack", "droplens", "import", str(path), "--as", "cars"])
    assert code == ExitCode.OK
    assert corrections(stack) == {}
    if form == "manifest":
        rows[1]["class-metadata"] |= {"human-annotated": "yes", "class-name": "bmw"}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        document = json.loads(path.read_text("utf-8"))
        document["categories"].append({"id": 9, "name": "bmw"})
        del document["annotations"][1]["score"]
        document["annotations"][1]["category_id"] = 9
        path.write_text(json.dumps(document), encoding="utf-8")
    run("import", str(path), "--as", "cars")
    assert corrections(stack) == {"bmw two.jpg": NAMES[1].encode()}


@pytest.mark.parametrize("label", ["..", "a/b", "a\\b", ".hidden", "a\u202eb"])
def test_a_hostile_label_is_refused_before_anything_is_copied(
    stack: Deployed, tmp_path: Path, label: str
) -> None:
    tasks = [
        annotated({"data": {"image": f"s3://{stack.bucket.name}/input/cars/{name}"}}, n, given)
        for n, (name, given) in enumerate(((NAMES[2], "bmw"), (NAMES[0], label)))
    ]
    path = tmp_path / "project.json"
    path.write_text(json.dumps(tasks))
    code = main(["--stack", "droplens", "import", str(path), "--as", "cars"])
    if label == "a\u202eb":  # the row alone is refused, as in a label list
        assert code == ExitCode.OK
        assert list(corrections(stack)) == ["bmw three.jpg"]
    else:
        assert code == ExitCode.BAD_INPUT
        assert corrections(stack) == {}


@pytest.mark.parametrize(
    "data",
    [b"", b"<xml/>", b"[{]", b"[]", b'{"annotations": [], "images": 5, "categories": []}'],
)
def test_a_file_of_another_kind_is_a_sentence(data: bytes) -> None:
    with pytest.raises(CommandError) as failed:
        labelling_tools.read(data, "bucket")
    assert failed.value.code is ExitCode.BAD_INPUT


@pytest.mark.parametrize("data", [b"{", b"[[]]", b"[5]", b'{"source-ref": 5}', b'[{"data": []}]'])
def test_rows_of_another_kind_are_refused_alone(data: bytes) -> None:
    found = labelling_tools.read(data, "bucket")
    assert found.rows == {}
    assert len(found.refused) == 1


def test_options_are_checked(stack: Deployed, tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    assert main(["--stack", "droplens", "export", "cars", "-o", path]) == ExitCode.USAGE
    both = ["--coco", "--manifest"]
    assert main(["--stack", "droplens", "export", "cars", *both, "-o", path]) == ExitCode.USAGE
    assert main(["--stack", "droplens", "import", path, "--as", "cars"]) == ExitCode.BAD_INPUT
    (tmp_path / "x").write_text("[]")
    assert main(["--stack", "droplens", "import", path, "--as", "C!"]) == ExitCode.USAGE

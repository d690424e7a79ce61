"""`droplens` on a running cloud: upload, status, classify, results; corrections in the next run."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployed_cloud import CLASSES, Cloud
from tests.support.drawn_images import drawing
from tests.support.inventories import csv_file, row, store

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with an unreadable file among them."""
    root = tmp_path_factory.mktemp("shapes")
    for label in CLASSES:
        (root / label).mkdir()
        for seed in range(14):
            (root / label / f"{seed:02}.jpg").write_bytes(drawing(label, 7000 + seed))
    (root / CLASSES[0] / "torn.jpg").write_bytes(b"torn")
    return root


@pytest.fixture(scope="module")
def droplens(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Calls the command with the local cloud as its target, in a folder of its own."""
    target = tmp_path_factory.mktemp("settings") / "target.toml"
    environment = cloud.environment | {
        "DROPLENS_TARGET": str(target),
        "PYTHONPATH": f"{cloud.root}:{cloud.root / 'layers/droplens'}",
    }
    python = str(cloud.root / ".local/venv/cli/bin/python")

    def droplens(
        *words: str, code: int = 0, given: str = "", **changed: str
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [python, "-m", "droplens_cli", *words],
            cwd=target.parent,
            env=environment | changed,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    place = cloud.root / cloud.environment["DROPLENS_LOCAL"]
    droplens("target", "local", "--folder", str(place))
    return droplens


def test_a_folder_becomes_a_model_and_photos_get_answers(
    cloud: Cloud, droplens: Command, folder: Path, tmp_path: Path
) -> None:
    said = droplens("upload", str(folder), "--as", "shapes", "--watch").stdout
    assert "torn.jpg: " in said
    assert said.splitlines()[-1].startswith("live")
    assert "is complete already" in droplens("upload", str(folder), "--as", "shapes").stdout

    shown = json.loads(droplens("status", "--json").stdout)
    [shapes] = [one for one in shown["classifiers"] if one["name"] == "shapes"]
    assert shapes["newest_run"]["status"] == "live"

    photos = tmp_path / "photos"
    photos.mkdir()
    for seed, label in enumerate(CLASSES):
        (photos / f"{label}.jpg").write_bytes(drawing(label, 7100 + seed))
    lines = droplens("classify", str(photos), "--as", "shapes", "--json").stdout.splitlines()
    answers = {Path(one["photo"]).stem: one for one in map(json.loads, lines)}
    assert {name: one["prediction"]["label"] for name, one in answers.items()} == {
        label: label for label in CLASSES
    }
    droplens("results", "shapes", "-o", str(tmp_path / "r.csv"))
    assert len((tmp_path / "r.csv").read_text("utf-8").splitlines()) == 1 + len(CLASSES)


def test_the_next_run_takes_the_corrections(
    cloud: Cloud, droplens: Command, folder: Path, tmp_path: Path
) -> None:
    wrong = shutil.copytree(folder, tmp_path / "wrong")
    mistaken = wrong / CLASSES[1] / "mistaken.jpg"
    mistaken.write_bytes(drawing(CLASSES[0], 7200))
    given = {
        f"{CLASSES[0]}/mistaken.jpg": mistaken.read_bytes(),
        f"{CLASSES[2]}/new.jpg": drawing(CLASSES[2], 7201),
        "_none/plain.jpg": drawing("stripes", 7202, (300, 90)),
        "a\u202eb/hidden.jpg": drawing(CLASSES[2], 7203),
        f"{CLASSES[2]}/torn.jpg": b"torn",
    }
    for path, body in given.items():
        cloud.put(f"corrections/shapes/{path}", body)
    droplens("upload", str(wrong), "--as", "shapes", "--watch")
    run = cloud.runs("shapes")[-1]
    packed: dict[str, Any] = json.loads(
        cloud.get(f"packed/shapes/{run['run_id']}/dataset.json") or b""
    )
    counts = packed["counts"]
    assert packed["classes"] == list(CLASSES)
    assert (counts["corrections"], counts["none"], counts["overruled"]) == (2, 1, 1)
    assert [entry["name"] for entry in packed["overruled"]] == [f"{CLASSES[1]}/mistaken.jpg"]
    codes = {entry["code"] for entry in packed["skipped"]}
    assert codes == {"correction.label", "correction.unreadable"}


@pytest.fixture
def operator(cloud: Cloud, droplens: Command) -> Iterator[Callable[..., Command]]:
    """Calls the command as a user with the managed policies that the outputs name."""
    iam, name = cloud.client("iam"), "operator"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    environment = {
        "AWS_ENDPOINT_URL": cloud.url,
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_DEFAULT_REGION": cloud.keys["AWS_REGION"],
    }
    attached = []

    def operator(*outputs: str) -> Command:
        for output in outputs:
            attached.append(cloud.outputs[output])
            iam.attach_user_policy(UserName=name, PolicyArn=attached[-1])
        return partial(droplens, "--stack", "droplens", **environment)

    yield operator
    for arn in attached:
        iam.detach_user_policy(UserName=name, PolicyArn=arn)
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=name)


def test_pictures_of_another_bucket_are_classified_where_they_are(
    cloud: Cloud,
    operator: Callable[..., Command],
    live_patterns: dict[str, Any],
    tmp_path: Path,
) -> None:
    bucket, out = "photographs", tmp_path / "rows.jsonl"
    droplens = operator("OperatorPolicyArn")
    cloud.client("s3").create_bucket(Bucket=bucket)
    pictures = {f"2026/{label} +{n}.jpg": label for n, label in enumerate(CLASSES)}
    for seed, (key, label) in enumerate(pictures.items()):
        cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=drawing(label, 8000 + seed))
    cloud.client("s3").put_object(Bucket=bucket, Key="2026/torn.jpg", Body=b"torn")

    droplens("classify", "--prefix", f"s3://{bucket}/2025/", "--as", "patterns", "--yes", code=3)
    classify = ("classify", "--prefix", f"s3://{bucket}/2026/", "--as", "patterns", "--yes")
    assert "AWS does not allow it" in droplens(*classify, code=1).stderr
    droplens = operator("InferencePolicyArn")
    cloud.client("s3").create_bucket(Bucket="inventories")
    file = csv_file([row(bucket, key) for key in pictures])
    listed = store(cloud.client("s3"), "inventories", bucket, file)
    wants = ("classify", "--manifest", listed, "--as", "patterns")
    assert f"{len(pictures)} objects" in droplens(*wants, given="n\n", code=1).stderr
    said = droplens(*classify, "-o", str(out)).stderr
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert {row["key"]: row["label"] for row in rows} == {**pictures, "2026/torn.jpg": None}
    assert {row["run_id"] for row in rows} == {live_patterns["run_id"]}
    # Once more costs no container: every part has its rows.
    job = said.split("--resume ")[1].split("`")[0]
    again = droplens("classify", "--resume", job, "-o", str(tmp_path / "again.jsonl"))
    assert "4 rows" in again.stderr
    assert (tmp_path / "again.jsonl").read_bytes() == out.read_bytes()

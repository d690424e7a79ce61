"""A dataset is checked before anything is sent, sent once, and completed last."""

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from droplens.domain import naming
from droplens_cli import upload as uploading
from droplens_cli.app import main
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.folder_check import LocalDataset, LocalFile, check, local_dataset, unreadable
from droplens_cli.upload import Upload
from tests.support.command import run
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture
from tests.support.photographs import CLASSES, PER_CLASS, draw

PICTURES = len(CLASSES) * PER_CLASS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def folder(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "pictures")


def keys(stack: Deployed, prefix: str = "datasets/") -> set[str]:
    return {entry.key for entry in stack.bucket.entries(prefix)}


def checked(source: Path) -> dict[str, Any]:
    return check(source, "cars", {}, lambda *_: None)


# --- the check


def test_it_counts_what_packing_would_count(folder: Path) -> None:
    first = folder / "barns" / "00000.jpg"
    (folder / "barns" / "copy.jpg").write_bytes(first.read_bytes())
    (folder / "boats" / "torn.jpg").write_bytes(first.read_bytes()[:3000])
    (folder / "boats" / "notes.txt").write_text("no picture")
    (folder / "mills" / "same.jpg").write_bytes((folder / "boats" / "00001.jpg").read_bytes())
    manifest = checked(folder)
    counts = manifest["counts"]
    assert manifest["classes"] == list(CLASSES)
    # The copy is used once, and what is in two classes not at all.
    assert counts["train"] + counts["validation"] == PICTURES - 1
    assert (counts["duplicates"], counts["conflicts"], counts["skipped"]) == (1, 2, 2)
    assert [entry["name"] for entry in unreadable(manifest)] == ["boats/torn.jpg"]


@pytest.mark.parametrize("stack", [{"MaxBadShare": "0.01"}, {"MaxDatasetPictures": "3"}])
def test_the_stack_s_own_limits_hold(folder: Path, stack: dict[str, str]) -> None:
    (folder / "boats" / "torn.jpg").write_bytes(b"torn")
    with pytest.raises(CommandError, match="more than") as failed:
        check(folder, "cars", stack, lambda *_: None)
    assert failed.value.code is ExitCode.BAD_INPUT


def test_a_refused_dataset_sends_nothing(
    deployed: Deployed,  # noqa: F811
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for label in CLASSES[1:]:
        shutil.rmtree(folder / label)
    code = main(["--stack", "droplens", "upload", str(folder), "--as", "cars"])
    assert code == ExitCode.BAD_INPUT
    assert "has one class ('barns')" in capsys.readouterr().err
    assert keys(deployed, "") == set()


def test_checking_only_needs_no_target(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DROPLENS_TARGET", str(folder / "none.toml"))
    assert run("upload", str(folder), "--as", "cars", "--check-only", target=()) == 0
    assert f"{PICTURES} pictures of 3 classes" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["Cars", "a/b", "", "x" * 32])
def test_a_name_that_no_classifier_can_have_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(CommandError, match="cannot be a classifier's name"):
        local_dataset(folder, name)


def test_sources_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="does not exist"):
        local_dataset(tmp_path / "none", "cars")
    (tmp_path / "a.rar").write_bytes(b"")
    with pytest.raises(CommandError, match=r"neither a folder nor an archive of \.tar\.gz"):
        local_dataset(tmp_path / "a.rar", "cars")


def test_a_name_that_s3_cannot_have_is_refused_before_anything_is_sent(folder: Path) -> None:
    odd = os.fsdecode(bytes(folder / "barns") + b"/\xff.jpg")
    shutil.copy(folder / "barns" / "00000.jpg", odd)
    with pytest.raises(CommandError, match="cannot be a key of S3") as failed:
        local_dataset(folder, "cars")
    assert "\udcff" not in failed.value.sentence


# --- the upload


def test_the_marker_comes_last_and_names_the_run(
    deployed: Deployed,  # noqa: F811
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / ".hidden").mkdir()
    shutil.copy(folder / "barns" / "00000.jpg", folder / ".hidden")
    shutil.copy(folder / "barns" / "00000.jpg", folder / "beside.jpg")
    (folder / "boats" / "torn.jpg").write_bytes(b"torn")
    assert run("upload", str(folder), "--as", "cars") == 0
    said = capsys.readouterr().out
    found = keys(deployed)
    assert len(found) == PICTURES + 1
    assert "datasets/cars/barns/00000.jpg" in found
    marker = deployed.bucket.head("datasets/cars/_READY")
    identity = f"datasets/cars/_READY\n{marker.version_id or marker.etag}"
    assert naming.run_id(marker.stored_at, identity) in said
    assert "boats/torn.jpg: " in said
    assert f"uploaded {PICTURES} files, 0 were there already" in said


def test_the_same_dataset_again_sends_nothing_and_starts_nothing(
    deployed: Deployed,  # noqa: F811
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("upload", str(folder), "--as", "cars")
    before = deployed.bucket.head("datasets/cars/_READY")
    run("upload", str(folder), "--as", "cars", "--no-check")
    said = capsys.readouterr().out
    assert f"uploaded 0 files, {PICTURES} were there already" in said
    assert "is complete already" in said
    assert deployed.bucket.head("datasets/cars/_READY") == before
    run("upload", str(folder), "--as", "cars", "--no-check", "--again")
    assert "begins" in capsys.readouterr().out.splitlines()[-1]
    # The digest is the same as before: once more nothing is done.
    run("upload", str(folder), "--as", "cars", "--no-check")
    assert "is complete already" in capsys.readouterr().out


def test_an_interrupted_upload_goes_on_where_it_was(
    deployed: Deployed,  # noqa: F811
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploading, "THREADS", 1)
    put = Upload._put
    calls: list[str] = []

    def interrupted(self: Upload, file: LocalFile, metadata: dict[str, str]) -> None:
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(file.key)
        put(self, file, metadata)

    monkeypatch.setattr(Upload, "_put", interrupted)
    dataset = local_dataset(folder, "cars")
    with pytest.raises(KeyboardInterrupt):
        Upload(deployed.bucket, dataset).send(lambda _: None, again=False)
    assert keys(deployed) == set(calls)
    monkeypatch.setattr(Upload, "_put", put)
    sent = Upload(deployed.bucket, dataset).send(lambda _: None, again=False)
    assert (sent.sent, sent.kept, sent.is_new) == (PICTURES - 5, 5, True)


def test_a_file_of_the_same_size_but_other_bytes_is_sent(
    deployed: Deployed,  # noqa: F811
    folder: Path,
) -> None:
    dataset = local_dataset(folder, "cars")
    Upload(deployed.bucket, dataset).send(lambda _: None, again=False)
    path = folder / "barns" / "00000.jpg"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    sent = Upload(deployed.bucket, dataset).send(lambda _: None, again=False)
    assert (sent.sent, sent.is_new) == (1, True)
    assert deployed.bucket.read("datasets/cars/barns/00000.jpg")[0] == path.read_bytes()


def test_where_an_etag_is_no_md5_the_digest_in_the_metadata_counts(
    deployed: Deployed,  # noqa: F811
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a KMS key, and for objects sent in parts."""
    monkeypatch.setattr(uploading, "_IN_PARTS_FROM", 1000)
    dataset = local_dataset(folder, "cars")
    client = deployed.s3
    sent = Upload(deployed.bucket, dataset).send(lambda _: None, again=False)
    assert sent.sent == PICTURES
    key = "datasets/cars/barns/00000.jpg"
    # Stored anew in parts: its ETag is no MD5 of the file.
    metadata = client.head_object(Bucket=deployed.bucket.name, Key=key)["Metadata"]
    begun = client.create_multipart_upload(Bucket=deployed.bucket.name, Key=key, Metadata=metadata)
    body = (folder / "barns" / "00000.jpg").read_bytes()
    part = client.upload_part(
        Bucket=deployed.bucket.name, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=body
    )
    parts: Any = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    client.complete_multipart_upload(
        Bucket=deployed.bucket.name, Key=key, UploadId=begun["UploadId"], MultipartUpload=parts
    )
    assert deployed.bucket.head(key).etag.endswith("-1")
    again = Upload(deployed.bucket, dataset).send(lambda _: None, again=False)
    assert (again.sent, again.kept) == (0, PICTURES)


def test_what_an_earlier_folder_had_is_named_and_deleted_on_request(
    deployed: Deployed,  # noqa: F811
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deployed.put("datasets/cars/barns/older.jpg")
    run("upload", str(folder), "--as", "cars", "--no-check")
    assert "also keeps 1 objects" in capsys.readouterr().out
    assert "datasets/cars/barns/older.jpg" in keys(deployed)
    run("upload", str(folder), "--as", "cars", "--no-check", "--delete")
    assert "removed from the dataset: 1 objects" in capsys.readouterr().out
    assert keys(deployed) == {one.key for one in local_dataset(folder, "cars").files} | {
        "datasets/cars/_READY"
    }


def test_a_label_list_completes_its_dataset(deployed: Deployed, folder: Path) -> None:  # noqa: F811
    rows = [
        f"{path.relative_to(folder).as_posix()},{path.parent.name}"
        for path in sorted(folder.rglob("*.jpg"))
    ]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]))
    dataset = local_dataset(folder, "cars")
    assert dataset.completing_key == "datasets/cars/labels.csv"
    order: list[str] = []
    run("upload", str(folder), "--as", "cars")
    assert "datasets/cars/_READY" not in keys(deployed)
    assert len(keys(deployed)) == PICTURES + 1
    order += [one.key for one in dataset.every]
    assert order[-1] == "datasets/cars/labels.csv"


def test_an_archive_is_one_object(deployed: Deployed, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*.jpg"):
            file.write(path, path.relative_to(folder).as_posix())
    run("upload", str(archive), "--as", "cars")
    assert keys(deployed) == {"datasets/cars.zip"}
    before = deployed.bucket.head("datasets/cars.zip")
    run("upload", str(archive), "--as", "cars", "--no-check")
    assert deployed.bucket.head("datasets/cars.zip") == before


def test_the_last_file_is_never_among_the_first() -> None:
    last = LocalFile(Path("labels.csv"), "datasets/cars/labels.csv", 1)
    first = LocalFile(Path("a.jpg"), "datasets/cars/a.jpg", 1)
    dataset = LocalDataset(classifier="cars", archive=None, files=(first,), last=last)
    assert dataset.every == (first, last)

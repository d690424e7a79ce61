"""`droplens forget` removes an image and what was made from it, and nothing else."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from droplens.domain import layout
from droplens.domain.inference_job import InferenceJob, from_lines, job_key, to_lines
from droplens.domain.run import RunKey, Status
from droplens.records.digests import digest_line
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.forget import inferred, removal, versions
from droplens_cli.forget.traces import Finder
from droplens_cli.stack import Stack
from droplens_cli.target import Target
from tests.support.command import run
from tests.support.deployed_stack import Deployed, deployed  # noqa: F401  a fixture
from tests.support.evaluations import evaluation
from tests.support.reviews import review

KEY = "input/cars/a.jpg"
RUN = RunKey("cars", "20261122-120000-1a2b3c")
LATER = RunKey("cars", "20261123-120000-1a2b3c")
RECORDS = f"packed/cars/{RUN.run_id}/train/train.rec"
PAGE = layout.report_key("cars", RUN.run_id)
JOB_ID = "20261127-120000-1a2b3c"
ONE, OTHER = b"the picture's bytes", b"another one's bytes"


class Bucket:
    """The versioned bucket of the stack, with its runs."""

    def __init__(self, deployed: Deployed) -> None:  # noqa: F811
        self.deployed = deployed
        self.name = deployed.outputs["BucketName"]
        deployed.s3.put_bucket_versioning(
            Bucket=self.name, VersioningConfiguration={"Status": "Enabled"}
        )

    def result(self, image: str, place: str = "", **more: Any) -> None:
        """Write a result of an image, at its own place or another one."""
        document = {"schema": "droplens.result.v2", "image": {"key": image}, **more}
        key = place or layout.result_key(image, "cars")
        self.deployed.put(key, json.dumps(document).encode())

    def packed(
        self,
        key: RunKey,
        *bodies: bytes,
        status: Status | None = Status.LIVE,
        dataset: str = "datasets/cars/",
    ) -> None:
        """A run whose training records 0, 1, ... were made from files with these bytes.

        status: None leaves it in progress.
        """
        self.deployed.runs.open(key, {"key": dataset})
        prefix = layout.packed_prefix(key.classifier, key.run_id)
        lines = [
            digest_line(hashlib.sha256(body).hexdigest(), "train", record)
            for record, body in enumerate(bodies)
        ]
        self.deployed.put(f"{prefix}digests.txt", b"".join(lines))
        self.deployed.put(f"{prefix}dataset.json", b"{}")
        for channel in ("train", "validation"):
            self.deployed.put(f"{prefix}{channel}/{channel}.rec", b"records")
        if status is not None:
            self.deployed.runs.end(key, status)

    def inferred(self, *images: str, source: str = "", job_id: str = JOB_ID) -> InferenceJob:
        """A job of batch inference over these objects, of which the first part has its rows."""
        job = InferenceJob(
            classifier="cars",
            job_id=job_id,
            model="training/cars/model.tar.gz",
            card={},
            bucket=source or self.name,
            source="input/",
            images=len(images),
        )
        lines = [{"key": image, "bytes": 1} for image in images]
        self.deployed.put(job_key("cars", job_id), job.to_json())
        for key in (job.images_key(0), job.images_key(1), job.rows_key(0)):
            self.deployed.put(key, to_lines(lines))
        return job

    def named_in(self, key: str) -> list[list[str]]:
        """The images that each version of a list or of rows names."""
        found = versions.versions_of(self.deployed.bucket, key)
        bodies = [b"".join(versions.parts(self.deployed.bucket, one) or ()) for one in found]
        return [[line["key"] for line in from_lines(body)] for body in bodies]

    def all(self) -> dict[str, int]:
        """The number of versions and delete markers by key."""
        counts: dict[str, int] = {}
        for one in versions.versions(self.deployed.bucket, ""):
            counts[one.key] = counts.get(one.key, 0) + 1
        return counts

    def finder(self) -> Finder:
        stack = Stack(Target(stack="droplens"))
        return Finder(stack.bucket, stack.reviews, stack.all_runs)

    def forget(self, settle: Callable[[], None], key: str = KEY) -> removal.Removed:
        """Forget the image as the command does, and meanwhile do what `settle` does."""
        finder = self.finder()
        return removal.remove(finder, [key], finder.find([key]), with_datasets=False, settle=settle)


@pytest.fixture
def bucket(deployed: Deployed) -> Bucket:  # noqa: F811
    return Bucket(deployed)


@pytest.fixture
def put(deployed: Deployed) -> Callable[..., None]:  # noqa: F811
    return deployed.put


def forget(*words: str, code: int = ExitCode.OK) -> None:
    assert run("forget", *words, "--yes", "--no-wait") == code


def test_everything_made_from_the_picture_goes_and_nothing_else(
    bucket: Bucket, put: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    stays = {
        "input/cars/a.jpg.jpg": OTHER,
        "input/cars/b.jpg": OTHER,
        "corrections/cars/audi/b.jpg": OTHER,
        # As long as the picture, and another one.
        "corrections/cars/audi/c.jpg": ONE[::-1],
        "datasets/cars/audi/a.jpg": ONE,
        "datasets/cars/audi/b.jpg": OTHER,
    }
    for key, body in stays.items():
        put(key, body)
    bucket.result("input/cars/b.jpg")
    # The default classifier's of another picture, at the place that this one's would have.
    bucket.result("input/a.jpg", place=layout.other_result_key(KEY, "cars"))
    before = bucket.all()

    put(KEY, b"its first version")
    put(KEY, ONE)
    for _ in range(2):
        bucket.result(KEY)
    bucket.result(KEY, place="results/birds/cars/a.jpg.json")
    put("corrections/birds/crow/found-by-its-bytes.jpg", ONE)
    put("corrections/cars/bmw/of-its-first-version.jpg", b"its first version")
    put(layout.correction_key("cars", "bmw", KEY), b"found by its name")
    bucket.deployed.s3.delete_object(
        Bucket=bucket.name, Key="corrections/cars/bmw/of-its-first-version.jpg"
    )
    reviews = Stack(Target(stack="droplens")).reviews
    assert reviews is not None
    for image in (KEY, "input/cars/b.jpg"):
        for model in ("20261122-120000-1a2b3c", "20261123-120000-1a2b3c"):
            assert reviews.enter(review(key=image, model=model))
    assert run("forget", KEY, "--dry-run") == ExitCode.OK
    assert bucket.all()[KEY] == 2
    assert len(reviews.of_image(KEY)) == 2
    forget(KEY)
    assert bucket.all() == before
    assert (len(reviews.of_image(KEY)), len(reviews.of_image("input/cars/b.jpg"))) == (0, 2)
    told = capsys.readouterr().out
    assert "the first datasets/cars/audi/a.jpg" in told
    assert "removed: results: 2 keys, 3 with all versions" in told
    forget(KEY)
    assert bucket.all() == before
    assert "nothing was there to remove" in capsys.readouterr().out


def test_equal_files_of_datasets_go_where_that_is_asked_for(
    bucket: Bucket, put: Callable[..., None]
) -> None:
    put(KEY, ONE)
    put("datasets/cars/audi/a.jpg", ONE)
    put("datasets/cars/audi/b.jpg", OTHER)
    forget(KEY, "--datasets")
    assert set(bucket.all()) == {"datasets/cars/audi/b.jpg"}


def test_a_picture_of_a_dataset_is_forgotten_by_its_own_key(
    bucket: Bucket, put: Callable[..., None]
) -> None:
    put("datasets/cars/audi/a.jpg", ONE)
    put("corrections/cars/bmw/a.jpg", ONE)
    put("datasets/cars/_READY")
    forget("datasets/cars/audi/a.jpg")
    assert set(bucket.all()) == {"datasets/cars/_READY"}


@pytest.mark.parametrize("is_shown", [True, False])
def test_records_of_ended_runs_go_and_pages_that_show_the_picture(
    bucket: Bucket,
    put: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    is_shown: bool,
) -> None:
    put(KEY, ONE)
    bucket.packed(RUN, OTHER, ONE)
    bucket.packed(LATER, OTHER)
    put(PAGE, b"a page")
    put(layout.evaluation_key("cars", RUN.run_id), json.dumps(evaluation(["a", "b"])).encode())
    suspect = {"record": 1 if is_shown else 0, "likely": "b"}
    put(layout.suspects_key("cars", RUN.run_id), json.dumps(suspect).encode())
    before = set(bucket.all())
    forget(KEY)
    gone = {KEY, RECORDS} | ({PAGE} if is_shown else set())
    assert before - set(bucket.all()) == gone
    told = capsys.readouterr().out
    assert f"run {RUN.run_id} (live) was trained on it" in told
    assert "train cars anew without it" in told
    assert LATER.run_id not in told


def test_a_page_whose_pictures_are_not_known_goes(bucket: Bucket, put: Callable[..., None]) -> None:
    put(KEY, ONE)
    bucket.packed(RUN, ONE, status=Status.REPLACED)
    put(PAGE, b"a page")
    forget(KEY)
    assert PAGE not in bucket.all()


def test_what_a_run_in_progress_needs_stays_until_it_has_ended(
    bucket: Bucket, put: Callable[..., None]
) -> None:
    put(KEY, ONE)
    bucket.result(KEY)
    bucket.packed(RUN, ONE, status=None)
    for _ in range(2):
        with pytest.raises(CommandError, match=f"run {RUN.run_id} is in progress"):
            forget(KEY)
    there = bucket.all()
    assert RECORDS in there
    assert there[KEY] == 2  # the picture, below one delete marker
    assert layout.result_key(KEY, "cars") not in there
    bucket.deployed.runs.end(RUN, Status.FAILED)
    forget(KEY)
    assert not {KEY, RECORDS} & set(bucket.all())


def test_a_run_that_may_be_packing_the_picture_is_waited_for(
    bucket: Bucket, put: Callable[..., None]
) -> None:
    """Its records cannot be searched yet, and without the picture's bytes never could."""
    put(KEY, ONE)
    put("corrections/cars/audi/a.jpg", ONE)
    bucket.deployed.runs.open(RUN, {"key": "datasets/cars/"})
    bucket.deployed.runs.open(RunKey("birds", RUN.run_id), {"key": "datasets/birds/"})
    for _ in range(2):
        with pytest.raises(CommandError, match=f"cars: run {RUN.run_id} is in progress") as left:
            forget(KEY)
        assert "birds" not in left.value.sentence
    bucket.deployed.runs.end(RUN, Status.FAILED)
    forget(KEY)
    assert bucket.all() == {}


def test_a_run_without_a_list_of_digests_is_named(
    bucket: Bucket, put: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    put(KEY, ONE)
    bucket.deployed.runs.open(RUN, {"key": "datasets/cars/"})
    bucket.deployed.runs.end(RUN, Status.LIVE)
    put(f"packed/cars/{RUN.run_id}/dataset.json", b"{}")
    forget(KEY)
    assert f"cannot be searched for it, the first cars {RUN.run_id}" in capsys.readouterr().out


def test_an_archive_that_still_has_the_picture_is_named(
    bucket: Bucket, put: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    put(KEY, ONE)
    bucket.packed(RUN, ONE, dataset="datasets/cars.zip")
    forget(KEY)
    assert "datasets/cars.zip may still have it" in capsys.readouterr().out


def test_a_result_that_is_stored_late_goes_too(bucket: Bucket, put: Callable[..., None]) -> None:
    put(KEY, ONE)
    waits = []

    def settle() -> None:
        waits.append(datetime.now(UTC))
        bucket.result(KEY)
        put(layout.correction_key("cars", "audi", KEY), ONE)

    outcome = bucket.forget(settle)
    assert (len(waits), outcome.left, bucket.all()) == (1, [], {})


def test_a_version_that_arrives_meanwhile_goes_with_what_was_made_from_it(
    bucket: Bucket, put: Callable[..., None]
) -> None:
    put(KEY, ONE)
    arrivals = [b"a newer version"]

    def settle() -> None:
        if arrivals:
            put(KEY, arrivals.pop())
            put("corrections/cars/audi/of-the-newer.jpg", b"a newer version")

    outcome = bucket.forget(settle)
    assert (outcome.left, bucket.all()) == ([], {})


def test_a_version_is_read_once_however_often_all_is_looked_for(
    bucket: Bucket, put: Callable[..., None]
) -> None:
    of_the_same_size = "corrections/cars/audi/other.jpg"
    put(KEY, ONE)
    put(of_the_same_size, OTHER)
    finder, read = bucket.finder(), list[str]()
    finder.bucket.client.meta.events.register(
        "provide-client-params.s3.GetObject", lambda params, **_: read.append(params["Key"])
    )
    first = finder.find([KEY])
    assert (finder.find([KEY]), sorted(read)) == (first, [of_the_same_size, KEY])
    put(KEY, b"a newer version")
    assert len(finder.find([KEY]).own) == 2
    assert read[2:] == [KEY]


def test_a_sender_that_does_not_stop_is_named(bucket: Bucket, put: Callable[..., None]) -> None:
    put(KEY, ONE)
    outcome = bucket.forget(lambda: put(KEY, ONE))
    assert outcome.left == [f"{KEY}: it is uploaded or classified again and again"]


@pytest.mark.parametrize("fails_at", [0, 2, 3])
def test_an_interrupted_removal_is_completed_by_another(
    bucket: Bucket, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    put(KEY, ONE)
    bucket.result(KEY)
    put("corrections/cars/audi/a.jpg", ONE)
    bucket.packed(RUN, ONE)
    remove, calls = versions.remove, []

    def interrupted(*given: Any) -> list[str]:
        calls.append(given)
        if len(calls) > fails_at:
            raise KeyboardInterrupt
        return remove(*given)

    with monkeypatch.context() as patch:
        patch.setattr(versions, "remove", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bucket.forget(lambda: None)
    forget(KEY)
    rest = set(bucket.all())
    assert {key for key in rest if not key.startswith("packed/")} == set()
    assert RECORDS not in rest


def test_a_folder_goes_once_its_name_is_typed(
    bucket: Bucket,
    put: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a", "b"):
        put(f"input/cars/ada/{name}.jpg", name.encode())
        bucket.result(f"input/cars/ada/{name}.jpg")
    put("input/cars/adam.jpg", OTHER)
    before = bucket.all()
    for typed in ("yes", "", "input/cars/"):
        monkeypatch.setattr("builtins.input", lambda _, typed=typed: typed)
        with pytest.raises(CommandError, match="nothing was removed"):
            run("forget", "input/cars/ada/", "--no-wait")
    assert bucket.all() == before
    monkeypatch.setattr("builtins.input", lambda _: "input/cars/ada/")
    assert run("forget", "input/cars/ada/", "--no-wait") == ExitCode.OK
    assert set(bucket.all()) == {"input/cars/adam.jpg"}
    assert "pictures: 2 keys" in capsys.readouterr().out


def test_lists_and_rows_of_batch_inference_are_written_anew_without_it(
    bucket: Bucket, put: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    put(KEY, ONE)
    other = bucket.inferred(KEY, source="photographs", job_id="20261127-130000-1a2b3c")
    put("inference/cars/20261127-140000-1a2b3c/notes.txt", b"of somebody's")
    job = bucket.inferred("input/cars/b.jpg", KEY, "input/cars/c.jpg")
    put(job.rows_key(0), to_lines([{"key": KEY}]))  # of an attempt that was thought lost
    forget(KEY)
    rest = ["input/cars/b.jpg", "input/cars/c.jpg"]
    assert bucket.named_in(job.images_key(0)) == bucket.named_in(job.images_key(1)) == [rest]
    assert bucket.named_in(job.rows_key(0)) == [[]]
    assert bucket.named_in(other.rows_key(0)) == [[KEY]]
    assert "written anew without it: 3 keys, 4 with all" in capsys.readouterr().out
    before = bucket.all()
    forget(KEY)
    assert bucket.all() == before


def test_rows_that_a_container_stores_late_go_too(bucket: Bucket, put: Callable[..., None]) -> None:
    put(KEY, ONE)
    job = bucket.inferred(KEY, "input/cars/b.jpg")

    def settle() -> None:
        put(job.rows_key(1), to_lines([{"key": KEY}]))

    assert bucket.forget(settle).left == []
    assert bucket.named_in(job.rows_key(1)) == [[]]


def test_a_list_that_another_command_rewrites_meanwhile_is_looked_at_again(
    bucket: Bucket, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(KEY, ONE)
    job = bucket.inferred(KEY, "input/cars/b.jpg", "input/cars/c.jpg")
    rewrite, others = inferred.rewrite, ["input/cars/b.jpg"]

    def late(*given: Any) -> bool:
        if others:
            bucket.inferred(KEY, *others, job_id=JOB_ID)
            others.clear()
        return rewrite(*given)

    monkeypatch.setattr(inferred, "rewrite", late)
    assert bucket.forget(lambda: None).left == []
    for key in (job.images_key(0), job.rows_key(0)):
        assert KEY not in [image for version in bucket.named_in(key) for image in version]
        assert bucket.named_in(key)[0] == ["input/cars/b.jpg"]


def test_a_file_that_cannot_be_searched_is_named(bucket: Bucket, put: Callable[..., None]) -> None:
    put(KEY, ONE)
    job = bucket.inferred(KEY)
    put(job.rows_key(0), b"no gzip")
    with pytest.raises(CommandError, match=rf"{job.rows_key(0)}, version .* cannot be searched"):
        forget(KEY)


def test_programs_get_json(
    bucket: Bucket, put: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    put(KEY, ONE)
    put("datasets/cars/audi/a.jpg", ONE)
    bucket.packed(RUN, ONE)
    assert run("forget", KEY, "--json", "--dry-run") == ExitCode.OK
    planned = json.loads(capsys.readouterr().out)
    assert planned["dry_run"]
    assert planned["removed"] == {}
    assert run("forget", KEY, "--json", "--yes", "--no-wait") == ExitCode.OK
    done = json.loads(capsys.readouterr().out)
    assert done["keys"] == [KEY]
    assert done["found"] == planned["found"]
    assert done["removed"]["pictures"] == {KEY: 2}
    assert done["removed"]["records"] == {RECORDS: 1}
    assert done["kept_copies"] == ["datasets/cars/audi/a.jpg"]
    assert done["runs"] == [
        {**RUN.as_key(), "status": "live", "channels": ["train"], "dataset": "datasets/cars/"}
    ]


def test_what_s3_refuses_is_left_and_named(
    bucket: Bucket, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(KEY, ONE)
    client = Stack.client

    def refused(**_: object) -> tuple[SimpleNamespace, dict[str, Any]]:
        error = {"Key": KEY, "VersionId": "v1", "Code": "AccessDenied", "Message": "it is locked"}
        return SimpleNamespace(status_code=200), {"Errors": [error]}

    def watched(stack: Stack, service: str) -> Any:
        made = client(stack, service)
        made.meta.events.register("before-call.s3.DeleteObjects", refused)
        return made

    monkeypatch.setattr(Stack, "client", watched)
    with pytest.raises(CommandError, match=f"{KEY}, version v1: it is locked"):
        forget(KEY)


def test_what_is_no_picture_is_refused(bucket: Bucket, put: Callable[..., None]) -> None:
    refused = {
        "models/cars/live.json": "names no picture",
        "input/": "names no picture",
        "input": "names no picture",
        "datasets/cars.zip": "completes a dataset",
        "datasets/cars/_READY": "completes a dataset",
    }
    for key, reason in refused.items():
        put(key)
        with pytest.raises(CommandError, match=reason):
            forget(key)
    assert bucket.all() == dict.fromkeys(refused, 1)

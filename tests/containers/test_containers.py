"""The real images, run as AWS runs them: packed, trained, served, stopped, and out of memory."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from tests.support.container_engine import CONFINED, ULIMITS, Containers, Ended
from tests.support.drawn_images import drawing
from tests.support.trainer import LABELS, drawn_records, lay_out

SIDE = 96
# Neither root's nor anybody's whom the image knows.
STRANGER = "54321:54321"
GRACE_SECONDS = 30
# Asks the server in the container whose loopback nobody else reaches.
CLIENT = """
import json, sys, threading, time, urllib.error, urllib.request
def ask(body=None, path="/invocations"):
    request = urllib.request.Request(f"http://127.0.0.1:8080{path}", body)
    request.add_header("Content-Type", "image/jpeg")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
for _ in range(600):
    try:
        if ask(path="/ping")[0] == 200: break
    except OSError: time.sleep(0.1)
else: sys.exit("no answer to /ping")
picture = sys.stdin.buffer.read()
answers = []
def add(): answers.append(ask(picture))
threads = [threading.Thread(target=add) for _ in range(int(sys.argv[1]))]
for thread in threads: thread.start()
for thread in threads: thread.join()
answers.append(ask(path="/ping"))
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders."""
    folder = tmp_path_factory.mktemp("pictures") / "in"  # which others than root may read
    folder.mkdir()
    for label in LABELS:
        (folder / label).mkdir()
        for seed in range(12):
            (folder / label / f"{seed}.jpg").write_bytes(drawing(label, seed, (120, 100)))
    return folder


def pack(containers: Containers, source: Path, out: Path, *options: str) -> Ended:
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    arguments = ("--source", "/in/", "--destination", "/out/", "--classifier", "c", "--run-id", "r")
    mounts = (f"--volume={source}:/in:ro", f"--volume={out}:/out")
    return containers.engine.run(
        containers.names["batch-prep"], arguments, *CONFINED, *mounts, *options
    )


def test_the_packing_image_packs_as_its_own_user(
    containers: Containers, pictures: Path, tmp_path: Path
) -> None:
    done = pack(containers, pictures, tmp_path / "out", "--memory=512m", "--cpus=1")
    assert done.exit_code == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "dataset.json").read_text("utf-8"))
    assert manifest["classes"] == sorted(LABELS)
    record = (tmp_path / "out" / "train" / "train.rec").stat()
    assert (record.st_uid, record.st_gid) == (1000, 1000)


def test_packing_out_of_memory_names_the_parameter(
    containers: Containers, pictures: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for label in ("a", "b"):
        (source / label).mkdir(parents=True)
        Image.effect_noise((300, 300), 40).save(source / label / "0.jpg")
    Image.new("RGB", (9900, 9900)).save(source / "a" / "large.png", compress_level=1)
    done = pack(containers, source, tmp_path / "out", "--memory=200m", "--memory-swap=200m")
    assert done.exit_code == 1, done.stderr
    assert "PackingMemoryMiB" in done.stderr
    failure = json.loads((tmp_path / "out" / "failure.json").read_text("utf-8"))
    assert "PackingMemoryMiB" in failure["message"]


def test_packing_stops_in_order_on_sigterm(containers: Containers, tmp_path: Path) -> None:
    data = BytesIO()
    Image.effect_noise((5000, 4000), 60).save(data, "JPEG")
    source, out = tmp_path / "source", tmp_path / "out"
    for number in range(200):
        (source / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        path = source / "ab"[number % 2] / f"{number}.jpg"
        if number:
            os.link(source / "a" / "0.jpg", path)
        else:
            path.write_bytes(data.getvalue())
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    arguments = ("--source", "/in/", "--destination", "/out/", "--classifier", "c", "--run-id", "r")
    mounts = (f"--volume={source}:/in:ro", f"--volume={out}:/out")
    with running(containers, "batch-prep", arguments, *CONFINED, *mounts) as name:
        wait_for_processes(containers, name, 2)
        assert stop(containers, name) == 143
        logged = containers.engine.call("logs", name)
    assert "stopped by signal 15" in logged.stdout + logged.stderr
    assert not (out / "dataset.json").exists()


def train(containers: Containers, base: Path, *options: str) -> Ended:
    """As SageMaker does: as root, which owns /opt/ml, and here without any network."""
    (base / "model").mkdir()
    (base / "output").mkdir()
    return containers.engine.run(
        containers.names["trainer"], ["train"],
        "--network=none", f"--volume={base}:/opt/ml", *options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(containers: Containers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that the image has trained."""
    base = tmp_path_factory.mktemp("training")
    shape = {"image_shape": f"3,{SIDE},{SIDE}"}
    lay_out(base, drawn_records(8), drawn_records(3, first_seed=100), hyperparameters=shape)
    done = train(containers, base, "--memory=2g", "--cpus=2")
    assert done.exit_code == 0, done.stdout + done.stderr
    return base / "model"


def test_the_trainer_trains_without_a_network(trained: Path) -> None:
    report = json.loads((trained / "training.json").read_text("utf-8"))
    assert report["accuracy"]["validation"] > 0.8


def test_training_out_of_memory_leaves_a_reason_that_names_the_parameter(
    containers: Containers, tmp_path: Path
) -> None:
    lay_out(tmp_path, drawn_records(8), drawn_records(3, first_seed=100))
    done = train(containers, tmp_path, "--memory=120m", "--memory-swap=120m")
    assert done.exit_code != 0
    failure = (tmp_path / "output" / "failure").read_text("utf-8")
    assert "TrainingInstanceType" in failure


@contextmanager
def running(
    containers: Containers, image: str, arguments: tuple[str, ...], *options: str
) -> Iterator[str]:
    """A container that is removed with the context."""
    name = f"droplens-{uuid4().hex}"
    engine = containers.engine
    engine.call(
        "run", "--detach", "--name", name, *ULIMITS, *options, containers.names[image], *arguments
    )
    try:
        yield name
    finally:
        engine.call("rm", "--force", name, check=False)


def serving(containers: Containers, model: Path, *options: str) -> AbstractContextManager[str]:
    """A container that serves as on a serverless endpoint: only /tmp can be written to."""
    mounts = ("--tmpfs=/tmp:rw,size=128m", f"--volume={model}:/opt/ml/model:ro")
    return running(containers, "trainer", (), *CONFINED, f"--user={STRANGER}", *mounts, *options)


def wait_for_processes(containers: Containers, name: str, more: int) -> None:
    """Wait until the container's first process has that many children."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        listed = containers.engine.call("top", name, "pid", check=False).stdout.splitlines()
        if len(listed) - 2 >= more:
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} has started no {more} processes")


def stop(containers: Containers, name: str) -> int:
    """SIGTERM, and the exit code: 137 for one that would not end."""
    engine = containers.engine
    engine.call("stop", "--time", str(GRACE_SECONDS), name)
    return int(engine.call("inspect", "--format={{.State.ExitCode}}", name).stdout)


def ask(containers: Containers, name: str, picture: bytes, times: int = 1) -> list[list[object]]:
    """Status and body of that many concurrent requests, and then of a health check."""
    engine = containers.engine
    done = subprocess.run(
        [*engine.command, "exec", "-i", name, "python", "-c", CLIENT, str(times)],
        env=engine.environment,
        input=picture,
        capture_output=True,
        check=False,
        timeout=240,
    )
    logged = engine.call("logs", name, check=False)
    assert done.returncode == 0, done.stderr.decode() + logged.stdout + logged.stderr
    answers: list[list[object]] = json.loads(done.stdout)
    return answers


def test_the_trainer_serves_as_a_stranger_and_stops_in_order(
    containers: Containers, trained: Path
) -> None:
    with serving(containers, trained, "--memory=1g") as name:
        [[status, body], ping] = ask(containers, name, drawing("rings", 200, (120, 100)))
        assert status == ping[0] == 200
        probabilities = json.loads(str(body))
        assert max(probabilities) == probabilities[LABELS.index("rings")]
        assert stop(containers, name) == 0


def test_the_largest_pictures_at_once_do_not_kill_the_smallest_endpoint(
    containers: Containers, trained: Path
) -> None:
    data = BytesIO()
    small = Image.open(BytesIO(drawing("rings", 201, (125, 125))))
    small.resize((10_000, 10_000)).save(data, "JPEG", progressive=True, subsampling=0, quality=40)
    options = ("--memory=1g", "--memory-swap=1g")
    with serving(containers, trained, *options) as name:
        *answers, ping = ask(containers, name, data.getvalue(), times=6)
        assert [status for status, _ in answers] == [200] * 6
        assert ping[0] == 200
        assert stop(containers, name) == 0

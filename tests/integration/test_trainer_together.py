"""Recipe finetune by several processes: two instances on this machine, over its loopback."""

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support.torch_jobs import Job, TorchJobs
from tests.support.trainer import drawn_records, lay_out

TRAIN, VALIDATION = drawn_records(8), drawn_records(4, first_seed=100)
HOSTS = ("127.0.0.1", "127.0.0.2")
SETTINGS = {"recipe": "finetune", "epochs": "2", "seed": "3"}


def instance(folder: Path, host: str, **changes: str) -> Path:
    base = lay_out(folder / host, TRAIN, VALIDATION, hyperparameters=SETTINGS | changes)
    resources = {"hosts": HOSTS, "current_host": host, "network_interface_name": "lo"}
    (base / "input/config/resourceconfig.json").write_text(json.dumps(resources), "utf-8")
    return base


def jobs_of(bases: list[Path]) -> list[Job]:
    """The training jobs of all instances, with a port of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return [
        Job(base, variables={"MASTER_PORT": port, "OMP_WAIT_POLICY": "passive"}) for base in bases
    ]


def curves(base: Path) -> list[float]:
    report = json.loads((base / "model/training.json").read_text("utf-8"))
    return [
        each[name]
        for each in report["epochs"]
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    ]


def test_two_instances_have_the_losses_of_one_and_only_the_first_writes(
    torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    bases = [instance(tmp_path, host) for host in HOSTS]
    with torch_jobs.running(*jobs_of(bases)) as (trainers, codes):
        said = [trainer.output.read() for trainer in trainers]
    assert codes == [0, 0], said
    alone = lay_out(tmp_path / "alone", TRAIN, VALIDATION, hyperparameters=SETTINGS)
    code, told = torch_jobs.run(alone)
    assert code == 0, told

    assert curves(bases[0]) == pytest.approx(curves(alone), abs=1e-3)
    report = json.loads((bases[0] / "model/training.json").read_text("utf-8"))
    assert report["environment"]["processes"] == 2
    assert {"decode", "network", "epochs", "export"} <= report["seconds"].keys()
    assert (bases[0] / "checkpoints/checkpoint.pt").is_file()
    assert not list(bases[1].glob("model/*"))
    assert not list(bases[1].glob("checkpoints/*"))
    assert "Epoch[0] Train-accuracy" in said[0]
    assert "Epoch[" not in said[1]
    assert "another instance writes the model" in said[1]


def test_a_lost_peer_ends_every_instance_with_a_sentence(
    torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    bases = [instance(tmp_path, host, epochs="500") for host in HOSTS]
    with torch_jobs.running(*jobs_of(bases)) as (trainers, codes):
        for line in trainers[0].output:
            if "Epoch[1] Train" in line:
                break
        os.kill(_training_process(trainers[1].process), signal.SIGKILL)
    assert codes == [1, 1]
    failures = [(base / "output/failure").read_text("utf-8") for base in bases]
    killed = r"A training process was ended by SIGKILL, as when memory runs out\."
    assert re.fullmatch(killed, failures[1]), failures
    assert re.fullmatch(rf"Training ended on instance 127\.0\.0\.2: {killed}", failures[0]), (
        failures
    )
    assert not any(list(base.glob("model/*")) for base in bases)


def test_what_the_user_can_put_right_ends_every_instance_with_its_sentence(
    torch_jobs: TorchJobs, tmp_path: Path
) -> None:
    bases = [instance(tmp_path, host, mini_batch_size="3") for host in HOSTS]
    with torch_jobs.running(*jobs_of(bases)) as (_, codes):
        pass
    assert codes == [1, 1]
    for base in bases:
        failure = (base / "output/failure").read_text("utf-8")
        assert "mini_batch_size must be at least 4 for finetune" in failure
        assert "Traceback" not in failure


def _training_process(launcher: int) -> int:
    """The process that trains: below the trainer, its child that watches, and multiprocessing."""
    found = []
    for status in Path("/proc").glob("[0-9]*"):
        try:
            command = (status / "cmdline").read_bytes()
            ancestors = _ancestors(int(status.name))
        except OSError:
            continue
        if b"spawn_main" in command and launcher in ancestors:
            found.append(int(status.name))
    assert len(found) == 1, found
    return found[0]


def _ancestors(process: int) -> list[int]:
    found = []
    while process > 1:
        stat = Path(f"/proc/{process}/stat").read_text("utf-8")
        process = int(stat.rpartition(")")[2].split()[1])
        found.append(process)
    return found

"""resourceconfig.json tells which instances train, and recipe probe refuses more than one."""

import json
from pathlib import Path

import pytest

from tests.support.trainer import LABELS, drawn_records, lay_out
from trainer.cluster import Cluster
from trainer.settings import Folders, SettingsError
from trainer.train import train


def written(path: Path, **content: object) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path


def test_hosts_have_the_same_order_on_every_instance(tmp_path: Path) -> None:
    found = Cluster.read(
        written(
            tmp_path / "resourceconfig.json",
            current_host="algo-2",
            hosts=["algo-3", "algo-1", "algo-2"],
            network_interface_name="eth0",
        )
    )
    assert found == Cluster(("algo-1", "algo-2", "algo-3"), "algo-2", "eth0")
    assert (found.number, found.leader, found.leads) == (1, "algo-1", False)


def test_without_the_file_this_machine_trains_alone(tmp_path: Path) -> None:
    alone = Cluster.read(tmp_path / "resourceconfig.json")
    assert len(alone.hosts) == 1
    assert alone.leads


@pytest.mark.parametrize(
    "content",
    ["no JSON", "[]", '{"hosts": ["algo-1"]}', '{"hosts": ["algo-1"], "current_host": "algo-2"}'],
)
def test_a_file_that_is_not_sagemaker_s_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "resourceconfig.json"
    path.write_text(content, "utf-8")
    with pytest.raises(SettingsError, match=r"resourceconfig\.json"):
        Cluster.read(path)


def test_recipe_probe_on_two_instances_ends_with_the_reason(tmp_path: Path) -> None:
    lay_out(tmp_path, drawn_records(2), drawn_records(1, first_seed=9), LABELS)
    hosts = {"hosts": ["algo-1", "algo-2"], "current_host": "algo-1"}
    written(tmp_path / "input/config/resourceconfig.json", **hosts)
    with pytest.raises(SettingsError, match="trains on one instance: 1 more would be paid for"):
        train(Folders(tmp_path))
    assert not (tmp_path / "model").exists()

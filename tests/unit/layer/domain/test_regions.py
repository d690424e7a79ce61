"""What "auto" becomes where: by the data of regions.json, and by what is not in it."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from droplens.domain import choices, regions
from droplens.domain.errors import UserError
from tools import regions as tools_regions

SAGEMAKER: Any = botocore.session.get_session().get_service_model("sagemaker")
CANDIDATES = {
    *choices.FINETUNE_CANDIDATES,
    *choices.BUILTIN_CANDIDATES,
    *choices.CPU_CANDIDATES,
    *choices.ENDPOINT_CANDIDATES,
}


@pytest.fixture(scope="module")
def data(repo_root: Path) -> dict[str, Any]:
    """regions.json."""
    path = repo_root / "layers/droplens/droplens/domain/regions.json"
    return dict(json.loads(path.read_text("utf-8")))


@pytest.mark.parametrize(
    ("name", "partition", "suffix", "serverless"),
    [
        ("eu-west-1", "aws", "amazonaws.com", True),
        ("cn-north-1", "aws-cn", "amazonaws.com.cn", False),
        ("cn-northwest-1", "aws-cn", "amazonaws.com.cn", False),
        ("us-gov-west-1", "aws-us-gov", "amazonaws.com", False),
        ("ap-southeast-7", "aws", "amazonaws.com", None),
    ],
)
def test_a_region_has_its_partition_and_what_is_known_of_serverless_inference(
    name: str, partition: str, suffix: str, serverless: bool | None
) -> None:
    region = regions.region(name)
    assert region.known
    assert (region.partition, region.dns_suffix) == (partition, suffix)
    assert region.serverless_inference is serverless


@pytest.mark.parametrize(
    ("region", "mode"),
    [
        ("us-east-1", "serverless"),
        ("cn-north-1", "lambda"),
        ("us-gov-west-1", "lambda"),
        ("ap-southeast-7", "lambda"),  # newer than AWS's list
        ("eu-atlantis-1", "lambda"),  # newer than our data
    ],
)
def test_auto_is_serverless_only_where_aws_says_that_it_is_offered(region: str, mode: str) -> None:
    assert choices.endpoint_mode("auto", "droplens", region) == mode
    assert choices.endpoint_mode("auto", "builtin", region) == "realtime"
    assert choices.endpoint_mode("realtime", "droplens", region) == "realtime"


@pytest.mark.parametrize("region", ["us-east-1", "ap-southeast-7", "eu-atlantis-1"])
def test_who_asks_for_serverless_by_name_gets_it_unless_it_is_known_to_be_missing(
    region: str,
) -> None:
    assert choices.endpoint_mode("serverless", "droplens", region) == "serverless"


@pytest.mark.parametrize("region", ["cn-north-1", "cn-northwest-1", "us-gov-east-1"])
def test_serverless_where_there_is_none_is_refused_with_the_parameter(region: str) -> None:
    with pytest.raises(UserError, match=f"{region}.*EndpointMode=realtime") as told:
        choices.endpoint_mode("serverless", "droplens", region)
    assert told.value.code == "endpoint.region"


@pytest.mark.parametrize(
    ("region", "finetune", "builtin", "probe"),
    [
        ("us-east-1", "ml.g5.xlarge", "ml.g5.xlarge", "ml.m5.xlarge"),
        ("cn-north-1", "ml.g5.xlarge", "ml.g5.xlarge", "ml.m5.xlarge"),
        ("us-gov-west-1", "ml.g6.xlarge", "ml.g4dn.xlarge", "ml.m5.xlarge"),
        ("us-west-1", "ml.g4dn.xlarge", "ml.g4dn.xlarge", "ml.m5.xlarge"),
        # Only endpoints run on g5 there.
        ("ap-southeast-1", "ml.g4dn.xlarge", "ml.g4dn.xlarge", "ml.m5.xlarge"),
        ("mx-central-1", None, None, "ml.m6i.xlarge"),
        ("eu-atlantis-1", "ml.g5.xlarge", "ml.g5.xlarge", "ml.m5.xlarge"),
    ],
)
def test_auto_takes_an_instance_that_the_region_offers(
    region: str, finetune: str | None, builtin: str | None, probe: str
) -> None:
    def auto(trainer: str, recipe: str) -> str:
        try:
            return choices.training_instance("auto", trainer, recipe, region)
        except UserError as error:
            return f"{error.code}: {error.message}"

    refused = "training.region: "
    assert (auto("droplens", "finetune") + refused).startswith(finetune or refused)
    assert (auto("builtin", "finetune") + refused).startswith(builtin or refused)
    assert auto("droplens", "probe") == probe
    if finetune is None:
        assert "TrainingInstanceType" in auto("droplens", "finetune")
        assert "Recipe=probe" in auto("droplens", "finetune")


def test_every_candidate_is_a_type_of_sagemaker_s_that_its_trainer_takes() -> None:
    assert set(SAGEMAKER.shape_for("TrainingInstanceType").enum) >= CANDIDATES
    for trainer, recipe in (("droplens", "finetune"), ("droplens", "probe"), ("builtin", "")):
        for instance in choices.training_candidates(trainer, recipe):
            assert choices.training_instance(instance, trainer, recipe, "us-east-1") == instance
    with pytest.raises(UserError, match=r"does not train on ml\.m5\.xlarge"):
        choices.training_instance("ml.m5.xlarge", "droplens", "finetune", "us-east-1")


def test_the_data_say_where_they_are_from_and_cover_every_candidate(data: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", data["as_of"])
    assert data["sources"].keys() == {"partitions", "instances", "serverless_inference"}
    every = {name for entry in data["partitions"].values() for name in entry["regions"]}
    assert set(data["serverless_inference"]["offered"]) <= every
    assert set(data["serverless_inference"]["not_in_partitions"]) < set(data["partitions"])
    assert data["instances"].keys() <= every
    listed = {
        instance
        for kinds in data["instances"].values()
        for instances in kinds.values()
        for instance in instances
    }
    assert listed == CANDIDATES


def test_every_partition_of_the_pinned_botocore_is_in_the_data(data: dict[str, Any]) -> None:
    text = resources.files("botocore").joinpath("data/partitions.json").read_text("utf-8")
    for partition in json.loads(text)["partitions"]:
        kept = data["partitions"][partition["id"]]
        assert kept["dns_suffix"] == partition["outputs"]["dnsSuffix"]


def test_the_program_that_writes_the_data_finds_every_candidate(data: dict[str, Any]) -> None:

    assert tools_regions.CANDIDATES == CANDIDATES
    made = tools_regions.collected()
    assert made.keys() == data.keys()
    assert made["instances"]["eu-west-1"]["jobs"]

"""Parallel writers of one run or one live card: exactly one wins, and no write is lost.

Against the local cloud, over HTTP. Each writer has a Table of its own, as each Lambda invocation
has: threads that share one get their conditions mixed up by boto3.
"""

import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.card import ModelCard
from droplens.domain.errors import RetryLater
from droplens.domain.run import RunKey, Stage, Status
from droplens.state.cards import Cards
from droplens.state.runs import Runs
from tests.support.builders import card
from tests.support.localcloud import Cloud

RUN_IDS = [f"2026112{day}-120000-1a2b3c" for day in range(1, 9)]
DATASET = {"key": "datasets/cars/", "version": "v1", "etag": "e1"}


@pytest.fixture(scope="module")
def tables(cloud: Cloud) -> list[Any]:
    """The table Runs, as the template makes it: 16 Tables of it, each with a client of its own."""
    name = "parallel-runs"
    kinds = {"classifier": "HASH", "run_id": "RANGE"}
    cloud.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in kinds],
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in kinds.items()],
    )

    url = f"http://127.0.0.1:{cloud.port}"
    return [
        boto3.Session(
            cloud.keys["AWS_ACCESS_KEY_ID"],
            cloud.keys["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )
        .resource("dynamodb", endpoint_url=url)
        .Table(name)
        for _ in range(16)
    ]


@pytest.fixture
def run() -> RunKey:
    """A run that no other test knows."""
    return RunKey("cars", f"20261122-120000-{uuid.uuid4().hex[:6]}")


@pytest.mark.parametrize("stage", Stage)
def test_of_parallel_claims_exactly_one_wins(tables: list[Any], run: RunKey, stage: Stage) -> None:
    assert Runs(tables[0], owner="opener").open(run, DATASET)
    writers = [Runs(table, owner=f"request-{number}") for number, table in enumerate(tables)]

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda runs: runs.claim(run, stage), writers)) == 1


def test_of_parallel_opens_and_ends_exactly_one_wins(tables: list[Any], run: RunKey) -> None:
    def act(runs: Runs) -> tuple[bool, bool]:
        return runs.open(run, DATASET), runs.end(run, Status.FAILED)

    writers = [Runs(table, owner=f"request-{number}") for number, table in enumerate(tables)]
    with ThreadPoolExecutor(8) as pool:
        opened, ended = zip(*pool.map(act, writers), strict=True)
    assert (sum(opened), sum(ended)) == (1, 1)


@pytest.mark.parametrize("round_", range(3))
def test_of_models_going_live_at_once_the_newest_stays(cloud: Cloud, round_: int) -> None:
    s3 = cloud.client("s3")
    bucket = f"parallel-cards-{round_}"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    cards = Cards(Bucket(s3, bucket))
    order = random.Random(round_).sample(RUN_IDS, len(RUN_IDS))

    def promote(run_id: str) -> ModelCard | None:
        try:
            return cards.make_live(card(run_id))
        except RetryLater:  # so many at once: Lambda would come again
            return None

    with ThreadPoolExecutor(len(RUN_IDS)) as pool:
        list(pool.map(promote, order))
    while promote(RUN_IDS[-1]) is None:
        pass
    live = cards.live("cars")
    assert live is not None
    assert live.run_id == RUN_IDS[-1]
    # Each version of the live card replaced the one before it: no write was lost.
    answer = s3.list_object_versions(Bucket=bucket, Prefix=layout.live_card_key("cars"))
    history = [
        ModelCard.from_json(
            s3.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])[
                "Body"
            ].read()
        )
        for version in answer["Versions"]
    ]
    chain = {model.run_id: model.replaces for model in history}
    assert len(chain) == len(history)
    follower: str | None = RUN_IDS[-1]
    for _ in range(len(chain)):
        assert follower is not None
        older = chain[follower]
        assert older is None or older < follower
        follower = older
    assert follower is None

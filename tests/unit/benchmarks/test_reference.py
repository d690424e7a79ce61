"""The networks of the chaos run: each picture has an answer of its own, by each of them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from benchmarks.classify import pictures
from benchmarks.classify.cloud import SIDE, Cloud
from benchmarks.classify.network import network
from benchmarks.classify.reference import Reference
from droplens.domain.run import RunKey
from droplens.inference.graph import signature

NAMES = ("a", "b", "c")
DRAWN = 16


class Account(Cloud):
    """moto in place of a local cloud."""

    def client(self, service: str) -> Any:
        make: Any = boto3.client
        return make(service)


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="droplens-bucket")
        yield Account(Path(), {}, {"BucketName": "droplens-bucket"})


def test_the_network_is_one_that_is_deployed() -> None:
    assert signature(network(NAMES, seed=1)).classes == len(NAMES)


def test_pictures_and_models_differ_and_copies_of_a_picture_do_not(account: Account) -> None:
    cards = [
        account.new_network(RunKey("cars", f"20261122-120000-00000{seed}"), NAMES, seed)
        for seed in (1, 2)
    ]
    drawn = list(islice(pictures.jpegs(2 * DRAWN, SIDE), 2 * DRAWN))
    reference = Reference(account)
    for card in cards:
        tops = [reference(card, picture) for picture in drawn]
        assert tops[:DRAWN] == tops[DRAWN:]
        assert len({str(top) for top in tops}) == DRAWN
    assert all(reference(cards[0], one) != reference(cards[1], one) for one in drawn)

"""Uploaded images, and the classification that processes them."""

import itertools
from typing import Any

from droplens.aws.events import ObjectCreated
from droplens.classify.classify import Classification
from droplens.classify.routing import Router
from droplens.imaging.weighted_semaphore import WeightedSemaphore
from droplens.prediction.loaded_models import LoadedModels
from droplens.state.cards import CachedCards, Cards
from tests.support.aws_account import BUCKET, Cloud
from tests.support.aws_fakes import FakeRuntime
from tests.support.builders import jpeg, redness

KEY = "input/cars/a+b %41 車.jpg"


SEQUENCERS = itertools.count(0x0062E9A41B77D50E)


RED, BLUE = jpeg((220, 10, 20)), jpeg((20, 10, 220))


def dropped(cloud: Cloud, body: bytes = RED, key: str = KEY) -> ObjectCreated:
    """Drop a picture, and say what its event says."""
    answer = cloud.put(key, body)
    etag, sequencer = answer["ETag"].strip('"'), f"{next(SEQUENCERS):016X}"
    return ObjectCreated(BUCKET, key, etag, answer["VersionId"], len(body), sequencer)


def classification(
    cloud: Cloud, runtime: Any = None, seconds: float = 3600, **more: Any
) -> Classification:
    cards = Cards(cloud.bucket)
    tools: Any = runtime or FakeRuntime(redness)
    return Classification(
        bucket=cloud.bucket,
        cards=CachedCards(cards, seconds),
        router=Router(cloud.runs().any_of, cards.default_classifier),
        is_stranded=cloud.runs().is_stranded,
        runtime=tools,
        **{
            "decoding": WeightedSemaphore(10**8),
            "endpoint_calls": WeightedSemaphore(10),
            "models": LoadedModels(cloud.bucket),
            **more,
        },
    )

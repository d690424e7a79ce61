"""What AWS offers in each region, from regions.json, which has sources and dates.

`make regions` generates the file. For a region that is not in it nothing is known, and callers
choose the conservative option and report that.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Region:
    """One region. known: whether it is in regions.json; if not, the other fields are empty.

    partition, dns_suffix: as in AWS::Partition and AWS::URLSuffix, or "" where not known.
    serverless_inference: whether SageMaker offers it; None where AWS's list does not say.
    jobs, hosting: the instance types with a SageMaker price for jobs and for endpoints, of those
    that Droplens may choose.
    """

    name: str
    known: bool
    partition: str
    dns_suffix: str
    serverless_inference: bool | None
    jobs: frozenset[str]
    hosting: frozenset[str]

    def first_offered(self, candidates: Iterable[str]) -> str | None:
        """The first candidate for a job; None where the region is known and has none of them.

        AWS publishes no list for training alone: a price for other jobs is the stronger
        indication, a price for endpoints the weaker. Unknown regions get the first candidate.
        """
        candidates = tuple(candidates)
        if not self.jobs and not self.hosting:
            return candidates[0]
        for offered in (self.jobs, self.hosting):
            for candidate in candidates:
                if candidate in offered:
                    return candidate
        return None


@cache
def as_of() -> str:
    """The date of the data in regions.json, for messages."""
    return str(_data()["as_of"])


@cache
def region(name: str) -> Region:
    """The region called `name`, such as eu-west-1; with `known` False if it has no entry."""
    data = _data()
    serverless = data["serverless_inference"]
    for partition, entry in data["partitions"].items():
        if name in entry["regions"]:
            offered: bool | None = None
            if name in serverless["offered"]:
                offered = True
            elif partition in serverless["not_in_partitions"]:
                offered = False
            instances = data["instances"].get(name, {})
            return Region(
                name=name,
                known=True,
                partition=partition,
                dns_suffix=entry["dns_suffix"],
                serverless_inference=offered,
                jobs=frozenset(instances.get("jobs", ())),
                hosting=frozenset(instances.get("hosting", ())),
            )
    return Region(
        name=name,
        known=False,
        partition="",
        dns_suffix="",
        serverless_inference=None,
        jobs=frozenset(),
        hosting=frozenset(),
    )


@cache
def _data() -> dict[str, Any]:
    text = resources.files("droplens.domain").joinpath("regions.json").read_text("utf-8")
    return dict(json.loads(text))

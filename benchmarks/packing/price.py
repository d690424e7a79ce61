"""What ten million pictures take and cost, by the measured rate and the list prices."""

import json
from pathlib import Path

_PRICES = json.loads(
    (Path(__file__).parents[2] / "droplens_cli" / "prices.json").read_text("utf-8")
)


def _price(name: str) -> float:
    """US dollars, as `make cost` has them."""
    return float(_PRICES["prices"][name]["usd"])


VCPU_HOUR, GB_HOUR = _price("fargate_vcpu_hour"), _price("fargate_gb_hour")
THOUSAND_PUTS_OR_LISTS = round(1000 * _price("s3_put"), 9)
THOUSAND_GETS = round(1000 * _price("s3_get"), 9)

PICTURES = 10_000_000
# A job as the template describes it.
VCPUS = 2
GIGABYTES = 4
# A page of S3's listing; pages come one after the other, about 7,000 keys a second.
KEYS_A_PAGE = 1000
SECONDS_A_PAGE = 0.14
PART_BYTES = 8 * 1024 * 1024


def ten_million(pictures_per_second: float, cores: int, packed_bytes: float, join_ms: float) -> str:
    """The arithmetic as a Markdown table, for one job and for arrays of them.

    pictures_per_second: of one job on so many cores; packed_bytes: of a record; join_ms: of the
    join, milliseconds a picture.
    """
    rate = pictures_per_second / cores * VCPUS
    pages = PICTURES / KEYS_A_PAGE
    parts = PICTURES * packed_bytes / PART_BYTES
    rows = [
        ["jobs of 2 vCPUs and 4 GB, at once"],
        [f"listing, by each: {pages:,.0f} pages x {SECONDS_A_PAGE} s"],
        [f"packing: {PICTURES:,} / {rate:.0f} a second / jobs"],
        [f"joining, by one job: {PICTURES:,} x {join_ms:.2g} ms"],
        [f"Fargate: all hours of all jobs x ({VCPUS} x ${VCPU_HOUR} + {GIGABYTES} x ${GB_HOUR})"],
        [f"listing: jobs x {pages:,.0f} x ${THOUSAND_PUTS_OR_LISTS} per 1,000"],
        [f"reading: {PICTURES:,} x ${THOUSAND_GETS} per 1,000"],
        [f"writing and joining: 2 x {parts:,.0f} parts x ${THOUSAND_PUTS_OR_LISTS} per 1,000"],
        ["together"],
    ]
    for jobs in (1, 8, 64):
        listing = pages * SECONDS_A_PAGE / 3600
        packing = PICTURES / rate / jobs / 3600
        joining = PICTURES * join_ms / 1000 / 3600
        hours = (listing + packing) * jobs + joining
        costs = [
            hours * (VCPUS * VCPU_HOUR + GIGABYTES * GB_HOUR),
            jobs * pages / 1000 * THOUSAND_PUTS_OR_LISTS,
            PICTURES / 1000 * THOUSAND_GETS,
            2 * parts / 1000 * THOUSAND_PUTS_OR_LISTS,
        ]
        told = [str(jobs), f"{listing:.1f} h", f"{packing:.1f} h", f"{joining:.1f} h"]
        told += [f"${cost:.2f}" for cost in (*costs, sum(costs))]
        for row, cell in zip(rows, told, strict=True):
            row.append(cell)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|---|", *lines[1:]])

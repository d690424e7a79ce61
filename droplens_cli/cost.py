"""What Droplens costs by list prices: idle, a training run, a thousand pictures.

make cost                                    # a table by the defaults below
make cost OPTIONS="--pictures 1000000 --kms-keys 1 --monitoring essential"
make cost OPTIONS=--demo                     # what make demo ACCOUNT=1 costs
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any

from droplens_cli.repository_files import repository_file

HOURS_A_MONTH = 730
PRICES = Path(__file__).parent / "prices.json"
PACKING = repository_file("benchmarks/results/packing.json")
INFERENCE = repository_file("benchmarks/results/inference.json")

# Metrics of alarms, by which these are billed, and dashboards, by the template's parameter
# Monitoring: PicturesUnfamiliar has three metrics, every other alarm one.
MONITORING = {"all": (16, 1), "essential": (7, 0)}
# Lambda polls an empty queue by five pollers, 20 seconds each.
# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
POLLS_A_MONTH = 5 * 3 * 60 * HOURS_A_MONTH
# Pictures of the sums of classification.
PICTURES_OF_A_SUM = 1000
# S3's events for the picture and for its result, and Droplens' own for the result.
EVENTS_A_PICTURE = 3
# SendMessage by EventBridge, ReceiveMessage and DeleteMessage by Lambda, without batches.
REQUESTS_A_PICTURE = 3
# Metrics that classify_image emits in every hour with pictures of one classifier; each further
# classifier has one more.
METRICS_OF_PICTURES = 8
# Images that promote_endpoint sends to a candidate at most; twice as many with a test split.
MEASURED_AT_MOST = 4000
PART_BYTES = 8 * 2**20
# Of a review in the index of a model's sample, with its keys, and of a read request unit of an
# index, which is eventually consistent.
SAMPLED_BYTES, READ_BYTES = 300, 2 * 4096
# LiveAccuracy of one classifier, LiveAccuracyShortfall of all.
METRICS_OF_REVIEWS = 2
# What the demo uses in an account, by recipe; estimates, not measured. Minutes of the two image
# builds together, minutes of training, GB of images; below, hours from deployment to removal.
DEMO = {"probe": (10.0, 8.0, 0.5), "finetune": (30.0, 20.0, 3.5)}
DEMO_INSTANCE = {"probe": "ml.m5.xlarge", "finetune": "ml.g5.xlarge"}
DEMO_HOURS = 1.5
# MaxTrainingMinutes of its stack.
DEMO_TRAINING_MINUTES = 60
# CodeBuild's timeout of a build; there are two.
BUILD_TIMEOUT_MINUTES = 35


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The usage that is priced. Sizes in GB, times in minutes or milliseconds.

    lambda_ms, endpoint_ms, log_kb: of a picture in its own invocation, whose Lambda waits for the
    endpoint; inside_ms: of the prediction with EndpointMode=lambda. pictures: of the dataset.
    images_gb: compressed; 3 of them PyTorch with CUDA, which only recipe finetune has. spot_checks:
    of one live model, reviewed or not.
    """

    monitoring: str = "all"
    kms_keys: int = 0
    stored_gb: float = 5.0
    old_versions_gb: float = 1.0
    images_gb: float = 4.5
    logs_gb: float = 0.1
    pictures: int = 10_000
    packing_vcpus: int = 2
    packing_gb: int = 4
    training_instance: str = "ml.g5.xlarge"
    training_instances: int = 1
    training_minutes: float = 30.0
    lambda_gb: float = 2.0
    lambda_ms: float = 300.0
    endpoint_gb: float = 2.0
    endpoint_ms: float = 150.0
    inside_ms: float = 60.0
    log_kb: float = 3.0
    endpoint_instance: str = "ml.m5.large"
    spot_checks: int = 10_000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a sum. amount: of units; price: the name of a price in prices.json."""

    what: str
    amount: float
    price: str


class PriceMissing(Exception):
    """There is no list price; the message names those of instances."""


class Prices:
    """The list prices of droplens_cli/prices.json."""

    def __init__(self, file: Path = PRICES) -> None:
        document = json.loads(file.read_text("utf-8"))
        self.region: str = document["region"]
        self.as_of: str = document["as_of"]
        self._entries: dict[str, dict[str, Any]] = document["prices"]
        self.file = file

    def entry(self, name: str) -> dict[str, Any]:
        """Price, unit, source and free allowance. Raises PriceMissing."""
        if name not in self._entries:
            known = ", ".join(sorted(name for name in self._entries if name.startswith("ml.")))
            raise PriceMissing(
                f"{self.file.name} has no price of {name}; instances it has: {known}"
            )
        return self._entries[name]

    def listed(self, line: Line) -> float:
        """What the line costs, in dollars."""
        return line.amount * float(self.entry(line.price)["usd"])

    def beyond_free(self, line: Line) -> float:
        """Its cost beyond the monthly free allowance, if the account uses that for nothing else."""
        entry = self.entry(line.price)
        return max(0.0, line.amount - entry.get("free_each_month", 0)) * float(entry["usd"])


def idle(usage: Usage) -> Iterator[Line]:
    """A month without pictures and training."""
    alarms, dashboards = MONITORING[usage.monitoring]
    yield Line("metrics of alarms", alarms, "alarm")
    yield Line("dashboards", dashboards, "dashboard")
    yield Line("GB stored in the bucket", usage.stored_gb, "s3_storage")
    yield Line("GB of old versions, 30 days", usage.old_versions_gb, "s3_storage")
    yield Line("GB of container images", usage.images_gb, "image_storage")
    yield Line("GB of logs", usage.logs_gb, "log_storage")
    yield Line("looks at the empty picture queue", POLLS_A_MONTH, "sqs_request")
    yield Line("KMS keys", usage.kms_keys, "kms_key")


def run(usage: Usage, packed_a_second: float, record_bytes: float) -> Iterator[Line]:
    """One training run on demand.

    packed_a_second: pictures, by one job of two vCPUs; record_bytes: of a packed picture.
    """
    # A minute to start, another to end.
    hours = (usage.pictures / (packed_a_second * usage.packing_vcpus / 2) + 120) / 3600
    parts = usage.pictures * record_bytes / PART_BYTES
    yield Line("Fargate vCPU hours", hours * usage.packing_vcpus, "fargate_vcpu_hour")
    yield Line("Fargate GB hours", hours * usage.packing_gb, "fargate_gb_hour")
    yield Line("public address hours", hours, "public_ip_hour")
    yield Line("pictures read", usage.pictures, "s3_get")
    yield Line("parts written, pages listed", 2 * parts + usage.pictures / 1000, "s3_put")
    yield Line(
        f"{usage.training_instance} hours",
        usage.training_instances * usage.training_minutes / 60,
        usage.training_instance,
    )
    measured = min(MEASURED_AT_MOST, usage.pictures / 5)
    yield Line(
        "endpoint GB seconds, measuring",
        measured * usage.endpoint_ms / 1000 * usage.endpoint_gb,
        "serverless_gb_second",
    )
    yield Line(
        "Lambda GB seconds, measuring", measured * usage.endpoint_ms / 1000, "lambda_gb_second"
    )


def thousand(usage: Usage, *, inside: bool = False) -> Iterator[Line]:
    """A thousand pictures within an hour, one an invocation: batches cost less.

    inside: with EndpointMode=lambda.
    """
    waits = 0 if inside else usage.endpoint_ms
    lambda_ms = usage.lambda_ms - usage.endpoint_ms + (usage.inside_ms if inside else waits)
    pictures = PICTURES_OF_A_SUM
    yield Line("events", pictures * EVENTS_A_PICTURE, "event")
    yield Line("queue requests", pictures * REQUESTS_A_PICTURE, "sqs_request")
    yield Line("Lambda requests", pictures, "lambda_request")
    yield Line("Lambda GB seconds", lambda_ms * usage.lambda_gb, "lambda_gb_second")
    yield Line("pictures and model cards read", 2 * pictures, "s3_get")
    yield Line("results written", pictures, "s3_put")
    yield Line("endpoint GB seconds", waits * usage.endpoint_gb, "serverless_gb_second")
    yield Line("GB of logs", usage.log_kb / 1000, "log_ingestion")
    yield Line("metrics, for an hour", METRICS_OF_PICTURES / HOURS_A_MONTH, "metric")


def live_accuracy(usage: Usage) -> Iterator[Line]:
    """A month of one classifier's live accuracy, published every hour."""
    yield Line("metrics of reviews", METRICS_OF_REVIEWS, "metric")
    units = ceil(usage.spot_checks * SAMPLED_BYTES / READ_BYTES)
    yield Line("reads of spot checks", HOURS_A_MONTH * units, "dynamodb_read")


def inference(
    *, images: int, parts: int, children: int, vcpus: int, gb: float, requests: int
) -> Iterator[Line]:
    """A job of batch inference, in the images' own region.

    parts: each has a list and rows; children: containers of `vcpus` vCPUs and `gb` GB; requests:
    that the listing took.
    """
    a_second = json.loads(INFERENCE.read_text("utf-8"))["images_per_second_of_a_vcpu"]
    # A minute to start; AWS Batch adds nothing to the price of Fargate.
    hours = (images / (a_second * vcpus) + 60 * children) / 3600
    yield Line("Fargate vCPU hours", hours * vcpus, "fargate_vcpu_hour")
    yield Line("Fargate GB hours", hours * gb, "fargate_gb_hour")
    yield Line("public address hours", hours, "public_ip_hour")
    yield Line("pictures read", images + parts, "s3_get")
    yield Line("lists and rows written, pages listed", 3 * parts + requests, "s3_put")


def realtime(usage: Usage) -> Iterator[Line]:
    """A month of a realtime endpoint."""
    yield Line(f"{usage.endpoint_instance} hours", HOURS_A_MONTH, usage.endpoint_instance)


def demo(recipe: str, learned: int, answered: int, pictures: int) -> Iterator[Line]:
    """`make demo ACCOUNT=1`, from deployment to removal, on demand.

    learned: pictures of the dataset; answered: pictures that are classified; pictures: further
    calls of the endpoint.
    """
    build_minutes, training_minutes, images_gb = DEMO[recipe]
    packing = json.loads(PACKING.read_text("utf-8"))
    usage = Usage(
        pictures=learned,
        training_instance=DEMO_INSTANCE[recipe],
        training_minutes=training_minutes,
    )
    alarms, dashboards = MONITORING[usage.monitoring]
    month = DEMO_HOURS / HOURS_A_MONTH
    yield Line("minutes of image builds", build_minutes, "build_minute")
    yield from run(usage, packing["pictures_per_second"], packing["record_bytes"])
    for line in thousand(usage):
        yield Line(line.what, line.amount * answered / 1000, line.price)
    yield Line(
        "endpoint GB seconds, timed",
        pictures * usage.endpoint_ms / 1000 * usage.endpoint_gb,
        "serverless_gb_second",
    )
    yield Line("pictures and code uploaded", learned + answered + 50, "s3_put")
    yield Line("GB of container images, for the time", images_gb * month, "image_storage")
    yield Line("metrics of alarms, for the time", alarms * month, "alarm")
    yield Line("dashboards, for the time", dashboards * month, "dashboard")


def demo_at_most(recipe: str, training_minutes: int, prices: Prices) -> float:
    """The cost of builds and training, in dollars, if both run until their time limits."""
    return prices.listed(Line("", training_minutes / 60, DEMO_INSTANCE[recipe])) + prices.listed(
        Line("", 2 * BUILD_TIMEOUT_MINUTES, "build_minute")
    )


# The pictures of `make demo` by default: scanned digits, 100 of each to learn from.
DEMO_PICTURES = {"learned": 1000, "answered": 90, "pictures": 20}


def demo_table(prices: Prices) -> str:
    """What the demo costs in an account, by recipe, as Markdown."""
    rows = ["| | list price | beyond what is free | at most, about |", "|---|--:|--:|--:|"]
    for recipe in DEMO:
        lines = list(demo(recipe, **DEMO_PICTURES))
        listed, beyond = sum(map(prices.listed, lines)), sum(map(prices.beyond_free, lines))
        most = demo_at_most(recipe, DEMO_TRAINING_MINUTES, prices)
        rows.append(
            f"| `RECIPE={recipe}` | {dollars(listed)} | {dollars(beyond)} | {dollars(most)} |"
        )
    return "\n".join(rows)


def table(usage: Usage, prices: Prices) -> str:
    """The sums as Markdown."""
    packing = json.loads(PACKING.read_text("utf-8"))
    sums = {
        "**A month idle**": idle(usage),
        f"**A training run**, {usage.pictures:,} pictures": run(
            usage, packing["pictures_per_second"], packing["record_bytes"]
        ),
        "**1,000 pictures**": thousand(usage),
        "**1,000 pictures**, `EndpointMode=lambda`": thousand(usage, inside=True),
        f"**A month of live accuracy**, {usage.spot_checks:,} spot checks": live_accuracy(usage),
        "**A month of a realtime endpoint**": realtime(usage),
    }
    rows = ["| | amount | list price | beyond what is free |", "|---|--:|--:|--:|"]
    for title, lines in sums.items():
        kept = [line for line in lines if line.amount]
        listed = sum(map(prices.listed, kept))
        beyond = sum(map(prices.beyond_free, kept))
        rows.append(f"| {title} | | **{dollars(listed)}** | **{dollars(beyond)}** |")
        rows += [
            f"| {line.what} | {amount(line.amount)} | {dollars(prices.listed(line))} "
            f"| {dollars(prices.beyond_free(line))} |"
            for line in kept
        ]
    rows += ["", f"List prices of {prices.region}, {prices.as_of}, in US dollars, before taxes."]
    return "\n".join(rows)


def dollars(value: float) -> str:
    """Dollars with cents; one significant digit below a cent."""
    return f"${value:,.2f}" if value >= 0.01 or value == 0 else f"${value:.1g}"


def amount(value: float) -> str:
    """Three significant digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="make cost", description="What Droplens costs.")
    for field in fields(Usage):
        option = f"--{field.name.replace('_', '-')}"
        choices = list(MONITORING) if field.name == "monitoring" else None
        kind: Any = field.type
        parser.add_argument(option, type=kind, default=field.default, choices=choices)
    parser.add_argument("--demo", action="store_true", help="what make demo ACCOUNT=1 costs")
    options = vars(parser.parse_args(arguments))
    if options.pop("demo"):
        print(demo_table(Prices()))
        return
    usage = Usage(**options)
    try:
        print(table(usage, Prices()))
    except PriceMissing as missing:
        parser.error(str(missing))


if __name__ == "__main__":
    main()

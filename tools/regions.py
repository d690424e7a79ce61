"""Writes the layer's regions.json: what AWS offers in which region, with sources and dates.

    python -m tools.regions          # in the tools environment, which has botocore and cfn-lint

Partitions and regions are botocore's (data/partitions.json). Instance types are those of cfn-lint's
extensions aws_sagemaker_processing, _transform and _hosting, which its maintainers take from AWS's
price list; training has no such list, as CloudFormation has no resource for it. Serverless
inference is in no data set of AWS's: SERVERLESS_REGIONS below is the list in the SageMaker
Developer Guide, and is changed here by hand when that page changes.
"""

import json
from importlib import metadata, resources
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).resolve().parent.parent / "layers/droplens/droplens/domain/regions.json"

# "Deploy models with Amazon SageMaker Serverless Inference": available in 21 regions.
# https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html
SERVERLESS_SOURCE = (
    'SageMaker Developer Guide, "Deploy models with Amazon SageMaker Serverless Inference", '
    "https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html"
)
SERVERLESS_READ = "2026-11-27"
SERVERLESS_REGIONS = (
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
    *("af-south-1", "ap-east-1", "ap-south-1"),
    *("ap-northeast-1", "ap-northeast-2", "ap-northeast-3"),
    *("ap-southeast-1", "ap-southeast-2", "ca-central-1"),
    *("eu-central-1", "eu-west-1", "eu-west-2", "eu-west-3"),
    *("eu-north-1", "eu-south-1", "me-south-1", "sa-east-1"),
)

# The families that Droplens uses by default or proposes, with the sizes that it proposes.
CANDIDATES = {
    f"ml.{family}.{size}"
    for family, sizes in {
        "g4dn": ("xlarge",),
        "g5": ("xlarge",),
        "g6": ("xlarge",),
        "g6e": ("xlarge",),
        "m5": ("large", "xlarge"),
        "m6i": ("large", "xlarge"),
        "m7i": ("large", "xlarge"),
    }.items()
    for size in sizes
}
JOBS = ("processing", "transform")
HOSTING = ("hosting",)


def _partitions() -> dict[str, Any]:
    text = resources.files("botocore").joinpath("data/partitions.json").read_text("utf-8")
    return {
        partition["id"]: {
            "dns_suffix": partition["outputs"]["dnsSuffix"],
            # The pseudo-regions of global services end so.
            "regions": sorted(
                name for name in partition["regions"] if not name.endswith("-global")
            ),
        }
        for partition in json.loads(text)["partitions"]
    }


def _offered(kinds: tuple[str, ...], region: str) -> list[str]:
    """The candidates in cfn-lint's lists of these kinds."""
    found: set[str] = set()
    for kind in kinds:
        path = f"data/schemas/extensions/aws_sagemaker_{kind}/instancetype_enum.json"
        lists = json.loads(resources.files("cfnlint").joinpath(path).read_text("utf-8"))
        found |= CANDIDATES & set(lists.get(region, {}).get("enum", []))
    return sorted(found)


def collected() -> dict[str, Any]:
    """The content of regions.json."""
    partitions = _partitions()
    schemas = resources.files("cfnlint").joinpath("data/schemas/version.json").read_text("utf-8")
    as_of = json.loads(schemas)["schema_date"][:10]
    instances = {}
    for entry in partitions.values():
        for region in entry["regions"]:
            kinds = {"jobs": _offered(JOBS, region), "hosting": _offered(HOSTING, region)}
            if any(kinds.values()):
                instances[region] = kinds
    return {
        "as_of": as_of,
        "sources": {
            "partitions": f"botocore {metadata.version('botocore')}, data/partitions.json",
            "instances": (
                f"cfn-lint {metadata.version('cfn-lint')}, schemas of {as_of}, extensions "
                "aws_sagemaker_processing, _transform (jobs) and _hosting"
            ),
            "serverless_inference": f"{SERVERLESS_SOURCE}, read {SERVERLESS_READ}",
        },
        "serverless_inference": {
            "offered": sorted(SERVERLESS_REGIONS),
            # None of their regions is on the list. Some of partition aws are not either, but may be
            # newer than the list: for them nothing is claimed.
            "not_in_partitions": sorted(set(partitions) - {"aws"}),
        },
        "partitions": partitions,
        "instances": dict(sorted(instances.items())),
    }


if __name__ == "__main__":
    OUTPUT.write_text(json.dumps(collected(), indent=1) + "\n", "utf-8")
    print(
        f"{OUTPUT.name} written; serverless inference is as read on {SERVERLESS_READ}: look whether"
    )
    print(f"{SERVERLESS_SOURCE} has changed")

"""Computes values of the documents from their sources."""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from droplens.aws.sqs import delay
from droplens.domain import layout
from droplens.statistics.fixed_sequence import ERROR_LEVEL
from droplens.statistics.intervals import Z95_TWO_SIDED, fewest_exact, wilson
from droplens_cli import cost
from localcloud.emulator import quotas
from trainer.nets.specification import LITE0, PACKAGED
from trainer.recipes.ridge_head import L2_GRID

# (right, of): what docs/trust.md shows of the interval that MinimumAccuracy is compared with.
_COUNTS = ((3, 3), (4, 4), (8, 9), (20, 20), (35, 35), (119, 129))
_RECALL = (4, 5)
_QUOTAS = {
    "longest_training": quotas.LONGEST_TRAINING,
    "training_volume": quotas.TRAINING_VOLUME,
    "serverless_endpoints": quotas.SERVERLESS_ENDPOINTS,
    "serverless_concurrency": quotas.SERVERLESS_CONCURRENCY,
    "fargate_vcpus": quotas.FARGATE_VCPUS,
    "lambda_concurrency": "Concurrent executions",
    "vpcs": "VPCs per Region",
}


def computed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Every value by its name. facts: the result of `sources.everything`."""
    template, results = facts["template"], facts["results"]
    return {
        "alarm": alarms(template.document),
        "alarms": alarm_counts(template.document),
        "budget": budget(template.document),
        "backbones": {net.name[-5:]: net.features for net in PACKAGED.values()},
        "build": build(template.document),
        "drift": drift(template.document),
        "demo_minutes": {recipe: minutes for recipe, (_, minutes, _) in cost.DEMO.items()},
        "grid": {"strengths": len(L2_GRID), "record_kb": 4 * LITE0.features / 1000},
        "http": {status.name: str(status.value) for status in HTTPStatus},
        "kept": kept(template.resource["Bucket"]),
        "quota": {
            name: next(quota.new for quota in quotas.QUOTAS if quota.name == its)
            for name, its in _QUOTAS.items()
        },
        "retries": retries(template.resource["PictureQueue"]),
        "schedule": schedule(template.document),
        "shown": shown(template, facts["code"]["trainer"]),
        "sums": sums(),
        "trust": trust(results.trust),
        "python": pythons(template.parameter["PythonRuntime"]["AllowedValues"]),
    }


def alarms(template: Mapping[str, Any]) -> dict[str, Any]:
    """Each alarm's Threshold, and its window: seconds for which it is beyond that."""
    return {
        name: {
            "Threshold": each["Properties"]["Threshold"],
            "window": _period(each["Properties"])
            * each["Properties"].get("DatapointsToAlarm", each["Properties"]["EvaluationPeriods"]),
        }
        for name, each in template["Resources"].items()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    }


def _period(alarm: Mapping[str, Any]) -> int:
    """Seconds of one period; an alarm of an expression has it in its metrics."""
    if "Metrics" not in alarm:
        return int(alarm["Period"])
    [period] = {each["MetricStat"]["Period"] for each in alarm["Metrics"] if "MetricStat" in each}
    return int(period)


def alarm_counts(template: Mapping[str, Any]) -> dict[str, int]:
    """How many alarms there are by Monitoring, and how many metrics that of an expression has."""
    conditions = [
        each.get("Condition")
        for each in template["Resources"].values()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    ]
    fewer = conditions.count("MonitorsAll")
    statistics = template["Resources"]["PicturesUnfamiliar"]["Properties"]["Metrics"]
    return {
        "all": len(conditions),
        "essential": len(conditions) - fewer,
        "fewer": fewer,
        "metrics_of_math": sum("MetricStat" in each for each in statistics),
    }


def drift(template: Mapping[str, Any]) -> dict[str, int]:
    """The fewest pictures and the standard deviations from which PicturesUnfamiliar is raised."""
    queries = template["Resources"]["PicturesUnfamiliar"]["Properties"]["Metrics"]
    [expression] = [each["Expression"] for each in queries if "Expression" in each]
    [(fewest, deviations)] = re.findall(r"pictures < (\d+),.* - (\d+) \* \(expected", expression)
    return {"fewest": int(fewest), "deviations": int(deviations)}


def budget(template: Mapping[str, Any]) -> dict[str, float]:
    """The first threshold of the account's budget, in percent."""
    [made] = [r for r in template["Resources"].values() if r["Type"] == "AWS::Budgets::Budget"]
    notices = made["Properties"]["NotificationsWithSubscribers"]
    return {"threshold": notices[0]["Notification"]["Threshold"]}


def build(template: Mapping[str, Any]) -> dict[str, list[float]]:
    """Seconds between pulls that a registry refuses, from the build's own commands."""
    [pauses] = re.findall(r"for pause in ([\d ]+?) 0;", json.dumps(template, default=str))
    return {"pauses": [float(pause) for pause in pauses.split()]}


def kept(bucket: Mapping[str, Any]) -> dict[str, float]:
    """Days after which the bucket's rules delete something."""
    # Rules that a parameter adds have no Id here: they are a function of CloudFormation's.
    rules = {r["Id"]: r for r in bucket["LifecycleConfiguration"]["Rules"] if "Id" in r}
    short = {
        rules[name]["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for name in ("packing-scaffolding", "training-checkpoints", "image-sources")
    }
    [packed] = short
    old = rules["old-versions"]
    return {
        "versions": old["NoncurrentVersionExpiration"]["NoncurrentDays"],
        "uploads": old["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"],
        "packed": packed,
        "build": rules["image-sources"]["ExpirationInDays"],
    }


def retries(queue: Mapping[str, Any]) -> dict[str, float]:
    """The attempts of a picture, and the least and most hours of its retries."""
    tries = int(queue["RedrivePolicy"]["maxReceiveCount"])
    return {
        "tries": tries,
        "least_hours": sum(delay(number, 0.0) for number in range(1, tries)) / 3600,
        "most_hours": sum(delay(number, 1.0) for number in range(1, tries)) / 3600,
    }


def schedule(template: Mapping[str, Any]) -> dict[str, float]:
    """Minutes between runs of scheduled functions."""
    found = re.findall(r"rate\((\d+) minutes\)", json.dumps(template, default=str))
    [minutes] = set(found)
    return {"resume_minutes": float(minutes)}


def sums() -> dict[str, dict[str, float]]:
    """The sums of `make cost`, in dollars, and in cents what is listed."""
    usage, prices = cost.Usage(), cost.Prices()
    packing = json.loads(cost.PACKING.read_text("utf-8"))
    lines = {
        "idle": cost.idle(usage),
        "training": cost.run(usage, packing["pictures_per_second"], packing["record_bytes"]),
        "thousand": cost.thousand(usage),
        "inside": cost.thousand(usage, inside=True),
        "realtime": cost.realtime(usage),
        "beside_instance": (
            line for line in cost.thousand(usage) if line.price != "serverless_gb_second"
        ),
    }
    every = {name: list(of) for name, of in lines.items()}
    return {
        name: {
            "listed": sum(map(prices.listed, of)),
            "cents": 100 * sum(map(prices.listed, of)),
            "beyond": sum(map(prices.beyond_free, of)),
        }
        for name, of in every.items()
    }


def pythons(runtimes: list[str]) -> dict[str, str]:
    """Lists of Python versions: of the local machine, and of Lambda."""
    versions = [runtime.removeprefix("python") for runtime in runtimes]
    return {
        "oldest": versions[0],
        "here": f"{', '.join(versions[:-2])} or {versions[-2]}",
        "here_zh": f"{'、'.join(versions[:-2])} 或 {versions[-2]}",
        "cloud": f"{', '.join(versions[1:-1])} or {versions[-1]}",
        "cloud_zh": f"{'、'.join(versions[1:-1])} 或 {versions[-1]}",
    }


def shown(template: Any, trainer: Any) -> dict[str, Any]:
    """Worked examples of intervals, sizes and prices, computed by the code itself."""
    least = float(template.MinimumAccuracy)
    examples = [
        {
            "right": right,
            "of": of,
            "share": right / of,
            "low": wilson(right, of, Z95_TWO_SIDED)[0],
            "high": wilson(right, of, Z95_TWO_SIDED)[1],
        }
        for right, of in (*_COUNTS, _RECALL)
    ]
    names = ("three", "four", "eight", "twenty", "thirty_five", "many", "recall")
    side = trainer.FIRST_SIDE * trainer.MARGIN
    hour = cost.Prices().entry("ml.g5.xlarge")["usd"]
    return {
        **dict(zip(names, examples, strict=True)),
        "limits": {"half": least, "eight_tenths": 0.8, "more": 0.85, "nine_tenths": 0.9},
        "longest_classifier": _longest_classifier(),
        "fewest_confident": fewest_exact(float(template.ConfidentPrecision), ERROR_LEVEL),
        "z_squared": Z95_TWO_SIDED**2,
        "view_percent": trainer.VIEW_SHARE,
        "decoded_kb": 3 * side**2 / 1000,
        "longest_training": template.MaxTrainingMinutes / 60 * hour,
    }


def _longest_classifier() -> int:
    """Characters of the longest name that is a classifier's."""
    return max(n for n in range(1, 100) if layout.is_classifier_name("a" * n))


def trust(results: Mapping[str, Any]) -> dict[str, Any]:
    """bench-trust's hardest set of pictures, and what is worst or best over all sets."""
    hardest = results["sets"][results["hardest"]]
    searched = hardest["suspects"]["random"]
    unseen = [each["unseen_classes"]["confident"]["mean"] for each in results["sets"].values()]
    return {
        **results,
        "hardest": hardest,
        "changed": searched["changed"] / searched["of"],
        "unseen_confident": {"least": min(unseen), "most": max(unseen)},
        "foreign_by_probability": max(
            other["confident_by_probability"]["mean"]
            for found in results["sets"].values()
            for other in found["foreign"].values()
        ),
    }


def better(found: Mapping[str, Any], figure: str) -> str:
    """The other maps with a lower error than ours on one set of pictures, in words."""
    ours = found["maps"]["ours"][figure]
    lower = [
        f"{_map_in_words(name)} ({one[figure]:.3f})"
        for name, one in found["maps"].items()
        if name != "ours" and one[figure] < ours
    ]
    return f"{', '.join(lower) or 'no other'}; ours {ours:.3f}"


def _map_in_words(name: str) -> str:
    words = {"none": "no map", "half": "fitted on half", "all": "fitted on all"}
    return " ".join(words.get(part, part) for part in name.split("_"))

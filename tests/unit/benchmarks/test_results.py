"""Each results file says where it is from, and its sums are those of the runs that it keeps."""

import json
import re
from datetime import datetime
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any

import pytest

from benchmarks.harness import RESULTS

FILES = sorted(path.name for path in RESULTS.glob("*.json"))
Json = dict[str, Any]


def stored(name: str) -> Json:
    document: Json = json.loads((RESULTS / name).read_text("utf-8"))
    return document


def origins(document: Json) -> list[Json]:
    """The file's own origin, and those of parts that were measured another time."""
    return [
        document,
        *(document[name] for name in ("memory_measured", "probe") if name in document),
    ]


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_when_from_what_by_which_command_and_where(name: str, repo_root: Path) -> None:
    for origin in origins(stored(name)):
        assert origin["machine"] == "unknown" or origin["machine"]["cores"] > 0
        command = re.fullmatch(r"(?:make ([a-z-]+)|python -m ([\w.]+))(?: .*)?", origin["command"])
        assert command
        if target := command.group(1):
            assert f"\n{target}:" in (repo_root / "Makefile").read_text("utf-8")
        else:
            place = repo_root / command.group(2).replace(".", "/")
            assert (place / "__main__.py").is_file() or place.with_suffix(".py").is_file()
        if origin["measured_at"] != "unknown":
            assert datetime.fromisoformat(origin["measured_at"]).tzinfo
        commit = origin["commit"]
        assert re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", commit) or (
            commit == "unknown" and re.fullmatch(r"[0-9a-f]{40}", origin["stored_in"])
        )


@pytest.fixture
def packing() -> Json:
    return stored("packing.json")


def runs_of(packing: Json, way: str, place: str) -> list[Json]:
    return [run for run in packing["runs"] if (run["way"], run["place"]) == (way, place)]


def test_the_ways_of_packing_are_those_of_the_runs(packing: Json) -> None:
    pictures = packing["corpus"]["pictures"]
    assert len(packing["runs"]) == sum(
        len(runs_of(packing, *key.split(", "))) for key in packing["ways"]
    )
    for key, found in packing["ways"].items():
        runs = runs_of(packing, *key.split(", "))
        values = {
            "pictures_per_second": [pictures / run["seconds"] for run in runs],
            "cpu_ms_per_picture": [1000 * run["cpu_seconds"] / pictures for run in runs],
            "peak_rss_mb": [run["peak_rss_mb"] for run in runs],
        }
        for figure, each in values.items():
            expected = {"median": median(each), "min": min(each), "max": max(each)}
            assert found[figure] == pytest.approx(expected, abs=0.0051), (key, figure)


@pytest.mark.parametrize(
    ("name", "theirs", "place"),
    [
        ("end_to_end", "notebook", "s3"),
        ("local", "im2rec", "local"),
        ("seaweedfs", "notebook", "seaweedfs"),
    ],
)
def test_the_ratios_of_packing_are_those_of_neighbouring_runs(
    packing: Json, name: str, theirs: str, place: str
) -> None:
    pairs = zip(runs_of(packing, theirs, place), runs_of(packing, "droplens", place), strict=True)
    ratios = [other["seconds"] / ours["seconds"] for other, ours in pairs]
    expected = {"median": median(ratios), "min": min(ratios), "max": max(ratios)}
    assert packing["ratios"][name] == pytest.approx(expected, abs=0.0051)


def test_what_stands_in_front_of_packing_is_what_stands_below(packing: Json) -> None:
    ours = packing["ways"]["droplens, s3"]
    assert packing["pictures_per_second"] == ours["pictures_per_second"]["median"]
    assert packing["peak_rss_mb"] == ours["peak_rss_mb"]["max"]
    assert packing["end_to_end_ratio"] == packing["ratios"]["end_to_end"]["median"]


@pytest.mark.parametrize("place", [0, 1])
def test_the_ratios_of_the_handlers_are_those_of_the_runs(place: int) -> None:
    found = stored("classify.json")["handlers"][place]

    def of(way: str, figure: str) -> list[float]:
        return [run[figure] for run in found["runs"] if run["way"] == way]

    assert len(of("droplens", "seconds")) == found["batches"] == len(of("bare", "seconds"))
    for name, figure in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
        pairs = zip(of("droplens", figure), of("bare", figure), strict=True)
        low, middle, high = quantiles([ours / bare for ours, bare in pairs], n=4)
        expected = {"median": middle, "low": low, "high": high}
        assert found[name] == pytest.approx(expected, abs=0.00051)
    for name, figure in (("ms_per_picture", "seconds"), ("cpu_ms_per_picture", "cpu_seconds")):
        for way in ("droplens", "bare"):
            expected_ms = 1000 * median(of(way, figure)) / found["batch"]
            assert found[name][way] == pytest.approx(expected_ms, abs=0.0051)


def test_cold_starts_and_floods_are_those_of_the_samples() -> None:
    found = stored("classify.json")
    for each in found["cold_start"].values():
        assert each["ms"] == pytest.approx(median(each["samples_ms"]), abs=0.051)
    for flood in found["floods"]:
        each = 1000 * flood["seconds"] / flood["pictures"]
        assert flood["ms_each"] == pytest.approx(each, abs=0.11)
        assert flood["pictures_per_second"] == pytest.approx(1000 / each, abs=0.11)
    in_batches, alone = found["handlers"]
    assert found["handler_ratio"] == in_batches["ratio"]["median"]
    assert found["handler_ratio_alone"] == alone["ratio"]["median"]
    for name in ("lost", "doubled", "wrong"):
        assert found[name] == found["chaos"][name]


def test_probe_is_the_mean_of_its_splits() -> None:
    probe = stored("training.json")["probe"]
    for name, key in (("ours", "probe"), ("logistic", "logistic")):
        for figure, value in probe[name].items():
            expected = fmean(split[key][figure] for split in probe["splits"])
            assert value == pytest.approx(expected, rel=1e-9, abs=0.051 if value > 1 else 1e-9)
    assert probe["top1"] == probe["ours"]["top1"]
    assert probe["peak_memory_mb"] == max(s["probe"]["peak_memory_mb"] for s in probe["splits"])


def test_finetuning_s_ratio_is_that_of_its_rates() -> None:
    found = stored("training.json")
    rates = found["pictures_per_second"] / found["plain_loop"]["pictures_per_second"]
    assert found["ratio_to_plain_loop"] == pytest.approx(rates, rel=1e-3)
    low, high = found["pictures_per_second_range"]
    assert low <= found["pictures_per_second"] <= high


def test_the_comparison_of_finetuning_is_the_sum_of_its_splits() -> None:
    found = stored("training.json")["comparison"]
    for name in ("start", "trained", "folded"):
        ways = [split[name] for split in found["splits"]]
        pictures = sum(each["pictures"] for each in ways)
        assert found["pictures"] == pictures
        assert found[name]["top1"] == sum(each["correct"] for each in ways) / pictures


def test_what_stands_in_front_of_serving_is_what_stands_below() -> None:
    found = stored("serving.json")
    assert found["cold_start_seconds"] == found["cold_start"]["droplens"]["median"]
    assert found["latency_ratio"] == found["latency"]["ratio"]["median"]
    for part in (found["latency"], found["int8"]):
        ratio = part["http_ms"]["p50"] / part["bare_ms"]["p50"]
        assert part["ratio_of_p50"] == pytest.approx(ratio, abs=0.0011)
    for cpu in (found["cpu_ms"], found["int8"]["cpu_ms"]):
        assert cpu["ratio"] == pytest.approx(cpu["http"] / cpu["bare"], abs=0.0011)


def test_what_stands_in_front_of_trust_is_what_stands_below() -> None:
    found = stored("trust.json")
    hardest = found["sets"][found["hardest"]]
    assert hardest["accuracy"]["mean"] == min(
        each["accuracy"]["mean"] for each in found["sets"].values()
    )
    assert found["ece_before"] == hardest["maps"]["none"]["ece"]
    assert found["ece_after"] == hardest["maps"]["ours"]["ece"]
    for each in found["sets"].values():
        for spread in (each["accuracy"], each["coverage_at_95_precision"]):
            assert spread["least"] <= spread["mean"] <= spread["most"]

"""What Droplens costs: sums of list prices that can be followed, and quoted as they are."""

import json
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from droplens.domain import choices
from droplens.evaluation import measure
from droplens_cli import cost
from droplens_cli.account import RECIPES
from droplens_cli.cost import Line, Prices, Usage


@pytest.fixture(scope="module")
def template(repo_root: Path) -> dict[str, Any]:
    """template.yaml."""
    return dict(yaml_parse((repo_root / "template.yaml").read_text("utf-8")))


def test_the_demo_s_sum_grows_with_its_recipe_and_its_pictures() -> None:
    def costs(recipe: str, learned: int, answered: int) -> float:
        return sum(map(Prices().listed, cost.demo(recipe, learned, answered, 20)))

    assert costs("finetune", 1000, 90) > 2 * costs("probe", 1000, 90)
    assert costs("probe", 100_000, 90) > costs("probe", 1000, 90) + 0.03
    # A thousand pictures more cost what a thousand cost.
    thousand = sum(map(Prices().listed, cost.thousand(Usage())))
    more = costs("probe", 1000, 1090) - costs("probe", 1000, 90)
    assert more == pytest.approx(thousand + 1000 * 5e-06)
    # On a GPU an hour, and two builds of 35 minutes.
    assert cost.demo_at_most("finetune", 60, Prices()) == pytest.approx(1.408 + 0.35)


def test_the_demo_takes_the_instances_that_the_functions_choose(template: dict[str, Any]) -> None:
    assert cost.DEMO.keys() == set(RECIPES)
    assert set(RECIPES) < set(template["Parameters"]["Recipe"]["AllowedValues"])
    assert cost.DEMO_INSTANCE["finetune"] == choices.FINETUNE_CANDIDATES[0]
    assert cost.DEMO_INSTANCE["probe"] == choices.CPU_CANDIDATES[0]
    timeout = template["Resources"]["ImageBuilds"]["Properties"]["TimeoutInMinutes"]
    assert timeout == cost.BUILD_TIMEOUT_MINUTES


def test_the_defaults_are_those_of_the_template(template: dict[str, Any]) -> None:
    def default(name: str) -> Any:
        return template["Parameters"][name]["Default"]

    usage = Usage()
    assert usage.monitoring == default("Monitoring")
    assert usage.packing_vcpus == int(default("PackingVcpus"))
    assert usage.packing_gb == int(default("PackingMemoryMiB")) / 1024
    assert default("TrainingInstanceType") == choices.AUTO
    assert default("Recipe") == choices.FINETUNE
    assert usage.training_instances == default("TrainingInstanceCount")
    assert usage.training_instance == choices.FINETUNE_CANDIDATES[0]
    assert usage.endpoint_instance == default("EndpointInstanceType")
    assert usage.endpoint_gb == default("EndpointMemoryMb") / 1024
    memory = template["Resources"]["ClassifyImage"]["Properties"]["MemorySize"]
    assert usage.lambda_gb == memory / 1024
    assert measure.SAMPLE == cost.MEASURED_AT_MOST
    assert usage.kms_keys == 0


@pytest.mark.parametrize("monitoring", cost.MONITORING)
def test_alarms_and_dashboards_are_counted_in_the_template(
    template: dict[str, Any], monitoring: str
) -> None:
    assert template["Parameters"]["Monitoring"]["AllowedValues"] == list(cost.MONITORING)
    made = [
        resource
        for resource in template["Resources"].values()
        if monitoring == "all" or resource.get("Condition") != "MonitorsAll"
    ]
    billed = [
        statistic
        for alarm in made
        if alarm["Type"] == "AWS::CloudWatch::Alarm"
        for statistic in alarm["Properties"].get("Metrics", [{"MetricStat": {}}])
        if "MetricStat" in statistic
    ]
    metrics, dashboards = cost.MONITORING[monitoring]
    assert len(billed) == metrics
    assert [resource["Type"] for resource in made].count("AWS::CloudWatch::Dashboard") == dashboards


def test_every_price_has_its_unit_and_its_source() -> None:
    told = json.loads(cost.PRICES.read_text("utf-8"))
    for name, entry in told["prices"].items():
        assert entry["usd"] > 0, name
        assert entry["per"], name
        assert entry["source"].startswith("https://aws.amazon.com/"), name
    every = [*cost.idle(Usage(kms_keys=1)), *cost.run(Usage(), 200, 50_000)]
    every += [*cost.thousand(Usage()), *cost.realtime(Usage()), *cost.live_accuracy(Usage())]
    assert {line.price for line in every} <= told["prices"].keys()


def test_a_line_is_amount_times_price_beyond_what_is_free() -> None:
    prices = Prices()
    alarms = Line("alarms", 12, "alarm")
    assert prices.listed(alarms) == pytest.approx(1.20)
    assert prices.beyond_free(alarms) == pytest.approx(0.20)
    assert prices.beyond_free(Line("alarms", 7, "alarm")) == 0
    gigabytes = Line("GB", 5, "s3_storage")
    assert prices.beyond_free(gigabytes) == prices.listed(gigabytes) == pytest.approx(0.115)


def test_a_run_grows_with_its_pictures_and_its_minutes() -> None:
    def costs(**usage: Any) -> float:
        return sum(map(Prices().listed, cost.run(Usage(**usage), 200.0, 50_000)))

    # Ten million: 13.9 hours of two vCPUs and 4 GB, $1.37 in Fargate and $4 of reading.
    more = costs(pictures=10_000_000, training_minutes=0)
    assert more == pytest.approx(1.37 + 4 + 0.6 + 0.07 + 0.1, abs=0.2)
    hour = costs(training_minutes=60) - costs(training_minutes=0)
    assert hour == pytest.approx(1.408)


def test_the_live_accuracy_costs_its_metrics_and_hourly_reads_of_the_sample() -> None:
    # A million reviews are 300 MB an hour, and one read unit of an index is of 8 KiB.
    of_none, of_many = (
        sum(map(Prices().listed, cost.live_accuracy(Usage(spot_checks=count))))
        for count in (0, 1_000_000)
    )
    assert of_none == pytest.approx(0.60)
    assert of_many - of_none == pytest.approx(730 * 36_622 * 0.125e-6)


def test_options_change_the_sums(capsys: pytest.CaptureFixture[str]) -> None:
    cost.main(["--monitoring", "essential", "--kms-keys", "1"])
    output = capsys.readouterr().out
    assert "| metrics of alarms | 7 | $0.70 | $0.00 |" in output
    assert "| KMS keys | 1 | $1.00 | $1.00 |" in output
    assert "dashboards" not in output


def test_an_instance_without_a_price_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cost.main(["--training-instance", "ml.p9.xlarge"])
    assert "prices.json has no price of ml.p9.xlarge" in capsys.readouterr().err

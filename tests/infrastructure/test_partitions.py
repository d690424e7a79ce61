"""The same template and code in AWS's other partitions: China, and the US government's."""

import re
from pathlib import Path

import pytest

from tests.support.expanded_template import expanded_in

# Services call themselves so in IAM and in the names of VPC endpoints, whatever the partition.
PRINCIPAL = re.compile(r"\b[a-z-]+\.amazonaws\.com(?!\.cn)\b")
PRINCIPALS = {
    "codebuild.amazonaws.com",
    "ecs-tasks.amazonaws.com",
    "events.amazonaws.com",
    "lambda.amazonaws.com",
    "sagemaker.amazonaws.com",
}
DEPLOYED = ("functions", "layers", "batch_prep", "trainer")


def sources(root: Path) -> list[Path]:
    folders = [path for folder in DEPLOYED for path in (root / folder).rglob("*.py")]
    return [root / "template.yaml", *folders]


def test_no_source_names_one_partition_s_arns_or_hosts(repo_root: Path) -> None:
    found = []
    for path in sources(repo_root):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            code = PRINCIPAL.sub(lambda it: "" if it[0] in PRINCIPALS else it[0], line)
            if "arn:aws:" in code or re.search(r"(?<!com\.)amazonaws", code):
                found.append(f"{path.relative_to(repo_root)}:{number}: {line.strip()}")
    assert found == []


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1"])
def test_every_arn_is_the_partition_s(repo_root: Path, region: str) -> None:
    stack = expanded_in(region, repo_root)
    partition = stack.pseudo["AWS::Partition"]
    text = repr([stack.properties(name) for name in stack.template["Resources"]])
    arns = set(re.findall(r"arn:[a-z-]*:", text))
    assert arns == {f"arn:{partition}:"}
    hosts = set(re.findall(r"[a-z0-9.-]+\.amazonaws\.com[a-z.]*", text)) - PRINCIPALS
    assert hosts
    assert all(host.endswith(f"{region}.{stack.pseudo['AWS::URLSuffix']}") for host in hosts)

"""classify_image imports nothing heavy that the path of a picture does not use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.expanded_template import REGION, Stack

# Each costs a cold start tens to hundreds of milliseconds and answers no picture.
HEAVY = {
    "aws_xray_sdk": "the X-Ray SDK",
    "droplens.runtime.tracing": "the tracer, which brings the X-Ray SDK",
    "jsonschema": "what is written is checked by the tests",
    "numpy": "the containers' arrays",
    "pydantic": "powertools' parser",
    "requests": "boto3 speaks HTTP by itself",
    "statistics": "quantiles of the normal distribution, for promote_endpoint",
    "unittest": "for tests",
    "PIL.ImageFont": "nothing is written on a picture",
    "droplens.journey.deploy": "deploy_endpoint's",
    "droplens.evaluation.measure": "promote_endpoint's",
    "droplens.journey.pack": "prepare_dataset's",
    "droplens.journey.promote": "promote_endpoint's",
    "droplens.records.recordio": "the containers' and promote_endpoint's",
    "droplens.journey.failure_reasons": "report_failure's",
    "droplens.journey.train": "start_training's",
}


@pytest.fixture(scope="module")
def imported(repo_root: Path, stack: Stack) -> set[str]:
    """The modules of a new process that has imported classify_image as Lambda does."""
    variables = stack.properties("ClassifyImage")["Environment"]["Variables"]
    code = repo_root / "functions" / "classify_image"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import json, sys, app; print(json.dumps(sorted(sys.modules)))",
        ],
        env={
            **{name: str(value) for name, value in variables.items()},
            "PYTHONPATH": f"{code}:{repo_root / 'layers' / 'droplens'}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_the_function_s_own_modules_are_imported(imported: set[str]) -> None:
    assert {"app", "boto3", "PIL.Image", "droplens.classify.classify"} <= imported


@pytest.mark.parametrize("module", HEAVY)
def test_nothing_heavy_is_imported(imported: set[str], module: str) -> None:
    assert module not in imported, HEAVY[module]

"""`make preflight LOCAL=1`: the command against a local cloud with a new account's quotas."""

import os
import re
import subprocess
import sys

from tests.support.localcloud import Cloud
from tests.support.repository import ROOT


def preflight(cloud: Cloud, *parameters: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "droplens_cli", "--stack", "pf", "preflight", *parameters]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **cloud.keys, "PYTHONPATH": f"{ROOT}:{ROOT / 'layers/droplens'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def test_the_local_cloud_is_asked_as_an_account_is(cloud: Cloud) -> None:
    status, output = preflight(cloud, "Recipe=probe", "PythonRuntime=python3.11")
    assert status == 0, output
    assert re.search(r"^  ok +training instance +ml\.m5\.xlarge, spot: quota", output, re.MULTILINE)
    assert re.search(r"^  ok +stack +pf is not there yet", output, re.MULTILINE)
    assert re.search(r"^  ok +packing vCPUs|^  note +packing vCPUs", output, re.MULTILINE)
    # Without a GPU's quota for spot capacity a run of the default recipe would not train.
    status, output = preflight(cloud, "TrainingInstanceType=ml.p4d.24xlarge")
    assert status == 1, output
    assert re.search(r"^  FAILS +training instance +ml\.p4d\.24xlarge", output, re.MULTILINE)

"""The built-in algorithm's registry accounts are those of the sagemaker SDK, region by region."""

import json
import re
from pathlib import Path

import pytest

from droplens.journey import train
from tests.support import needs

REFERENCE = Path(".local/reference/image-classification.json")


@pytest.fixture(scope="module")
def sdk_accounts(repo_root: Path) -> dict[str, str]:
    """Region to account as the SDK ships it; fetched by `make unit` and `make test`."""
    path = repo_root / REFERENCE
    if not path.is_file():
        needs.skip("reference", f"the SDK's own list is not in {REFERENCE}")
    image = json.loads(path.read_text())["versions"]["1"]
    assert image["repository"] == "image-classification"
    return dict(image["registries"])


def test_regions_and_accounts_are_those_of_the_sdk(sdk_accounts: dict[str, str]) -> None:
    assert train.builtin_accounts() == sdk_accounts


@pytest.mark.parametrize(
    ("region", "account"),
    [
        ("us-east-1", "811284229777"),
        ("eu-west-1", "685385470294"),
        ("cn-north-1", "390948362332"),
    ],
)
def test_accounts_that_the_documentation_gives(region: str, account: str) -> None:
    assert train.builtin_accounts()[region] == account


def test_every_entry_is_a_region_and_an_account() -> None:
    for region, account in train.builtin_accounts().items():
        assert re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", region)
        assert re.fullmatch(r"\d{12}", account)

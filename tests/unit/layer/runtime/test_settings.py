"""Settings from the environment: by their type, or refused by name."""

import math
import re
from dataclasses import dataclass

import pytest

from droplens.runtime.settings import (
    ClassificationSettings,
    Settings,
    SettingsError,
    TrainingSettings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _EveryKind(Settings):
    name: str
    count: int
    share: float
    wanted: bool


EVERY_KIND = {"NAME": "x", "COUNT": "3", "SHARE": "0.25", "WANTED": "true"}


def test_settings_are_read_by_their_type() -> None:
    settings = _EveryKind.from_environment({**EVERY_KIND, "OTHER": "ignored"})
    assert settings == _EveryKind(name="x", count=3, share=0.25, wanted=True)


@pytest.mark.parametrize("variable", EVERY_KIND)
def test_a_missing_variable_is_named(variable: str) -> None:
    environment = {name: text for name, text in EVERY_KIND.items() if name != variable}
    with pytest.raises(SettingsError, match=f"{variable} is not set"):
        _EveryKind.from_environment(environment)


@pytest.mark.parametrize(
    ("variable", "text"), [("COUNT", "3.5"), ("SHARE", "much"), ("WANTED", "True"), ("WANTED", "1")]
)
def test_a_malformed_variable_is_named_with_what_it_holds(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}='{re.escape(text)}'"):
        _EveryKind.from_environment({**EVERY_KIND, variable: text})


def test_without_an_argument_the_process_s_environment_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for field in ClassificationSettings.__dataclass_fields__:
        monkeypatch.setenv(
            field.upper(),
            "7" if field.endswith(("concurrency", "hours", "share", "days")) else field,
        )
    assert ClassificationSettings.from_environment().bucket == "bucket"


@pytest.mark.parametrize(("endpoint", "classify", "each"), [(5, 2, 2), (200, 10, 20), (2, 5, 1)])
def test_invocations_share_what_the_endpoint_takes(endpoint: int, classify: int, each: int) -> None:
    settings = ClassificationSettings(
        bucket="b",
        runs_table="r",
        reviews_table="v",
        event_bus="e",
        picture_queue_url="q",
        endpoint_max_concurrency=endpoint,
        classify_max_concurrency=classify,
        stop_idle_endpoint_hours=0,
        result_schema="v2",
        spot_check_share=0.01,
        reviews_retention_days=0,
    )
    assert settings.concurrent_calls == each


def test_every_settings_field_has_a_type_that_can_be_read() -> None:
    environment = {"USE_SPOT": "true"}
    numbers = TrainingSettings.__dataclass_fields__
    for name in numbers:
        environment.setdefault(name.upper(), "1")
    settings = TrainingSettings.from_environment(environment)
    assert math.isclose(settings.learning_rate, 1.0)
    assert settings.use_spot is True

"""Reads the answers that `make deploy` saved, in a configuration file of sam's."""

import shlex
import tomllib
from pathlib import Path
from typing import Any

DEFAULT_STACK = "droplens"


class Saved:
    """The saved answers of sam deploy: stack, region, profile, and parameters where overridden."""

    def __init__(self, config: Path) -> None:
        sections = tomllib.loads(config.read_text()).get("default", {}) if config.is_file() else {}
        answers: dict[str, Any] = {}
        for section in ("global", "deploy"):
            answers |= sections.get(section, {}).get("parameters", {})
        self.stack: str | None = answers.get("stack_name")
        self.session_options = {
            f"{name}_name": answers[name] for name in ("region", "profile") if name in answers
        }
        pairs = answers.get("parameter_overrides", [])
        # sam writes one line of key="value" pairs, with a backslash before a quote in a value.
        pairs = shlex.split(pairs) if isinstance(pairs, str) else pairs
        self.parameters = {
            key: value.strip('"') for key, _, value in (pair.partition("=") for pair in pairs)
        }

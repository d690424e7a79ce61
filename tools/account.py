"""What `make deploy` needs beside sam: the Python to build for, from the saved answers.

    python tools/account.py runtime CONFIG     # the PythonRuntime to build for

CONFIG is the file in which `sam deploy --guided` keeps its answers.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any


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
        # sam writes one line of key="value" pairs.
        pairs = pairs.split() if isinstance(pairs, str) else pairs
        self.parameters = {
            key: value.strip('"') for key, _, value in (pair.partition("=") for pair in pairs)
        }


def runtime(saved: Saved) -> str:
    """The runtime chosen before, else that of this interpreter: the layer is built for it."""
    return saved.parameters.get("PythonRuntime", "python{}.{}".format(*sys.version_info[:2]))


def main() -> None:
    """Run the one command named on the command line."""
    match sys.argv[1:]:
        case ["runtime", config]:
            print(runtime(Saved(Path(config))))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()

"""The saved answers of `make deploy`: asked for once, then read by every command on the account.

    python -m droplens_cli.account CONFIG             # asks at the terminal and writes CONFIG
    python -m droplens_cli.account CONFIG --stack droplens --region eu-west-1 --yes    # no question

CONFIG is a configuration file of sam's, so that `sam build` and `sam deploy` read it by
`--config-file`. sam 1.170 refuses such a file that does not exist, also with `--guided`.
"""

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from droplens_cli.aws_errors import explained
from droplens_cli.saved_answers import DEFAULT_STACK

DEFAULT_REGION = "us-east-1"
# As droplens.domain.naming has it: SageMaker's names are made of the stack's.
STACK = re.compile(r"(?=.{1,30}\Z)[a-z](-?[a-z0-9])*")
# As the template's NotificationEmail has it.
EMAIL = re.compile(r"|[^@\s]+@[^@\s]+\.[^@\s]+")
RECIPES = ("finetune", "probe")
# The template's, newest first, but for python3.11: docs/preflight.md has the reason.
RUNTIMES = ("python3.14", "python3.13", "python3.12")
HEAD = """\
# The answers to what `make deploy` asked. sam, make redrive, make rollback and make destroy read
# them here. Further parameters of template.yaml go into the last line: UseSpot="true", for one, is
# up to 90 % cheaper where the account has a quota of spot instances. Delete this file, and
# `make deploy` asks again.
version = 0.1
"""


def running_python() -> str:
    """The Lambda runtime of this interpreter."""
    return "python{}.{}".format(*sys.version_info[:2])


def builds(runtime: str) -> bool:
    """Whether `sam build` can build for the runtime: its Python is on the PATH and runs pip, by
    which sam installs packages. (A pyenv shim without that version is on the PATH, too.)"""
    if not shutil.which(runtime):
        return False
    completed = subprocess.run(
        [runtime, "-m", "pip", "--version"], capture_output=True, check=False
    )
    return completed.returncode == 0


def lambda_python() -> str:
    """The PythonRuntime to deploy: this interpreter's where Lambda's is one with current decoders,
    else the newest one that sam can build for here. Raises SystemExit where there is none.

    Where AWS_ENDPOINT_URL names a local cloud, functions run on this interpreter, whichever it is.
    """
    here = running_python()
    if os.environ.get("AWS_ENDPOINT_URL") or here in RUNTIMES:
        return here
    found = next((runtime for runtime in RUNTIMES if builds(runtime)), None)
    if found is None:
        raise SystemExit(
            f"sam build needs one of {', '.join(RUNTIMES)} with pip on the PATH, for what runs on "
            f"Lambda, and there is none (this is {here}, which is for the local cloud only): "
            "install one, then run the same command again"
        )
    return found


def config_text(
    stack: str,
    region: str | None,
    profile: str | None,
    parameters: Mapping[str, str],
    *,
    confirm: bool,
) -> str:
    """A configuration file of sam's for one stack. confirm: sam asks before it changes anything."""

    def line(name: str, value: str | bool | None) -> str:
        return "" if value is None else f"{name} = {json.dumps(value)}\n"

    def overrides(pairs: Mapping[str, str]) -> str:
        quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in pairs.values())
        return " ".join(f'{key}="{value}"' for key, value in zip(pairs, quoted, strict=True))

    built = {"PythonRuntime": parameters.get("PythonRuntime") or lambda_python()}
    return "".join(
        [
            HEAD,
            "\n[default.global.parameters]\n",
            line("stack_name", stack),
            line("region", region),
            line("profile", profile),
            "\n[default.build.parameters]\n",
            line("cached", True),
            line("parameter_overrides", overrides(built)),
            "\n[default.deploy.parameters]\n",
            line("capabilities", "CAPABILITY_IAM"),
            line("resolve_s3", True),
            line("s3_prefix", stack),
            line("confirm_changeset", confirm),
            line("fail_on_empty_changeset", False),
            line("parameter_overrides", overrides({**built, **parameters})),
        ]
    )


def known_regions() -> list[str]:
    """Every region that this botocore knows, of all partitions."""
    session = boto3.Session()
    return sorted(
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("cloudformation", partition)
    )


def _bad_stack(name: str) -> str:
    if STACK.fullmatch(name):
        return ""
    return "lower-case letters, digits and single hyphens, beginning with a letter, at most 30"


def _bad_region(name: str) -> str:
    regions = known_regions()
    if name in regions:
        return ""
    near = difflib.get_close_matches(name, regions, n=3)
    return f"there is no region {name!r}" + (f"; is it {' or '.join(near)}?" if near else "")


def _bad_profile(name: str) -> str:
    profiles = boto3.Session().available_profiles
    return "" if name in profiles else f"no such profile; there are {', '.join(profiles)}"


def _bad_email(text: str) -> str:
    return "" if EMAIL.fullmatch(text) else "an address like me@example.org, or nothing"


def _bad_recipe(text: str) -> str:
    return "" if text in RECIPES else f"one of {', '.join(RECIPES)}"


def _bad_yes_or_no(text: str) -> str:
    return "" if text.lower() in ("y", "yes", "n", "no") else "y or n"


def ask(question: str, default: str, problem: Callable[[str], str]) -> str:
    """Ask until the answer is valid. problem: returns what is wrong with an answer, or ""."""
    while True:
        text = input(f"  {question}{f' [{default}]' if default else ''}: ").strip() or default
        if not (reason := problem(text)):
            return text
        print(f"    not {text!r}: {reason}" if text else f"    needed: {reason}")


def _profile() -> str | None:
    """The profile to use; None where the environment has credentials, or there is no profile."""
    named = os.environ.get("AWS_PROFILE")
    if named or "AWS_ACCESS_KEY_ID" in os.environ:
        return named
    return "default" if boto3.Session().available_profiles else None


def answers(options: argparse.Namespace) -> str:
    """The configuration file's text, from the options and, unless --yes, from questions."""
    runtime = lambda_python()  # before any question
    profile = options.profile or _profile()
    here = boto3.Session(profile_name=profile)
    found = {
        "stack": (options.stack or DEFAULT_STACK, _bad_stack),
        "region": (options.region or here.region_name or DEFAULT_REGION, _bad_region),
        "email": (options.email or "", _bad_email),
        "recipe": (options.recipe or RECIPES[0], _bad_recipe),
        "confirm": ("n" if options.yes else "y", _bad_yes_or_no),
    }
    questions = {
        "stack": "The stack's name",
        "region": "AWS region",
        "email": "Who hears of failures, an e-mail address (empty: nobody)",
        "recipe": "How to train: finetune on a GPU, or probe on a CPU (finetune, probe)",
        "confirm": "Show each deployment's changes and ask before they are made (y, n)",
    }
    if options.yes:
        for name, (value, problem) in found.items():
            if reason := problem(value):
                raise SystemExit(f"--{name} {value}: {reason}")
        chosen = {name: value for name, (value, _) in found.items()}
    else:
        print("Where to deploy to. Enter takes what stands in brackets.")
        if profile and not os.environ.get("AWS_PROFILE"):
            profile = ask("AWS profile", profile, _bad_profile)
        chosen = {name: ask(questions[name], *found[name]) for name in questions}
    # A new account has no quota of spot instances: its first training would wait for one.
    parameters = {
        "PythonRuntime": runtime,
        "Recipe": chosen["recipe"],
        "UseSpot": "false",
    }
    if chosen["email"]:
        parameters["NotificationEmail"] = chosen["email"]
    confirm = chosen["confirm"].lower() in ("y", "yes")
    return config_text(chosen["stack"], chosen["region"], profile, parameters, confirm=confirm)


def main(arguments: list[str] | None = None) -> None:
    """Write the answers; an existing file is not changed."""
    parser = argparse.ArgumentParser(prog="python -m droplens_cli.account", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("config", type=Path)
    for name in ("stack", "region", "profile", "email"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--recipe", choices=RECIPES)
    parser.add_argument("--yes", action="store_true", help="ask no questions")
    options = parser.parse_args(arguments)
    if options.config.exists():
        print(f"{options.config} has the answers already")
        return
    if not options.yes and not sys.stdin.isatty():
        raise SystemExit(
            f"there is no terminal to ask at: run `python -m droplens_cli.account {options.config} "
            "--stack droplens --region eu-west-1 --yes` with yours, then the same command again"
        )
    try:
        text = answers(options)
    except (EOFError, KeyboardInterrupt):
        raise SystemExit("\nnothing was saved; the same command asks again") from None
    except (BotoCoreError, ClientError) as error:
        raise SystemExit("\n".join(explained(error))) from None
    options.config.parent.mkdir(parents=True, exist_ok=True)
    options.config.write_text(text, encoding="utf-8")
    print(f"saved in {options.config}")


if __name__ == "__main__":
    main()

"""What `make deploy` needs beside sam: the saved answers, and the container images in the account.

    python tools/account.py check              # Docker answers, or say what is missing
    python tools/account.py runtime CONFIG     # the PythonRuntime to build for
    python tools/account.py push CONFIG        # build both images and push them to the stack's ECR

CONFIG is the file in which `sam deploy --guided` keeps its answers.
"""

import base64
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3

ROOT = Path(__file__).resolve().parent.parent
# The stack's output that names the repository, and the folder of the Dockerfile.
IMAGES = {"BatchPrepRepositoryUri": "batch_prep", "TrainerRepositoryUri": "trainer"}


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


def check() -> None:
    """Raise SystemExit, saying what to do, where there is no Docker."""
    try:
        docker = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit("make deploy builds two container images: install Docker first") from None
    if docker.returncode:
        raise SystemExit(
            "make deploy builds two container images, and Docker does not answer:\n"
            + docker.stderr.strip()
        )


def repositories(cloudformation: Any, stack: str) -> dict[str, str]:
    """The address of each image's repository, by the folder that it is built from."""
    (described,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    return {folder: outputs[name] for name, folder in IMAGES.items()}


def log_in(ecr: Any) -> None:
    """Let docker push to the account's registry, with a token that ends after twelve hours."""
    (grant,) = ecr.get_authorization_token()["authorizationData"]
    user, _, token = base64.b64decode(grant["authorizationToken"]).decode().partition(":")
    _docker("login", "-u", user, "--password-stdin", grant["proxyEndpoint"], text=token)


def push(addresses: Mapping[str, str], tag: str) -> None:
    """Build each folder's image for the x86-64 of Fargate and SageMaker, and push it."""
    for folder, repository in addresses.items():
        image = f"{repository}:{tag}"
        dockerfile = str(ROOT / folder / "Dockerfile")
        # SageMaker takes plain image manifests only, not the index with attestations around them.
        plain = ["--platform", "linux/amd64", "--provenance=false"]
        _docker("build", *plain, "-f", dockerfile, "-t", image, str(ROOT))
        _docker("push", image)


def _docker(*arguments: str, text: str | None = None) -> None:
    done = subprocess.run(["docker", *arguments], input=text, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"docker {arguments[0]} ended with exit code {done.returncode}")


def main() -> None:
    """Run the one command named on the command line."""
    match sys.argv[1:]:
        case ["check"]:
            check()
        case ["runtime", config]:
            print(runtime(Saved(Path(config))))
        case ["push", config]:
            saved = Saved(Path(config))
            if saved.stack is None:
                raise SystemExit(
                    f"{config} names no stack: let sam deploy --guided save its answers there"
                )
            session = boto3.Session(**saved.session_options)
            addresses = repositories(session.client("cloudformation"), saved.stack)
            log_in(session.client("ecr"))
            push(addresses, saved.parameters.get("ImageTag", "latest"))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()

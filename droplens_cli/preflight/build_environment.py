"""Checks what the builds need outside the account: a Python, base images, packages."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from droplens_cli.account import builds
from droplens_cli.preflight.chosen import Chosen
from droplens_cli.preflight.findings import Finding, State

# Python 3.11 on Lambda is Amazon Linux 2, whose glibc 2.26 the decoders' newer wheels do not run on
# (Lambda Developer Guide, "Lambda runtimes").
OLD_RUNTIME = "python3.11"
DEFAULT_REGISTRY = "public.ecr.aws/docker/library"
DEFAULT_INDEX = "https://pypi.org/simple"
SECONDS = 5


def runtime(chosen: Chosen) -> Finding:
    """Whether Lambda's Python has current decoders, and is installed here for `sam build`."""
    wanted = chosen["PythonRuntime"]
    known = chosen.template["Parameters"]["PythonRuntime"]["AllowedValues"]
    newer = [name for name in known if name != OLD_RUNTIME]
    here = [name for name in newer if builds(name)]
    instead = tuple(f"PythonRuntime={name}" for name in here)
    if wanted == OLD_RUNTIME:
        return Finding(
            State.FAILS,
            "Python",
            f"{wanted} is for the local cloud only: on Lambda its decoders get no security fixes",
            do=() if here else (f"install one of {', '.join(newer)}, and name it",),
            instead=instead,
        )
    if not builds(wanted):
        return Finding(
            State.FAILS,
            "Python",
            f"sam build needs {wanted} with pip on the PATH, and it is not there",
            do=(f"install {wanted}",),
            instead=instead,
        )
    return Finding(State.OK, "Python", f"{wanted} with pip is on the PATH")


def registries(chosen: Chosen) -> Iterator[Finding]:
    """Whether base images and packages can be fetched, seen from this machine's network."""
    registry = chosen["BaseImageRegistry"] or DEFAULT_REGISTRY
    host = registry.split("/")[0]
    yield reachable("base images", f"https://{host}/v2/", "BaseImageRegistry")
    index = chosen["PipIndexUrl"] or DEFAULT_INDEX
    yield reachable("packages", f"{index.rstrip('/')}/pip/", "PipIndexUrl")


def reachable(what: str, url: str, parameter: str) -> Finding:
    """Whether a server responds; 401, of a registry without a token, counts as a response.

    The images are built in CodeBuild, which has another network: no response here is UNKNOWN.
    """
    host = urlsplit(url).netloc
    request = urllib.request.Request(url, method="GET")  # noqa: S310  https, or a test's own server
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
            code = response.status
    except urllib.error.HTTPError as error:
        code = error.code
    except (OSError, ValueError) as error:
        return Finding(
            State.UNKNOWN,
            what,
            f"{host} does not answer this machine ({error}); CodeBuild's network decides. A "
            f"mirror: {parameter}",
        )
    if code == 404 or code >= 500:
        return Finding(
            State.UNKNOWN,
            what,
            f"{host} answers {code} to {urlsplit(url).path}; another one: {parameter}",
        )
    return Finding(State.OK, what, f"{host} answers")


def local() -> bool:
    """Whether the environment names another endpoint than AWS: the local cloud."""
    return bool(os.environ.get("AWS_ENDPOINT_URL"))

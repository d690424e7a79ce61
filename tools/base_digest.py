"""Writes the newest digest of the base image into the Dockerfiles.

    python -m tools.base_digest            write it where it differs
    python -m tools.base_digest --check    end with 1 where it differs, and write nothing

The digest is that of the index of all platforms, as `docker pull` shows it. Where a registry
requires a token, it names the issuer (Distribution specification, "Token Authentication").
"""

import argparse
import json
import re
import sys
import urllib.request
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILES = (".devcontainer/Dockerfile", "batch_prep/Dockerfile", "trainer/Dockerfile")
_REGISTRY = re.compile(r"^ARG BASE_REGISTRY=([^/\s]+)/(\S+)$", re.MULTILINE)
_BASE = re.compile(
    r"^(FROM \$\{BASE_REGISTRY\}/)([^:\s]+):([^@\s]+)@(sha256:[0-9a-f]{64})$", re.MULTILINE
)
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_SECONDS = 30


class RegistryError(Exception):
    """The registry did not return a digest; the message is a sentence."""


def newest(registry: str, repository: str, tag: str) -> str:
    """The digest that `tag` has now. Raises RegistryError."""
    scheme = "http" if registry.partition(":")[0] in ("127.0.0.1", "localhost") else "https"
    url = f"{scheme}://{registry}/v2/{repository}/manifests/{tag}"
    try:
        try:
            response = _headers(url)
        except HTTPError as refused:
            if refused.code != 401:
                raise
            response = _headers(url, _token(refused.headers.get("WWW-Authenticate", "")))
    except (URLError, OSError, ValueError) as error:
        raise RegistryError(f"{url}: {error}") from error
    digest = response.get("Docker-Content-Digest", "")
    if response.get_content_type() not in _INDEXES or not re.fullmatch(
        r"sha256:[0-9a-f]{64}", digest
    ):
        raise RegistryError(f"{url} is no index of platforms with a digest")
    return str(digest)


def _headers(url: str, token: str | None = None) -> Message:
    accept = {"Accept": ", ".join(_INDEXES)}
    request = urllib.request.Request(url, method="HEAD", headers=accept)  # noqa: S310  made here
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310  made here
        return response.headers


def _token(challenge: str) -> str:
    """An anonymous token, from the realm in the registry's challenge."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = fields.pop("realm", "")
    if not re.match(r"https://|http://(127\.0\.0\.1|localhost)[:/]", realm):
        raise ValueError(f"the realm of its token is {realm!r}")
    address = f"{realm}?{urlencode(fields)}"
    with urllib.request.urlopen(address, timeout=_SECONDS) as response:  # noqa: S310  checked above
        body = json.load(response)
    return str(body.get("token") or body.get("access_token"))


def main(arguments: list[str], root: Path = ROOT) -> int:
    """The exit code: 0; 1 where --check found another digest; 2 where the registry failed."""
    parser = argparse.ArgumentParser(prog="base_digest", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    code = 0
    for name in DOCKERFILES:
        path = root / name
        text = path.read_text("utf-8")
        registry, base = _REGISTRY.search(text), _BASE.search(text)
        assert registry is not None, name
        assert base is not None, name
        try:
            digest = newest(registry[1], f"{registry[2]}/{base[2]}", base[3])
        except RegistryError as error:
            print(error, file=sys.stderr)
            return 2
        if digest == base[4]:
            print(f"{name}: {digest} is the newest")
        elif check:
            print(f"{name}: {base[4]} is not the newest, {digest}: make base-digest")
            code = 1
        else:
            path.write_text(text.replace(base[4], digest), "utf-8")
            print(f"{name}: now {digest}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

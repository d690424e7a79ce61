"""Paths, names and address of a local cloud."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcloud.credentials import operator_key

REGION = "us-east-1"
ACCOUNT = "000000000000"
DEFAULT_PORT = 4566
HOST = "127.0.0.1"

# What pip and uv need to reach their package index; image builds get these variables and no others.
BUILD_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
BUILD_PREFIXES = ("PIP_", "UV_")


class LocalCloudError(Exception):
    """An error that the user has to correct; the message says what and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Paths are absolute; `port` is the one TCP port of the local cloud on 127.0.0.1."""

    root: Path
    """The repository: the build context of the images, unless DROPLENS_CONTEXT names another."""
    context: Path
    cloud: Path
    """State, logs, pid file and temporary files of this one cloud."""
    images: Path
    """Built images, addressed by content: several clouds may share them."""
    lambda_python: Path
    port: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """DROPLENS_PORT, DROPLENS_LOCAL (default `.local`), DROPLENS_CONTEXT, DROPLENS_IMAGES and
        DROPLENS_LAMBDA_PYTHON; relative paths are taken from the repository's root."""
        env = os.environ if environment is None else environment
        root = Path(__file__).resolve().parent.parent
        home = root / ".local"
        text = env.get("DROPLENS_PORT", str(DEFAULT_PORT))
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise LocalCloudError(f"DROPLENS_PORT={text!r} is not a TCP port")
        return cls(
            root=root,
            context=root / env.get("DROPLENS_CONTEXT", "."),
            cloud=root / env.get("DROPLENS_LOCAL", ".local") / "cloud",
            images=root / env.get("DROPLENS_IMAGES", home / "images"),
            lambda_python=root / env.get("DROPLENS_LAMBDA_PYTHON", home / "venv/lambda/bin/python"),
            port=int(text),
        )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def lock_file(self) -> Path:
        return self.cloud / "lock"

    @property
    def version_file(self) -> Path:
        """Digest of the code that the running local cloud was started from."""
        return self.cloud / "version"

    @property
    def pid_file(self) -> Path:
        return self.cloud / "pids.json"

    @property
    def faults_file(self) -> Path:
        """The requested faults (faults.py). The name is older than the module's: a server of an
        earlier version may still run."""
        return self.cloud / "trouble.json"

    @property
    def quotas_file(self) -> Path:
        """The quotas of the account that were changed."""
        return self.state / "quotas.json"

    @property
    def server_log(self) -> Path:
        return self.cloud / "server.log"

    @property
    def state(self) -> Path:
        return self.cloud / "state"

    @property
    def records_file(self) -> Path:
        """The state of our own services (state.py)."""
        return self.state / "droplens.json"

    @property
    def operator_key_file(self) -> Path:
        """The key that clients of this cloud sign with; mode 0600."""
        return self.state / "operator.json"

    @property
    def work(self) -> Path:
        """A folder per running job or endpoint, in place of a container's own disk."""
        return self.cloud / "work"

    @property
    def temporary(self) -> Path:
        return self.cloud / "tmp"

    @property
    def empty_home(self) -> Path:
        """HOME of everything that runs in the cloud, so that no ~/.aws is read."""
        return self.cloud / "home"


def build_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of `environment` that an image build gets."""
    return {
        name: value
        for name, value in environment.items()
        if name.upper() in BUILD_VARIABLES or name.startswith(BUILD_PREFIXES)
    }


def client_environment(settings: Settings) -> dict[str, str]:
    """What an AWS client or the sam command needs to work against the local cloud."""
    operator = operator_key(settings)
    return {
        "AWS_ENDPOINT_URL": settings.url,
        "AWS_ACCESS_KEY_ID": operator.key,
        "AWS_SECRET_ACCESS_KEY": operator.secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_POLL_DELAY": "0.2",
        "SAM_CLI_TELEMETRY": "0",
    }

"""Finds local clouds by their processes, also those whose folder was removed (Linux).

    python -m localcloud.orphans        # exit code 1, and the reason, where this folder has one

Runs on the standard library alone: a removed `.local` had the environments too.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localcloud.settings import LocalCloudError, Settings

_MODULE = "localcloud.emulator.server"
_LISTEN = "0A"  # the socket state TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class CloudProcess:
    """The guard of a local cloud, or its server where the guard has ended."""

    pid: int
    port: int
    state: Path
    """Where its state is, or was."""


def _processes() -> Iterator[tuple[int, list[str], dict[str, str]]]:
    """(pid, command line, environment) of this user's processes."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # another user's, or it has ended meanwhile
        yield int(folder.name), arguments, dict(v.split("=", 1) for v in variables if "=" in v)


def local_clouds() -> list[CloudProcess]:
    """Every local cloud of this user that runs."""
    found: dict[Path, CloudProcess] = {}
    # A guard's environment is also its server's.
    for pid, arguments, variables in sorted(
        _processes(), key=lambda process: "guard" in process[1]
    ):
        if _MODULE in arguments and "STATE_DIR" in variables:
            state = Path(variables["STATE_DIR"]).parent
            found[state] = CloudProcess(pid, int(variables["GATEWAY_PORT"]), state)
    return list(found.values())


def refuse_orphan(settings: Settings) -> None:
    """Raises LocalCloudError where a cloud of this folder runs without its lock: the folder was
    removed while it ran. To be called when the lock is free."""
    for cloud in local_clouds():
        if cloud.state == settings.state:
            raise LocalCloudError(
                f"process {cloud.pid} is still a local cloud on port {cloud.port}, whose folder "
                f"{settings.cloud} was removed while it ran. End it by `kill {cloud.pid}`; then "
                "`make up` starts a new one, with nothing in it"
            )


def listener_of(port: int) -> str:
    """What listens on the port, for a message; with a process id where it is this user's."""
    for cloud in local_clouds():
        if cloud.port == port:
            return f"the local cloud of {cloud.state.parent} (process {cloud.pid})"
    sockets = set()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            sockets.add(f"socket:[{fields[9]}]")
    for pid, arguments, _ in _processes():
        try:
            links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        if sockets.intersection(links):
            return f"process {pid} ({' '.join(arguments).strip()[:60]})"
    return "another program"


def main() -> int:
    """0 where there is no orphan of this folder."""
    settings = Settings.from_environment()
    if settings.lock_file.is_file():
        return 0  # the local cloud's own commands say whether it is up
    try:
        refuse_orphan(settings)
    except LocalCloudError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

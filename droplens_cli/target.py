"""Where commands work: the local cloud of a working copy, or a stack in an AWS account.

`droplens target` saves it once, in the file that DROPLENS_TARGET names, else target.toml in the
user's configuration folder.
"""

import json
import os
import sys
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.saved_answers import DEFAULT_STACK, Saved

# As localcloud/settings.py has it; the command is installed without the local cloud.
LOCAL_PORT = 4566
LOCAL_FOLDER = ".local"
_HEAD = "# Where `droplens` works; `droplens target` changes it.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One stack.

    stack: its name; folder, port: of the local cloud, folder is "" for an account; region, profile:
    of the account, "" for what AWS's own settings say; config: the file in which `make deploy`
    saved all this and the template's parameters, or "".
    """

    stack: str = DEFAULT_STACK
    folder: str = ""
    port: int = LOCAL_PORT
    region: str = ""
    profile: str = ""
    config: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is a local cloud."""
        return bool(self.folder)

    @property
    def url(self) -> str:
        """The local cloud's address."""
        return f"http://127.0.0.1:{self.port}"

    def command(self, name: str) -> str:
        """The command of that name for this target, as the user calls commands: by make or not."""
        if "MAKELEVEL" in os.environ:
            return f"make {name}{'-local' if self.is_local else ''}"
        return f"droplens {name}"

    def __str__(self) -> str:
        if self.is_local:
            return f"stack {self.stack} in the local cloud at {self.url}, of {self.folder}"
        parts = [f"stack {self.stack} in an AWS account"]
        parts += [f"region {self.region}"] if self.region else []
        parts += [f"profile {self.profile}"] if self.profile else []
        return ", ".join(parts)


def local_target(folder: str = "", port: int = 0) -> Target:
    """The local cloud in `folder`, else in that which the environment or the working copy has.

    port: 0 for DROPLENS_PORT, or the usual one. Raises CommandError where there is no such folder.
    """
    found = Path(folder) if folder else _home()
    given = os.environ.get("DROPLENS_PORT", str(LOCAL_PORT))
    if not port and not given.isdigit():
        raise CommandError(f"DROPLENS_PORT={given!r} is no port", code=ExitCode.USAGE)
    return Target(folder=str(found.resolve()), port=port or int(given))


def _home() -> Path:
    """The local cloud's folder: DROPLENS_LOCAL, in the working copy, or .local there."""
    here = Path.cwd()
    working_copy = next(
        (one for one in (here, *here.parents) if (one / "localcloud" / "__main__.py").is_file()),
        None,
    )
    named = Path(os.environ.get("DROPLENS_LOCAL") or LOCAL_FOLDER)
    if working_copy is None and not named.is_absolute():
        raise CommandError(
            "this folder is in no working copy of Droplens, so the local cloud is not known",
            "call it in the working copy, or name its folder: "
            "droplens target local --folder PATH/.local",
            ExitCode.NO_TARGET,
        )
    return (working_copy or here) / named


def account_target(config: Path) -> Target:
    """The stack whose settings `make deploy` saved. Raises CommandError where it names none."""
    saved = Saved(config)
    if saved.stack is None:
        raise CommandError(
            f"{config} names no stack: `make deploy` saves its answers there",
            "for the local cloud, make's command of that name ends in -local",
            ExitCode.NO_TARGET,
        )
    options = saved.session_options
    return Target(
        stack=saved.stack,
        region=options.get("region_name", ""),
        profile=options.get("profile_name", ""),
        config=str(config.resolve()),
    )


def place() -> Path:
    """The file in which the target is saved."""
    if named := os.environ.get("DROPLENS_TARGET"):
        return Path(named)
    if sys.platform == "win32":
        home = Path(os.environ.get("APPDATA", Path.home()))
    else:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "droplens" / "target.toml"


def save(target: Target) -> Path:
    """Save the target for all commands that follow; returns the file."""
    path = place()
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in asdict(target).items()]
    path.write_text(_HEAD + "".join(lines), encoding="utf-8")
    return path


def saved_target() -> Target:
    """The saved target. Raises CommandError where there is none, or the file cannot be read."""
    path = place()
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CommandError(
            "no target is set, so it is not known where to work",
            "`droplens target local` or `droplens target aws --stack NAME` sets it once",
            ExitCode.NO_TARGET,
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(
            f"{path} cannot be read: {error}",
            "`droplens target` writes it anew",
            ExitCode.NO_TARGET,
        ) from None
    known = {field.name: type(field.default) for field in fields(Target)}
    wrong = [name for name, value in found.items() if not isinstance(value, known.get(name, ()))]
    if wrong:
        raise CommandError(
            f"{path} has an entry {wrong[0]} that is not understood",
            "`droplens target` writes it anew",
            ExitCode.NO_TARGET,
        )
    return Target(**found)

"""Builds the containers' images without Docker: a virtual environment and a folder for each.

An image is `<images>/<name>/<key>/opt/program`, exactly what its Dockerfile copies there, so a
missing COPY fails here as it would in a container. `key` is the SHA-256 of the Dockerfile's
instructions and of every file they copy; a build is done once and never changed. The `pip install`
lines make a virtual environment of their own, shared by all images that install the same lock
files. Locally an image runs on the interpreter of the local cloud and as its user: FROM and
USER have no effect. Its build arguments are the variables of
that name in the environment, else the Dockerfile's defaults.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from localcloud.containers.dockerfile import (
    PROGRAM,
    Instruction,
    argument,
    environment_assignments,
    expand,
    parse,
)
from localcloud.settings import ACCOUNT, LocalCloudError, build_environment

KEPT_BUILDS = 5
"""Builds kept of one image and virtual environments kept in all, the most recently used ones."""

_COMPLETE = "complete.json"
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
# An installation, with Python scripts run after it: the line and the files that it names determine
# the environment.
_PIP_LINE = re.compile(
    r"^(?:python3? -m )?pip3? install [^;&|]*(?<! )(?: && python3? [\w./-]+\.py)*$"
)


class ImageError(LocalCloudError):
    """An image that cannot be found or built; the message names the Dockerfile's line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image. `program` is the local folder for /opt/program."""

    name: str
    program: Path
    venv: Path
    workdir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()

    def command(
        self,
        arguments: Sequence[str] | None = None,
        *,
        entrypoint: Sequence[str] | None = None,
        mounts: Mapping[str, Path] | None = None,
    ) -> list[str]:
        """The command line that `docker run` would execute, with /opt/program and `mounts`
        (container path -> local folder) replaced by the local folders."""
        start = self.entrypoint if entrypoint is None else entrypoint
        words = [*start, *(self.cmd if arguments is None else arguments)]
        return [self.with_local_paths(word, mounts) for word in words]

    def run_environment(
        self, extra: Mapping[str, str], mounts: Mapping[str, Path] | None = None
    ) -> dict[str, str]:
        """The whole environment of the process: the image's ENV, then `extra`; nothing else."""
        base = {"PATH": f"{self.venv / 'bin'}:{_SYSTEM_PATH}", "LANG": "C.UTF-8"}
        merged = {**base, **self.environment, **extra, "PYTHONNOUSERSITE": "1"}
        return {name: self.with_local_paths(value, mounts) for name, value in merged.items()}

    def with_local_paths(
        self,
        text: str,
        mounts: Mapping[str, Path] | None = None,
        *,
        quote: Callable[[str], str] = str,
    ) -> str:
        """`text` with the container's paths replaced by local ones. quote: applied to each, for a
        text that a shell reads."""
        for inside, outside in {PROGRAM: self.program, **(mounts or {})}.items():
            name = re.compile(rf"{re.escape(inside)}(?![\w.-])")
            text = quote(str(outside)).join(name.split(text))
        return text


def image_name(uri: str) -> str:
    """`…amazonaws.com/<stack>/batch-prep:<tag>` -> `batch-prep`."""
    return uri.partition("@")[0].rsplit("/", 1)[-1].partition(":")[0]


def check_runs_here(uri: str) -> None:
    """Raises ImageError for an image of another account's registry, such as a built-in
    SageMaker algorithm's: its content exists only on AWS."""
    registry = re.match(r"(\d{12})\.dkr\.ecr\.", uri)
    if registry and registry[1] != ACCOUNT:
        raise ImageError(
            f"The image {uri} belongs to AWS account {registry[1]} and can run only on AWS. "
            "The local cloud runs images built from this repository; choose the droplens trainer."
        )


class ImageStore:
    """The images of one build context, built on demand. Safe for threads and processes."""

    def __init__(self, context: Path, folder: Path, environment: Mapping[str, str] | None = None):
        self._context = context.resolve()
        self._folder = folder
        self._build_environment = build_environment(
            os.environ if environment is None else environment
        )

    def names(self) -> list[str]:
        found = self._context.glob("*/Dockerfile")
        return sorted(path.parent.name.replace("_", "-") for path in found)

    def get(self, name: str, report: Callable[[str], None] = lambda _: None) -> Image:
        """The image of the current sources; built where there is no such build. Raises ImageError.
        `report` receives a line per build step."""
        dockerfile = self._context / name.replace("-", "_") / "Dockerfile"
        if not dockerfile.is_file():
            known = ", ".join(self.names()) or "none"
            raise ImageError(
                f"image {name}: there is no {dockerfile}; images in {self._context}: {known}"
            )
        return _Build(self._context, dockerfile, self._folder, name).image(
            report, self._build_environment
        )


class _Build:
    """The build of one Dockerfile and the files that it copies."""

    def __init__(self, context: Path, dockerfile: Path, folder: Path, name: str):
        self._context, self._dockerfile, self._folder, self._name = (
            context,
            dockerfile,
            folder,
            name,
        )
        self._instructions = parse(dockerfile)
        self._ignored = _ignore_rules(dockerfile, context)
        self._copies = {
            step.line: list(self._copied_files(step))
            for step in self._instructions
            if step.keyword == "COPY"
        }
        self._key = self._content_key()
        self._home = folder / name / self._key
        self._program = self._home / PROGRAM.lstrip("/")
        self._venv = folder / "venv" / self._venv_key()

    def image(self, report: Callable[[str], None], build_env: Mapping[str, str]) -> Image:
        with _locked(self._folder / "lock"):
            marker = self._home / _COMPLETE
            if not marker.is_file() or not (self._venv / _COMPLETE).is_file():
                self._build(report, build_env)
                marker.write_text(json.dumps({"venv": self._venv.name}), encoding="utf-8")
                self._remove_old_builds()
            os.utime(self._home)
            os.utime(self._venv)
        return self._description()

    # ---- sources and keys

    def _content_key(self) -> str:
        digest = hashlib.sha256(f"{sys.version}{platform.machine()}".encode())
        for step in self._instructions:
            digest.update(f"\n{step.keyword} {step.text}".encode())
            for source, destination in self._copies.get(step.line, []):
                mode = source.stat().st_mode & 0o115  # executable, and whether by others
                digest.update(f"\n{destination} {mode}\n".encode())
                digest.update(hashlib.sha256(source.read_bytes()).digest())
        return digest.hexdigest()[:16]

    def _venv_key(self) -> str:
        digest = hashlib.sha256(f"{sys.version}{platform.machine()}".encode())
        by_destination = {to: source for files in self._copies.values() for source, to in files}
        for step in self._pip_lines():
            digest.update(f"\n{step.text}".encode())
            for word in step.words:
                if (lock := by_destination.get(f"{PROGRAM}/{word}")) is not None:
                    digest.update(lock.read_bytes())
        if any(
            " pip " in f" {step.text} " for step in self._runs() if step not in self._pip_lines()
        ):
            digest.update(
                self._key.encode()
            )  # a line that does more than install: this environment is not shared
        return digest.hexdigest()[:16]

    def _runs(self) -> list[Instruction]:
        return [step for step in self._instructions if step.keyword == "RUN"]

    def _pip_lines(self) -> list[Instruction]:
        return [step for step in self._runs() if _PIP_LINE.match(step.text)]

    def _copied_files(self, step: Instruction) -> Iterator[tuple[Path, str]]:
        """(file in the context, path in the image) for every file that one COPY copies."""
        workdir = PROGRAM
        for earlier in self._instructions:
            if earlier.line < step.line and earlier.keyword == "WORKDIR":
                workdir = earlier.text.rstrip("/")
        *sources, destination = step.words
        target = destination if destination.startswith("/") else f"{workdir}/{destination}"
        into_folder = target.endswith(("/", "/.")) or len(sources) > 1
        target = os.path.normpath(target)
        for pattern in sources:
            found = self._find(pattern)
            if not found:
                raise ImageError(
                    f"{self._dockerfile}:{step.line}: COPY {step.text}: "
                    f"{pattern} is not in {self._context}"
                )
            for source in found:
                if source.is_dir():
                    for path in sorted(source.rglob("*")):
                        if path.is_file() and not self._is_ignored(path):
                            yield path, f"{target}/{path.relative_to(source).as_posix()}"
                elif into_folder or len(found) > 1:
                    yield source, f"{target}/{source.name}"
                else:
                    yield source, target

    def _find(self, pattern: str) -> list[Path]:
        clean = os.path.normpath(pattern.lstrip("/"))
        paths = [self._context] if clean == "." else sorted(self._context.glob(clean))
        inside = [path for path in paths if path.resolve().is_relative_to(self._context)]
        return [path for path in inside if path.is_dir() or not self._is_ignored(path)]

    def _is_ignored(self, path: Path) -> bool:
        relative = path.relative_to(self._context).as_posix()
        if "__pycache__" in relative.split("/"):
            return True  # bytecode, not a source
        ignored = False
        for pattern, keep in self._ignored:
            if pattern.fullmatch(relative):
                ignored = not keep
        return ignored

    # ---- building

    def _build(self, report: Callable[[str], None], build_env: Mapping[str, str]) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        self._program.mkdir(parents=True)
        log_path = self._folder / "logs" / f"{self._name}-{self._key}.log"
        log_path.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        report(f"building image {self._name}; log: {log_path}")
        with log_path.open("w", encoding="utf-8") as log:
            has_venv = (self._venv / _COMPLETE).is_file()
            if not has_venv:
                self._make_venv(log)
            for step in self._instructions:
                if step.keyword == "COPY":
                    self._copy(step)
                elif step.keyword == "RUN" and not (has_venv and _PIP_LINE.match(step.text)):
                    report(f"image {self._name}: RUN {step.text}")
                    self._run(step, build_env, log, log_path)
            (self._venv / _COMPLETE).write_text("{}", encoding="utf-8")
        report(f"built image {self._name} in {time.monotonic() - started:.1f} s")

    def _make_venv(self, log: TextIO) -> None:
        shutil.rmtree(self._venv, ignore_errors=True)
        command = [sys.executable, "-m", "venv", str(self._venv)]
        if not self._pip_lines():
            command.insert(3, "--without-pip")
        try:
            subprocess.run(command, check=True, stdout=log, stderr=log)
        except subprocess.CalledProcessError as error:
            raise ImageError(
                f"image {self._name}: no virtual environment could be made at {self._venv}; "
                f"log: {log.name}"
            ) from error

    def _copy(self, step: Instruction) -> None:
        for source, destination in self._copies[step.line]:
            target = self._home / destination.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)

    def _run(
        self, step: Instruction, build_env: Mapping[str, str], log: TextIO, log_path: Path
    ) -> None:
        image = self._description(until=step.line)
        image.workdir.mkdir(parents=True, exist_ok=True)
        log.write(f"\n# line {step.line}: RUN {step.text}\n")
        log.flush()
        result = subprocess.run(
            ["/bin/sh", "-c", image.with_local_paths(step.text, quote=shlex.quote)],
            cwd=image.workdir,
            env=image.run_environment(
                {**self._arguments(step.line), **build_env, "HOME": str(self._home)}
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            umask=0o022,  # as in a container, whatever the user's own umask is
        )
        if result.returncode:
            last = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
            raise ImageError(
                f"{self._dockerfile}:{step.line}: RUN {step.text} failed with exit code "
                f"{result.returncode}; log: {log_path}\n" + "\n".join(f"  {line}" for line in last)
            )

    def _arguments(self, until: int) -> dict[str, str]:
        """The defaults of the build arguments as far as line `until`; without empty ones."""
        found: dict[str, str] = {}
        for step in self._instructions:
            if step.keyword == "ARG" and step.line < until:
                found |= argument(step)
        return {name: default for name, default in found.items() if default}

    def _description(self, until: int | None = None) -> Image:
        """The image's settings, as far as line `until`."""
        environment: dict[str, str] = {}
        workdir, entrypoint, cmd = PROGRAM, (), ()  # type: str, tuple[str, ...], tuple[str, ...]
        for step in self._instructions:
            if until is not None and step.line >= until:
                break
            if step.keyword == "ENV":
                for name, value in environment_assignments(step):
                    environment[name] = expand(value, environment)
            elif step.keyword == "WORKDIR":
                workdir = step.text.rstrip("/")
            elif step.keyword == "ENTRYPOINT":
                entrypoint = step.words
            elif step.keyword == "CMD":
                cmd = step.words
        return Image(
            name=self._name,
            program=self._program,
            venv=self._venv,
            workdir=self._home / workdir.lstrip("/"),
            environment=environment,
            entrypoint=entrypoint,
            cmd=cmd,
        )

    def _remove_old_builds(self) -> None:
        for family in (self._home.parent, self._venv.parent):
            builds = sorted(family.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in builds[KEPT_BUILDS:]:
                shutil.rmtree(old)


def _ignore_rules(dockerfile: Path, context: Path) -> list[tuple[re.Pattern[str], bool]]:
    """(pattern, keep) from the ignore file that Docker would read."""
    for path in (dockerfile.with_name("Dockerfile.dockerignore"), context / ".dockerignore"):
        if path.is_file():
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
            wanted = [line for line in lines if line and not line.startswith("#")]
            return [(_ignore_pattern(line.lstrip("!")), line.startswith("!")) for line in wanted]
    return []


def _ignore_pattern(glob: str) -> re.Pattern[str]:
    """Docker's rules: `*` and `?` stop at a slash, `**` does not; a folder holds its content."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob.strip("/"))
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(p, re.escape(p)) for p in parts) + "(?:/.*)?")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One build at a time, across threads and processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

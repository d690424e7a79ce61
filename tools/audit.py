"""Looks up the packages of every lock in OSV's database of vulnerabilities: make audit

Of all locks but tests/requirements-torch.txt: that one has PyTorch's
CPU build, whose versions OSV does not know. Needs pip-audit and https://osv.dev.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OSV = "https://api.osv.dev/v1/query"


class NotAudited(Exception):
    """A lock could not be audited; the message says why."""


def locks() -> list[Path]:
    """The lock of every .in file that git knows."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-co", "--exclude-standard", "*.in"], cwd=ROOT, text=True
    )
    return [ROOT / Path(source).with_suffix(".txt") for source in listed.splitlines()]


def vulnerabilities(lock: Path, osv: str) -> list[str]:
    """A line for each vulnerability, with the versions that fix it. Raises NotAudited."""
    # Strict: else pip-audit skips a package that it cannot look up.
    audit = [sys.executable, "-m", "pip_audit", "--strict", "--vulnerability-service", "osv"]
    quiet = ["--progress-spinner", "off", "--format", "json"]
    completed = subprocess.run(
        [*audit, *quiet, "--osv-url", osv, "--disable-pip", "--require-hashes", "-r", str(lock)],
        capture_output=True,
        text=True,
        check=False,
    )
    if not completed.stdout.strip():
        errors = completed.stderr.strip().splitlines() or [
            f"pip-audit ended with {completed.returncode}"
        ]
        raise NotAudited(errors[-1])
    return [
        f"{package['name']} {package['version']}: {found['id']}, fixed in "
        f"{', '.join(found['fix_versions']) or 'no version yet'}"
        for package in json.loads(completed.stdout)["dependencies"]
        for found in package["vulns"]
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print what each lock has; 1 where one has a vulnerability, 2 where one was not audited."""
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__.splitlines()[0])
    parser.add_argument("locks", nargs="*", type=Path, help="not all of them, but these")
    parser.add_argument("--osv", default=OSV, metavar="URL", help="another service of that kind")
    given = parser.parse_args(arguments)
    chosen = [lock.resolve() for lock in given.locks] or locks()
    worst = 0
    with ThreadPoolExecutor(max_workers=4) as pool:
        futures = [(lock, pool.submit(vulnerabilities, lock, given.osv)) for lock in chosen]
        for lock, future in futures:
            name = lock.relative_to(ROOT) if lock.is_relative_to(ROOT) else lock
            try:
                found = future.result()
            except NotAudited as reason:
                print(f"{name}: NOT AUDITED, {reason}")
                worst = 2
                continue
            print("\n  ".join([f"{name}: {len(found)} known vulnerabilities", *found]))
            worst = max(worst, 1 if found else 0)
    return worst


if __name__ == "__main__":
    sys.exit(main())

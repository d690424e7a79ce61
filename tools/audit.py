"""Ask OSV whether a package of any lock has a known vulnerability: make audit

Every lock is asked about but tests/requirements-torch.txt: it is that of trainer's recipe finetune
with PyTorch's CPU build, whose versions OSV does not know. Needs pip-audit and https://osv.dev.
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
    """A lock could not be asked about; the message says why."""


def locks() -> list[Path]:
    """The lock of every .in file that git knows."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-co", "--exclude-standard", "*.in"], cwd=ROOT, text=True
    )
    return [ROOT / Path(source).with_suffix(".txt") for source in listed.splitlines()]


def vulnerabilities(lock: Path, osv: str) -> list[str]:
    """A line for each, with the versions that mend it. Raises NotAudited."""
    # Strict: pip-audit would pass over a package that it cannot ask about, and find nothing.
    audit = [sys.executable, "-m", "pip_audit", "--strict", "--vulnerability-service", "osv"]
    quiet = ["--progress-spinner", "off", "--format", "json"]
    asked = subprocess.run(
        [*audit, *quiet, "--osv-url", osv, "--disable-pip", "--require-hashes", "-r", str(lock)],
        capture_output=True,
        text=True,
        check=False,
    )
    if not asked.stdout.strip():
        said = asked.stderr.strip().splitlines() or [f"pip-audit ended with {asked.returncode}"]
        raise NotAudited(said[-1])
    return [
        f"{package['name']} {package['version']}: {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version yet'}"
        for package in json.loads(asked.stdout)["dependencies"]
        for found in package["vulns"]
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print what each lock has; 1 where one has a vulnerability, 2 where one was not audited."""
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__.splitlines()[0])
    parser.add_argument("locks", nargs="*", type=Path, help="not all of them, but these")
    parser.add_argument("--osv", default=OSV, metavar="URL", help="another service of that kind")
    given = parser.parse_args(arguments)
    asked = [lock.resolve() for lock in given.locks] or locks()
    worst = 0
    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = [(lock, pool.submit(vulnerabilities, lock, given.osv)) for lock in asked]
        for lock, answer in answers:
            name = lock.relative_to(ROOT) if lock.is_relative_to(ROOT) else lock
            try:
                found = answer.result()
            except NotAudited as reason:
                print(f"{name}: NOT AUDITED, {reason}")
                worst = 2
                continue
            print("\n  ".join([f"{name}: {len(found)} known vulnerabilities", *found]))
            worst = max(worst, 1 if found else 0)
    return worst


if __name__ == "__main__":
    sys.exit(main())

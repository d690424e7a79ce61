"""make audit: what a service of OSV's kind answers, and what is said where it does not."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import needs

LOCK = """\
pillow==9.0.0 --hash=sha256:{0}
idna==3.20 --hash=sha256:{0}
""".format("0" * 64)
# As https://google.github.io/osv.dev/post-v1-query/ describes an answer.
KNOWN = {
    "id": "GHSA-xxxx-0000-yyyy",
    "summary": "A picture may write where it should not",
    "affected": [
        {
            "package": {"name": "pillow", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.0.1"}]}],
        }
    ],
}


@pytest.fixture
def service() -> Iterator[str]:
    """A service that knows of one vulnerable version; its address."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            vulnerable = (asked["package"]["name"], asked["version"]) == ("pillow", "9.0.0")
            body = json.dumps({"vulns": [KNOWN]} if vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


def audit(repo_root: Path, osv: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    python = needs.environment("audit")
    lock = folder / "lock.txt"
    lock.write_text(text, "utf-8")
    return subprocess.run(
        [python, "-m", "tools.audit", "--osv", osv, lock],
        cwd=repo_root,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_vulnerable_version_is_named_with_its_mend(
    repo_root: Path, service: str, tmp_path: Path
) -> None:
    told = audit(repo_root, service, LOCK, tmp_path)
    assert told.returncode == 1, told.stderr
    assert "1 known vulnerabilities" in told.stdout
    assert "pillow 9.0.0: GHSA-xxxx-0000-yyyy, fixed in 9.0.1" in told.stdout


def test_what_is_not_known_is_no_fault(repo_root: Path, service: str, tmp_path: Path) -> None:
    told = audit(repo_root, service, LOCK.splitlines()[1], tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert "0 known vulnerabilities" in told.stdout


def test_a_service_that_is_away_is_no_clean_bill(repo_root: Path, tmp_path: Path) -> None:
    told = audit(repo_root, "http://127.0.0.1:9/v1/query", LOCK, tmp_path)
    assert told.returncode == 2
    assert "NOT AUDITED" in told.stdout
    assert "Connection refused" in told.stdout


def test_a_package_without_a_hash_is_not_audited(
    repo_root: Path, service: str, tmp_path: Path
) -> None:
    told = audit(repo_root, service, "pillow==9.0.0\n", tmp_path)
    assert told.returncode == 2
    assert "NOT AUDITED" in told.stdout

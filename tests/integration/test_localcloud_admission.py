"""The local cloud answers programs that sign with its own keys, and no web page."""

import contextlib
import functools
import hashlib
import http.client
import http.server
import json
import os
import socket
import stat
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from batch_prep.storage.folder import Span
from batch_prep.storage.s3 import S3Folder
from tests.support import needs
from tests.support.localcloud import REGION, Cloud
from tests.support.repository import ROOT

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TEXT = {"Content-Type": "text/plain"}
AWS_COMMAND = ROOT / ".local" / "venv" / "tools" / "bin" / "aws"


def ask(
    cloud: Cloud, method: str, path: str, body: str = "", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One raw request -> status, headers in lower case, body."""
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=30)
    try:
        connection.request(method, path, body.encode(), headers or {})
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content
    finally:
        connection.close()


def signed(cloud: Cloud, path: str = "/", **changed: str) -> dict[str, str]:
    """The headers with which botocore signs a GET of S3, with the cloud's key or a changed one."""
    keys = {"key": cloud.keys["AWS_ACCESS_KEY_ID"], "secret": cloud.keys["AWS_SECRET_ACCESS_KEY"]}
    keys |= changed
    request = AWSRequest("GET", f"http://127.0.0.1:{cloud.port}{path}")
    SigV4Auth(Credentials(keys["key"], keys["secret"]), "s3", REGION).add_auth(request)
    return dict(request.headers.items())


def code_of(refusal: pytest.ExceptionInfo[botocore.exceptions.ClientError]) -> str:
    return str(refusal.value.response["Error"]["Code"])


@pytest.fixture(scope="module")
def page(cloud: Cloud) -> dict[str, str]:
    """What a browser sends along from a page of another site."""
    return {"Origin": "https://pages.example", "Sec-Fetch-Site": "cross-site"}


# ---- the browser


def test_a_form_of_a_web_page_creates_no_stack(cloud: Cloud, page: dict[str, str]) -> None:
    template = json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}})
    body = f"Action=CreateStack&Version=2010-05-15&StackName=forged&TemplateBody={template}"
    for headers in (page, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}, {}):
        status, _, answer = ask(cloud, "POST", "/", body, {**FORM, **headers})
        assert status == 403, (headers, answer)
    with pytest.raises(botocore.exceptions.ClientError, match="does not exist"):
        cloud.client("cloudformation").describe_stacks(StackName="forged")


def test_a_page_invokes_no_function(cloud: Cloud, page: dict[str, str], tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    code = f"def handler(event, context):\n    open({str(proof)!r}, 'w').close()\n"
    cloud.function("proof", code)
    for headers in (page, {}):
        path = "/2015-03-31/functions/proof/invocations"
        status, _, _ = ask(cloud, "POST", path, "{}", {**TEXT, **headers})
        assert status == 403
    assert not proof.exists()
    cloud.invoke("proof")
    assert proof.exists()


def test_a_signed_request_of_a_web_page_is_refused_too(cloud: Cloud, page: dict[str, str]) -> None:
    assert ask(cloud, "GET", "/", headers=signed(cloud))[0] == 200
    for name, value in page.items():
        status, headers, answer = ask(cloud, "GET", "/", headers={**signed(cloud), name: value})
        assert (status, name in answer.decode()) == (403, True)
        assert not [header for header in headers if header.startswith("access-control")]
    assert ask(cloud, "GET", "/", headers={**signed(cloud), "Sec-Fetch-Site": "none"})[0] == 200


@pytest.mark.parametrize("host", ["pages.example", "pages.example:{port}", "127.0.0.1:1", ""])
def test_a_name_that_was_rebound_to_this_machine_is_refused(cloud: Cloud, host: str) -> None:
    for path in ("/", "/_ministack/health"):
        wrong = {"Host": host.format(port=cloud.port)}
        assert ask(cloud, "GET", path, headers=wrong)[0] in (400, 403)
    assert ask(cloud, "GET", "/_ministack/health")[0] == 200
    local = {"Host": f"localhost:{cloud.port}"}
    assert ask(cloud, "GET", "/_ministack/health", headers=local)[0] == 200


def test_two_hosts_are_no_way_around(cloud: Cloud) -> None:
    with socket.create_connection(("127.0.0.1", cloud.port), timeout=30) as line:
        own = f"127.0.0.1:{cloud.port}"
        line.sendall(
            f"GET /_ministack/health HTTP/1.1\r\nHost: {own}\r\nHost: a.example\r\n\r\n".encode()
        )
        assert line.recv(64).split()[1] in (b"400", b"403")


def test_a_preflight_gets_no_leave(cloud: Cloud, page: dict[str, str]) -> None:
    cloud.bucket("with-cors")
    cloud.client("s3").put_bucket_cors(
        Bucket="with-cors",
        CORSConfiguration={
            "CORSRules": [{"AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["*"]}]
        },
    )
    wanted = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization",
        "Access-Control-Request-Private-Network": "true",
    }
    for extra in ({}, page):
        for path in ("/", "/with-cors/key", "/_ministack/health"):
            status, headers, _ = ask(cloud, "OPTIONS", path, headers={**wanted, **extra})
            assert status == 403
            assert not [header for header in headers if header.startswith("access-control")]


def test_no_answer_has_headers_of_cors(cloud: Cloud) -> None:
    for path, headers in (("/_ministack/health", {}), ("/", signed(cloud)), ("/", {})):
        answered = ask(cloud, "GET", path, headers=headers)[1]
        assert not [header for header in answered if header.startswith("access-control")]


def test_no_websocket_is_opened(cloud: Cloud) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    assert ask(cloud, "GET", "/_aws/execute-api/a/b", headers=upgrade)[0] == 403


# ---- keys


def test_each_cloud_has_a_key_of_its_own_that_only_its_owner_reads(
    cloud: Cloud, new_cloud: Callable[[], Cloud]
) -> None:
    other = new_cloud()
    assert other.keys["AWS_ACCESS_KEY_ID"] != cloud.keys["AWS_ACCESS_KEY_ID"]
    assert len(cloud.keys["AWS_SECRET_ACCESS_KEY"]) == 40
    assert other.keys == Cloud(other.folder, other.images, other.port).keys
    (kept,) = (cloud.folder / "local/cloud/state").glob("operator*")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    # The secrets of sessions are saved beside it.
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "key", ["test", "000000000000", "AKIA" + "IOSFODNN7EXAMPLE", "ASIAAAAAAAAAAAAA"]
)
def test_a_key_that_this_cloud_did_not_issue_is_refused(cloud: Cloud, key: str) -> None:
    for service, call in (
        ("s3", "list_buckets"),
        ("sagemaker", "list_models"),
        ("batch", "describe_job_queues"),
        ("cloudformation", "list_stacks"),
        ("dynamodb", "list_tables"),
    ):
        client: Any = boto3.Session(key, "test", region_name=REGION).client(
            service,  # type: ignore[call-overload]
            endpoint_url=f"http://127.0.0.1:{cloud.port}",
            config=Config(retries={"max_attempts": 0}),
        )
        with pytest.raises(botocore.exceptions.ClientError) as refusal:
            getattr(client, call)()
        assert code_of(refusal) in (
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "UnrecognizedClientException",
        )


def test_the_key_without_its_secret_is_refused(cloud: Cloud) -> None:
    assert ask(cloud, "GET", "/", headers=signed(cloud, secret="another"))[0] == 403
    altered = signed(cloud)
    assert ask(cloud, "GET", "/another", headers=altered)[0] == 403
    unsigned_host = signed(cloud)["Authorization"].replace("SignedHeaders=host;", "SignedHeaders=")
    assert ask(cloud, "GET", "/", headers={**altered, "Authorization": unsigned_host})[0] == 403
    old = {**altered, "X-Amz-Date": "20200101T000000Z"}
    assert ask(cloud, "GET", "/", headers=old)[0] == 403


def test_a_changed_body_is_refused(cloud: Cloud) -> None:
    url = f"http://127.0.0.1:{cloud.port}/"
    request = AWSRequest("POST", url, data=b"Action=ListTopics&Version=2010-03-31", headers=FORM)
    key = Credentials(cloud.keys["AWS_ACCESS_KEY_ID"], cloud.keys["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(key, "sns", REGION).add_auth(request)
    headers = dict(request.headers.items())
    assert ask(cloud, "POST", "/", "Action=ListTopics&Version=2010-03-31", headers)[0] == 200
    body = "Action=CreateTopic&Name=forged&Version=2010-03-31"
    status, _, answer = ask(cloud, "POST", "/", body, headers)
    assert (status, b"SignatureDoesNotMatch" in answer) == (403, True)


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned_urls_work_and_forged_ones_do_not(cloud: Cloud, version: str) -> None:
    bucket, keys = cloud.bucket(f"presigned-{version}"), cloud.keys
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{cloud.port}",
        region_name=REGION,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        config=Config(signature_version=version, s3={"addressing_style": "path"}),
    )
    where = {"Bucket": bucket, "Key": "a folder/ä+b.txt"}
    put = urllib.request.Request(
        s3.generate_presigned_url("put_object", where, 60), b"content", method="PUT"
    )
    put.add_header("Content-Type", "")
    urllib.request.urlopen(put).close()
    url = s3.generate_presigned_url("get_object", where, 60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"content"
    forged = url.replace("Signature=", "Signature=0")
    late = s3.generate_presigned_url("get_object", where, -1000)
    for wrong in (forged, late, url.replace("b.txt", "c.txt"), url.partition("?")[0]):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(wrong)
        assert refusal.value.code == 403


def test_an_upload_signed_in_chunks_is_checked_chunk_by_chunk(cloud: Cloud) -> None:
    """As the SDKs for Java and Go send streams; botocore knows no such signer."""
    bucket, text = cloud.bucket("chunked"), b"0123456789"
    for content, status in ((text, 200), (b"012345678X", 403)):
        headers, body = in_chunks(cloud, f"/{bucket}/key", text)
        sent = body.replace(text, content).decode("latin-1")
        assert ask(cloud, "PUT", f"/{bucket}/key", sent, headers)[0] == status
    assert cloud.client("s3").get_object(Bucket=bucket, Key="key")["Body"].read() == text


def in_chunks(cloud: Cloud, path: str, content: bytes) -> tuple[dict[str, str], bytes]:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html, with botocore."""
    key = Credentials(cloud.keys["AWS_ACCESS_KEY_ID"], cloud.keys["AWS_SECRET_ACCESS_KEY"])
    signer = SigV4Auth(key, "s3", REGION)
    stated = {
        "X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "X-Amz-Decoded-Content-Length": str(len(content)),
        "Content-Encoding": "aws-chunked",
    }
    request = AWSRequest("PUT", f"http://127.0.0.1:{cloud.port}{path}", headers=stated)
    signer.add_auth(request)
    previous = request.headers["Authorization"].rpartition("=")[2]
    at, body = request.headers["X-Amz-Date"], b""
    empty = hashlib.sha256(b"").hexdigest()
    request.context["timestamp"] = at
    for chunk in (content, b""):
        digest = hashlib.sha256(chunk).hexdigest()
        scope = signer.credential_scope(request)
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", at, scope, previous, empty, digest])
        previous = signer.signature(text, request)
        body += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + b"\r\n"
    return dict(request.headers.items()), body


def test_a_role_session_needs_its_token(cloud: Cloud) -> None:
    role = cloud.role("assumed-by-a-test", "lambda.amazonaws.com")
    session = cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    for token, works in ((session["SessionToken"], True), ("another", False), (None, False)):
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{cloud.port}",
            region_name=REGION,
            aws_access_key_id=session["AccessKeyId"],
            aws_secret_access_key=session["SecretAccessKey"],
            aws_session_token=token,
        )
        if works:
            s3.list_buckets()
            continue
        with pytest.raises(botocore.exceptions.ClientError):
            s3.list_buckets()


def test_a_function_has_a_session_that_nobody_can_guess(cloud: Cloud) -> None:
    code = """
import os, boto3
def handler(event, context):
    who = boto3.client("sts").get_caller_identity()
    return {"key": os.environ["AWS_ACCESS_KEY_ID"], "arn": who["Arn"],
            "secret": os.environ["AWS_SECRET_ACCESS_KEY"]}
"""
    cloud.function("who", code)
    seen = cloud.invoke("who")
    assert seen["key"].startswith("ASIA")
    assert seen["secret"] != "test"
    assert len(seen["secret"]) == 40
    assert seen["arn"].endswith(":assumed-role/who-role/who")


def test_the_aws_command_works_with_what_env_prints(cloud: Cloud, tmp_path: Path) -> None:
    if not AWS_COMMAND.is_file():
        needs.skip("tools", f"there is no {AWS_COMMAND.name} in .local/venv/tools")
    bucket = cloud.bucket("by-command")
    (tmp_path / "large").write_bytes(os.urandom(9_000_000))  # in parts
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **cloud.keys}
    for words in (
        ("cp", str(tmp_path / "large"), f"s3://{bucket}/large"),
        ("cp", f"s3://{bucket}/large", str(tmp_path / "again")),
    ):
        done = subprocess.run(
            [str(AWS_COMMAND), "s3", *words], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "again").read_bytes() == (tmp_path / "large").read_bytes()


def test_the_packers_storage_works_with_what_env_prints(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client signs by itself, and not as botocore does."""
    for name, value in cloud.keys.items():
        monkeypatch.setenv(name, value)
    bucket = S3Folder(cloud.bucket("by-packer"), "a/")
    pieces = [os.urandom(size) for size in (6_000_000, 1_000)]
    for number, piece in enumerate(pieces):
        bucket.write(f"größe {number}+%41", piece)
    with bucket.writer("streamed") as stream:
        for _ in range(3):
            stream.write(pieces[0])
    spans = [Span(f"größe {n}+%41", 0, len(piece)) for n, piece in enumerate(pieces)]
    bucket.concatenate("joined", spans)
    assert bucket.read("joined") == b"".join(pieces)
    assert bucket.read("streamed") == 3 * pieces[0]
    assert len(list(bucket.list())) == 4
    bucket.remove(["joined", "streamed"])
    assert len(list(bucket.list())) == 2


# ---- a real browser

PAGE = """<!doctype html><form id="f" method="post" action="{url}/" target="frame">
<input name="Action" value="CreateTopic"><input name="Name" value="from-a-form"></form>
<iframe name="frame"></iframe>
<script>
const url = "{url}";
const attempts = {{
  simple: () => fetch(url + "/2015-03-31/functions/seen-by-a-page/invocations",
    {{method: "POST", mode: "no-cors", headers: {{"Content-Type": "text/plain"}}, body: "{{}}"}}),
  preflighted: () => fetch(url + "/2015-03-31/functions/seen-by-a-page/invocations",
    {{method: "POST", headers: {{"Content-Type": "application/json", "Authorization": "x"}}}}),
  read: () => fetch(url + "/_ministack/health").then((answer) => answer.text()),
}};
window.run = async () => {{
  document.getElementById("f").submit();
  const outcomes = {{}};
  for (const [name, attempt] of Object.entries(attempts)) {{
    try {{ await attempt(); outcomes[name] = "answered"; }} catch {{ outcomes[name] = "refused"; }}
  }}
  return outcomes;
}};
</script>"""


def test_a_page_in_a_real_browser_gets_nowhere(cloud: Cloud, tmp_path: Path) -> None:
    found = needs.chromium()
    from playwright.sync_api import sync_playwright

    proof = tmp_path / "ran"
    cloud.function(
        "seen-by-a-page", f"def handler(event, context):\n    open({str(proof)!r}, 'w').close()\n"
    )
    url = f"http://127.0.0.1:{cloud.port}"
    (tmp_path / "page.html").write_text(PAGE.format(url=url))
    rebound = ["--no-sandbox", "--host-resolver-rules=MAP rebound.example 127.0.0.1"]
    with served(tmp_path) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=rebound)
        try:
            for site in ("127.0.0.1", "localhost"):  # the same site, and another one
                opened = browser.new_page()
                opened.goto(f"http://{site}:{port}/page.html")
                assert opened.evaluate("window.run()") == {
                    "simple": "answered",  # by a refusal that the page cannot see
                    "preflighted": "refused",
                    "read": "refused",
                }
                opened.wait_for_load_state("networkidle")
                opened.close()
            opened = browser.new_page()
            answer = opened.goto(f"http://rebound.example:{cloud.port}/_ministack/health")
            assert answer is not None
            assert answer.status == 403
        finally:
            browser.close()
    assert not proof.exists()
    assert "from-a-form" not in str(cloud.client("sns").list_topics()["Topics"])


@contextlib.contextmanager
def served(folder: Path) -> Iterator[int]:
    """A web server for the files of a folder -> its port."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()

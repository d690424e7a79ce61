"""Images reach the browser as thumbnails that our own decoder made."""

from io import BytesIO

import pytest
from PIL import Image
from starlette.testclient import TestClient

from droplens_console import thumbnails
from droplens_console.thumbnails import Thumbnails
from tests.support.builders import jpeg
from tests.support.console import console, deployed  # noqa: F401  fixtures
from tests.support.deployed_stack import Deployed

KEY = "input/cars/a +%20ü.jpg"


def put(stack: Deployed, key: str, body: bytes) -> str:
    """Store an object in the bucket, which is versioned as a stack's; returns its version."""
    name = stack.outputs["BucketName"]
    stack.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return str(stack.s3.put_object(Bucket=name, Key=key, Body=body)["VersionId"])


def of(key: str, version: str = "", side: object = 96) -> dict[str, str]:
    return {"key": key, "version": version, "side": str(side)}


def test_a_version_s_thumbnail_is_small_encoded_anew_and_cached(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    comment = b"\xff\xfe\x00\x08secret"
    photo = jpeg((200, 10, 10), (400, 300))
    version = put(deployed, KEY, photo[:2] + comment + photo[2:])
    newer = put(deployed, KEY, jpeg((10, 10, 200), (300, 400)))
    answer = console.get("/thumbnail", params=of(KEY, version))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert b"secret" not in answer.content
    with Image.open(BytesIO(answer.content)) as image:
        assert image.size == (96, 72)
    with Image.open(BytesIO(console.get("/thumbnail", params=of(KEY, newer)).content)) as image:
        assert image.size == (72, 96)


def test_the_newest_version_is_not_cached(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    put(deployed, KEY, jpeg((200, 10, 10), (400, 300)))
    answer = console.get("/thumbnail", params=of(KEY))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"


def test_other_objects_and_other_sizes_have_none(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    put(deployed, "models/cars/live.json", jpeg((1, 2, 3)))
    put(deployed, KEY, jpeg((1, 2, 3)))
    for parameters in (
        of("models/cars/live.json"),
        of("input/../models/cars/live.json"),
        of(KEY, "no-such-version"),
        of("input/none.jpg"),
        of(KEY, side=97),
        of(KEY, side=""),
        {},
    ):
        assert console.get("/thumbnail", params=parameters).status_code in (400, 404), parameters


@pytest.mark.parametrize("body", [b"", b"<svg onload='x'>", b"\xff\xd8\xff\xe0 cut"])
def test_what_is_no_picture_has_a_reason_instead(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
    body: bytes,
) -> None:
    version = put(deployed, KEY, body)
    answer = console.get("/thumbnail", params=of(KEY, version))
    assert answer.status_code == 415
    assert "onload" not in answer.text


def test_a_file_beyond_the_limit_is_not_read(
    deployed: Deployed,  # noqa: F811
    console: TestClient,  # noqa: F811
) -> None:
    version = put(deployed, KEY, b"x" * (26 * 1024 * 1024))
    answer = console.get("/thumbnail", params=of(KEY, version))
    assert (answer.status_code, "bytes" in answer.text) == (415, True)


def test_those_used_last_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    photo, read = jpeg((200, 10, 10), (64, 48)), []
    kept = Thumbnails()

    def get(name: str) -> int:
        def reading() -> bytes:
            read.append(name)
            return photo

        return len(kept.get(name, 96, reading))

    size = get("a")
    get("a")
    assert read == ["a"]
    monkeypatch.setattr(thumbnails, "_MOST_KEPT", 2 * size)
    for name in ("b", "a", "c", "a", "b"):
        get(name)
    assert read == ["a", "b", "c", "b"]

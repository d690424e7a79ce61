"""The bucket's conditional writes, and its errors with names."""

import pytest
from botocore.exceptions import ClientError

from droplens.aws.s3 import Bucket
from droplens.domain.errors import ObjectMissing
from tests.support.aws_account import BUCKET, Cloud


def test_an_object_is_read_with_what_s3_says_of_it(cloud: Cloud) -> None:
    put = cloud.put("a", b"xyz", Metadata={"run-id": "r"})
    body, info = cloud.bucket.read("a")
    assert body == b"xyz"
    assert (info.bytes, info.etag, info.version_id) == (3, put["ETag"].strip('"'), put["VersionId"])
    assert info.metadata == {"run-id": "r"}
    assert cloud.bucket.head("a") == info


def test_a_range_ends_before_its_end(cloud: Cloud) -> None:
    cloud.put("a", b"0123456789")
    assert cloud.bucket.read_range("a", 2, 5) == b"234"


@pytest.mark.parametrize(("limit", "body"), [(3, b"xyz"), (2, None)])
def test_what_is_too_long_is_not_read(cloud: Cloud, limit: int, body: bytes | None) -> None:
    cloud.put("a", b"xyz")
    found, info = cloud.bucket.read_at_most("a", limit)
    assert (found, info.bytes) == (body, 3)


def test_a_missing_object_has_a_name_whoever_asks(cloud: Cloud) -> None:
    cloud.put("gone", b"x")
    cloud.s3.delete_object(Bucket=BUCKET, Key="gone")
    for key in ("never", "gone"):
        for ask in (
            cloud.bucket.read,
            cloud.bucket.head,
            lambda key: cloud.bucket.read_at_most(key, 1),
            lambda key: cloud.bucket.read_range(key, 0, 1),
        ):
            with pytest.raises(ObjectMissing, match=key):
                ask(key)


def test_an_older_version_is_still_there_by_its_id(cloud: Cloud) -> None:
    first = cloud.put("a", b"1")
    cloud.put("a", b"22")
    assert cloud.bucket.head("a", first["VersionId"]).bytes == 1


def test_a_version_is_copied_without_its_tags(cloud: Cloud) -> None:
    first = cloud.put("a", b"first")["VersionId"]
    cloud.s3.put_object_tagging(
        Bucket=BUCKET, Key="a", Tagging={"TagSet": [{"Key": "who", "Value": "ann"}]}
    )
    cloud.put("a", b"second")
    bucket = cloud.bucket
    bucket.copy("a", "copies/first", first)
    bucket.copy("a", "copies/newest")
    assert bucket.read("copies/first")[0] == b"first"
    assert bucket.read("copies/newest")[0] == b"second"
    tags = cloud.s3.get_object_tagging(Bucket=BUCKET, Key="copies/first")
    assert tags["TagSet"] == []
    with pytest.raises(ObjectMissing, match=r"none\.jpg"):
        bucket.copy("none.jpg", "copies/none")


def test_other_errors_keep_theirs(cloud: Cloud) -> None:
    stranger = Bucket(cloud.s3, "no-such-bucket")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        stranger.read("a")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        stranger.write_json("a", b"{}")


def test_the_first_writer_wins(cloud: Cloud) -> None:
    assert cloud.bucket.write_json("a", b"1")
    assert not cloud.bucket.write_json("a", b"2")
    assert cloud.bucket.read("a")[0] == b"1"


def test_a_replacement_needs_what_its_writer_saw(cloud: Cloud) -> None:
    cloud.bucket.write_json("a", b"1")
    seen = cloud.bucket.head("a").etag
    assert cloud.bucket.write_json("a", b"2", replacing=seen)
    assert not cloud.bucket.write_json("a", b"3", replacing=seen)
    assert cloud.bucket.read("a")[0] == b"2"
    assert not cloud.bucket.write_json("never", b"3", replacing=seen)


def test_a_listing_is_sorted_and_goes_on_after_a_key(cloud: Cloud) -> None:
    for key in ("p/b", "p/a", "p/a-", "p/ä", "q"):
        cloud.put(key, b"x")
    assert [entry.key for entry in cloud.bucket.entries("p/")] == ["p/a", "p/a-", "p/b", "p/ä"]
    assert [entry.key for entry in cloud.bucket.entries("p/", "p/a")] == ["p/a-", "p/b", "p/ä"]


def test_everything_below_a_prefix_is_deleted_and_nothing_beside_it(cloud: Cloud) -> None:
    for number in range(1003):  # more than one request takes
        cloud.put(f"packed/work/{number:04}")
    cloud.put("packed/work-of-others")
    assert cloud.bucket.delete_below("packed/work/") == 1003
    assert cloud.keys() == ["packed/work-of-others"]
    assert cloud.bucket.delete_below("packed/work/") == 0


def test_a_refused_deletion_is_an_error(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.put("a/b")
    refusal = {"Errors": [{"Key": "a/b", "Code": "AccessDenied", "Message": "no"}]}
    monkeypatch.setattr(cloud.s3, "delete_objects", lambda **_: refusal)
    with pytest.raises(ClientError, match="AccessDenied"):
        cloud.bucket.delete_below("a/")

"""Tests of what a path is: a place on this machine or in S3."""

from pathlib import Path

import pytest

from upsnet.errors import StorageError
from upsnet.storage.paths import S3Path, comparable, is_remote, parse_place, parse_s3


@pytest.mark.parametrize("text", ["runs/train", "/data", ".", "s3", "s3/x", "as3://b/k"])
def test_all_that_does_not_begin_like_s3_is_on_this_machine(text: str) -> None:
    assert parse_place(text) == Path(text)
    assert not is_remote(text)


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://bucket/a/b.pt", "bucket", "a/b.pt"),
        ("s3://my-bucket.x/a/", "my-bucket.x", "a"),
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/ü b+%?#", "bucket", "ü b+%?#"),
    ],
)
def test_an_address_is_taken_apart(text: str, bucket: str, key: str) -> None:
    assert parse_s3(text) == S3Path(bucket, key)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("s3:/bucket/key", "expected s3://BUCKET"),  # what Path makes of an address
        ("S3://bucket/key", "expected s3://BUCKET"),
        ("s3://", "no bucket name"),
        ("s3:///key", "no bucket name"),
        ("s3://Bucket/key", "no bucket name"),
        ("s3://ab/key", "no bucket name"),
        ("s3://a..b/key", "no bucket name"),
        ("s3://user:secret@host/key", "no bucket name"),
        ("s3://bucket/a//b", "is no key"),
        ("s3://bucket/../b", "is no key"),
        ("s3://bucket/./b", "is no key"),
        ("s3://bucket/" + "ü" * 513, "is no key"),
    ],
)
def test_an_address_that_is_wrong_is_refused(text: str, why: str) -> None:
    with pytest.raises(StorageError, match=why):
        parse_place(text)


def test_paths_join_and_name_their_parents() -> None:
    path = S3Path("bucket") / "run" / "checkpoints/x.pt"
    assert str(path) == "s3://bucket/run/checkpoints/x.pt"
    assert (path.name, str(path.parent), str(path.parent.parent)) == (
        "x.pt",
        "s3://bucket/run/checkpoints",
        "s3://bucket/run",
    )
    assert (S3Path("bucket").prefix, path.parent.prefix) == ("", "run/checkpoints/")


def test_different_places_are_never_comparable_to_the_same() -> None:
    places = ["bucket/a", "s3://bucket/a", "s3://bucket/b", "s3://other/a"]
    assert len({comparable(place) for place in places}) == 4

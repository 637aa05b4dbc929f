"""Tests of the one message per thing that goes wrong with S3."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.fault_proxy import FaultProxy
from tests.storage.servers import Server, free_port, use
from upsnet.errors import StorageError
from upsnet.storage import retry
from upsnet.storage.paths import S3Path
from upsnet.storage.s3 import check_writable, head, list_files
from upsnet.storage.transfer import existing, upload_file


@pytest.fixture
def proxy(
    server: Server, remote: S3Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """Between this process and the server."""
    with FaultProxy(server.port) as started:
        use(server.variables(started.port), tmp_path / "cache", monkeypatch)
        monkeypatch.setenv("UPSNET_S3_PATIENCE_S", "0")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield started


def test_a_missing_bucket_is_named(remote: S3Path, server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    missing = S3Path("no-such-bucket", "key")
    message = f"no bucket 'no-such-bucket' at {server.url}; make it"
    with pytest.raises(StorageError, match=message):
        head(missing)
    with pytest.raises(StorageError, match=message):
        list_files(missing)
    with pytest.raises(StorageError, match=message):
        check_writable(missing)


def test_a_missing_object_is_named_and_head_knows_it(remote: S3Path) -> None:
    assert head(remote / "nothing") is None
    with pytest.raises(StorageError, match="nothing: there is no such object; check the name"):
        existing(remote / "nothing")


def test_a_whole_bucket_is_no_folder_for_results(remote: S3Path) -> None:
    with pytest.raises(StorageError, match="is a whole bucket; name a folder in it"):
        check_writable(S3Path(remote.bucket))


def test_wrong_credentials_are_told(remote: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"the credentials are wrong|access denied"):
        list_files(remote)


def test_no_credentials_are_told(remote: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"):
        list_files(remote)


def test_a_missing_profile_is_told(remote: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of-nobody")
    with pytest.raises(StorageError, match=r"of-nobody.*check AWS_PROFILE"):
        list_files(remote)


def test_an_endpoint_that_is_no_url_is_told(remote: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(StorageError, match=r"localhost:9000.*AWS_ENDPOINT_URL"):
        list_files(remote)


@pytest.mark.parametrize("style", ["virtual", "path"])
def test_the_addressing_style_can_be_chosen(
    remote: S3Path, server: Server, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    from upsnet.storage.s3 import client

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://localhost:{server.port}")
    monkeypatch.setenv("AWS_S3_ADDRESSING_STYLE", style)
    url = client().generate_presigned_url("get_object", Params={"Bucket": remote.bucket, "Key": "k"})
    assert (f"//{remote.bucket}.localhost" in url) == (style == "virtual")


def test_an_unknown_addressing_style_is_refused(remote: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_ADDRESSING_STYLE", "pahts")
    with pytest.raises(StorageError, match=r"'pahts'; expected one of auto, path, virtual"):
        list_files(remote)


def test_a_server_that_nobody_ever_reached_is_given_up_at_once(
    remote: S3Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(retry, "_reached", threading.Event())
    with pytest.raises(StorageError, match=r"no S3 server answers at http://127.*check AWS_ENDPOINT_URL"):
        list_files(remote)


def test_a_web_server_is_told_from_s3(remote: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(retry, "_reached", threading.Event())
    with pytest.raises(StorageError, match=r"is no S3 server \(404\); check AWS_ENDPOINT_URL"):
        list_files(remote)
    server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "header", "message"),
    [
        (400, "ExpiredToken", "", "the credentials have expired"),
        (403, "AccessDenied", "", "access denied .* check the credentials and the policy of the bucket"),
        (403, "RequestTimeTooSkewed", "", "the clock of this machine is wrong"),
        (
            301,
            "PermanentRedirect",
            "x-amz-bucket-region: eu-north-9\r\n",
            "is in region eu-north-9.*AWS_REGION",
        ),
        (400, "IllegalLocationConstraintException", "", "in another region or at another endpoint"),
        (503, "SlowDown", "", "out of order again and again .*nothing is lost, run the command again"),
        (500, "InternalError", "", "out of order again and again"),
        (501, "NotImplemented", "", "NotImplemented"),
    ],
)
def test_an_answer_that_stays_has_its_own_message(
    proxy: FaultProxy, remote: S3Path, tmp_path: Path, status: int, code: str, header: str, message: str
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    proxy.answer(status, code, header)
    with pytest.raises(StorageError, match=message):
        list_files(remote)
    with pytest.raises(StorageError):
        upload_file(tmp_path / "file", remote / "file")


def test_an_outage_is_waited_for_and_warned_of_once(
    proxy: FaultProxy, remote: S3Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UPSNET_S3_PATIENCE_S", "60")
    proxy.answer(503, "SlowDown")
    timer = threading.Timer(2, lambda: proxy.answer(0, ""))
    timer.start()
    assert list_files(remote) == []
    timer.join()
    assert proxy.answered > 1
    assert len([record for record in caplog.records if "trying again" in record.message]) == 1


def test_a_patience_that_is_no_number_is_refused(remote: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSNET_S3_PATIENCE_S", "long")
    with pytest.raises(StorageError, match="expected seconds"):
        list_files(remote)

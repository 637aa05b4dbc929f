"""What a request may name as an image."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from upsnet.errors import DataError
from upsnet.serving.sources import ALLOWED_VARIABLE, is_allowed, read_source


class Web(BaseHTTPRequestHandler):
    """Has one picture, and an address that leads away."""

    def do_GET(self) -> None:
        if self.path == "/photos/away":
            self.send_response(302)
            self.send_header("Location", "/secret")
            self.end_headers()
            return
        self.send_response(200 if self.path in ("/photos/a.jpg", "/secret") else 404)
        self.end_headers()
        self.wfile.write(b"picture")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def web() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_base64_with_line_breaks_or_as_a_data_address_is_decoded() -> None:
    text = base64.b64encode(b"picture" * 20).decode()
    assert read_source(f"{text[:10]}\n{text[10:]}\n") == b"picture" * 20
    assert read_source(f"data:image/jpeg;base64,{text}") == b"picture" * 20


@pytest.mark.parametrize("text", ["hello world", "no base64!", "ä"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="neither base64 nor an address"):
        read_source(text)


@pytest.mark.parametrize("value", [None, 5, float("nan"), b"text"])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="is no text"):
        read_source(value)


def test_no_file_of_the_server_is_read_unless_it_was_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b.jpg").write_bytes(b"picture")
    uri = (tmp_path / "a b.jpg").as_uri()
    monkeypatch.delenv(ALLOWED_VARIABLE, raising=False)
    with pytest.raises(DataError, match=f"may not read that address.*{ALLOWED_VARIABLE}"):
        read_source(uri)
    monkeypatch.setenv(ALLOWED_VARIABLE, f"s3://bucket/ {tmp_path.as_uri()}")
    assert read_source(uri) == b"picture"
    with pytest.raises(DataError, match="cannot be read"):
        read_source(f"{uri}.gone")


def test_an_address_must_lie_below_an_allowed_one() -> None:
    allowed = ["https://images.example.com", "s3://bucket/photos/", "file:///data/"]
    assert is_allowed("https://images.example.com/a.jpg", allowed)
    assert is_allowed("s3://bucket/photos/2026/a.jpg", allowed)
    for uri in (
        "https://images.example.com.evil.org/a.jpg",
        "https://images.example.com@evil.org/a.jpg",
        "http://images.example.com/a.jpg",
        "s3://bucket/photos2/a.jpg",
        "s3://bucket/photos/../secret",
        "file:///data/../etc/passwd",
        "file:///data/%2e%2e/etc/passwd",
        "file:///data/..\\etc",
    ):
        assert not is_allowed(uri, allowed), uri
    assert not is_allowed("file:///data/a.jpg", [])


def test_a_web_server_is_read_but_a_redirection_is_not_followed(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ALLOWED_VARIABLE, raising=False)
    assert read_source(f"{web}/photos/a.jpg") == b"picture"
    monkeypatch.setenv(ALLOWED_VARIABLE, f"{web}/photos/")
    assert read_source(f"{web}/photos/a.jpg") == b"picture"
    with pytest.raises(DataError, match="status 302"):
        read_source(f"{web}/photos/away")
    with pytest.raises(DataError, match="status 404"):
        read_source(f"{web}/photos/gone.jpg")
    for allowed in (f"{web}/photos/", ""):
        monkeypatch.setenv(ALLOWED_VARIABLE, allowed)
        with pytest.raises(DataError, match="may not read"):
            read_source(f"{web}/secret")


def test_other_kinds_of_addresses_are_refused() -> None:
    with pytest.raises(DataError, match="is an address of none of the kinds"):
        read_source("ftp://example.com/a.jpg")

"""Addresses and credentials: how they are checked, sent and kept out of messages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import requests

from upsnet.errors import UpsnetError

PORT_FORWARD = (
    "kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80, then --host http://localhost:8080"
)


@dataclass(frozen=True)
class Connection:
    """Where Kubeflow Pipelines is and how to get in; `host` may have a path, such as https://HOST/pipeline."""

    host: str
    token: str = field(default="", repr=False)
    cookie: str = field(default="", repr=False)


class Credentials(requests.auth.AuthBase):
    """Puts token and cookie into the headers; as an auth object it also goes before a .netrc file."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._connection.token:
            request.headers["Authorization"] = f"Bearer {self._connection.token}"
        if self._connection.cookie:
            request.headers["Cookie"] = self._connection.cookie
        return request


def read_secret(value: str, file: Path | None, option: str) -> str:
    """A credential given as such or as the content of a file, in one line.

    Raises:
        UpsnetError: both are given, or the file cannot be read, is empty or holds something else.
    """
    if file is not None and value:
        raise UpsnetError(f"give {option} or {option}-file, not both")
    try:
        text = (value if file is None else file.read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UpsnetError(f"{option}-file {file}: cannot be read: {error}") from error
    if file is not None and not text:
        raise UpsnetError(f"{option}-file {file}: the file is empty")
    if not text.isascii() or not text.isprintable():
        raise UpsnetError(f"{option}: expected one line of plain letters (the value is not shown here)")
    return text


def check_host(host: str) -> str:
    """The host without a slash at its end.

    Raises:
        UpsnetError: it is no http(s) address, or holds a password.
    """
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", host):
        raise UpsnetError(
            f"--host {public_url(host)!r}: expected the address of Kubeflow Pipelines, such as "
            "http://localhost:8080 or https://HOST/pipeline, without a user in it; from outside the cluster: "
            f"{PORT_FORWARD}"
        )
    return host.rstrip("/")


def public_url(url: str) -> str:
    """The address without a password."""
    return re.sub(r"//[^/@\s]+@", "//***@", url)


def reason(error: BaseException) -> str:
    """The innermost words of a failed request, without addresses in memory, in one line."""
    text = str(error)
    found = re.search(r"\[Errno -?\d+\] [^'\")]+|timed out|CERTIFICATE_VERIFY_FAILED[^'\")]*", text)
    return found[0].strip() if found else type(error).__name__

"""What went wrong with S3 or the disk, as one message that says what to do.

boto3 is imported inside the functions; whoever has one of its errors has it already.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from upsnet.errors import StorageError
from upsnet.storage.paths import S3Path

DENIED = {"AccessDenied", "AllAccessDisabled", "403", "Forbidden", "AccountProblem", "UnauthorizedAccess"}
WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "InvalidToken"}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
WRONG_REGION = {
    *("PermanentRedirect", "AuthorizationHeaderMalformed", "301", "307", "TemporaryRedirect"),
    *("IllegalLocationConstraintException", "InvalidRegion"),
}
GONE = {"NoSuchKey", "404", "NotFound", "NoSuchVersion", "NoSuchUpload"}
CHANGED = {"PreconditionFailed", "412", "InvalidRange", "416"}
PASSING = {
    *("SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "RequestLimitExceeded", "429"),
    *("BandwidthLimitExceeded", "TooManyRequests", "BadDigest", "IncompleteBody", "RequestThrottled"),
    *("XAmzContentSHA256Mismatch", "OperationAborted", "NoSuchUpload"),
}
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed later: time-outs, cut connections, slow-down, and 5xx answers."""
    from boto3.s3.transfer import S3TransferRetriesExceededError
    from botocore.exceptions import (
        ChecksumError,
        ClientError,
        FlexibleChecksumError,
        HTTPClientError,
        IncompleteReadError,
    )
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.parsers import ResponseParserError

    if isinstance(error, ClientError):
        return _status(error) >= 500 or _status(error) == 429 or _code(error) in PASSING
    network = (HTTPClientError, NoConnection, IncompleteReadError, ResponseParserError, ConnectionError)
    damaged = (ChecksumError, FlexibleChecksumError, S3TransferRetriesExceededError, TimeoutError)
    return isinstance(error, (*network, *damaged))


def is_nobody_there(error: BaseException) -> bool:
    """Whether no S3 server is at the address: no such host, connection refused, no TLS, another language."""
    from botocore.exceptions import (
        ConnectTimeoutError,
        EndpointConnectionError,
        ProxyConnectionError,
        SSLError,
    )
    from botocore.parsers import ResponseParserError

    there_is_none = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError, SSLError)
    return isinstance(error, (*there_is_none, ResponseParserError))


def explain(error: BaseException, path: S3Path) -> StorageError:
    """The message for an error of boto3, or of the disk, while working on `path`."""
    from botocore import exceptions as boto
    from s3transfer.exceptions import S3DownloadFailedError  # type: ignore[import-untyped]

    if isinstance(error, StorageError):
        return error
    if isinstance(error, boto.ClientError):
        return StorageError(_of_answer(error, path))
    if isinstance(error, S3DownloadFailedError):  # what s3transfer makes of a refused If-Match
        return StorageError(_changed(path))
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        where = error.filename or "this machine"
        return StorageError(
            f"{path}: the disk is full at {where} ({error.strerror}); free some space, or choose another "
            "disk with UPSNET_CACHE. What was complete is kept, and the command may be repeated"
        )
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return StorageError(
            f"{path}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    expired = (boto.UnauthorizedSSOTokenError, boto.SSOTokenLoadError, boto.TokenRetrievalError)
    if isinstance(error, (*expired, boto.CredentialRetrievalError)):
        return StorageError(f"{path}: the credentials have expired or cannot be had ({error}); log in again")
    if is_nobody_there(error):
        return StorageError(
            f"{path}: no S3 server answers at {_endpoint()} ({_short(error)}); check AWS_ENDPOINT_URL, "
            "AWS_REGION and the network, then run the command again"
        )
    if is_passing(error):
        return StorageError(
            f"{path}: the connection failed again and again ({_short(error)}); nothing is lost, run the "
            "command again when S3 is well"
        )
    if isinstance(error, OSError):
        return StorageError(f"{path}: {error.filename or 'a file'}: {error.strerror}; check the folder")
    if isinstance(error, boto.BotoCoreError):
        return StorageError(f"{path}: {_short(error)}; check the AWS variables and the files in ~/.aws")
    raise error  # a bug, which keeps its traceback


def _of_answer(error: Any, path: S3Path) -> str:
    code, said = _code(error), error.response["Error"].get("Message", "")
    bucket = f"s3://{path.bucket}"
    region = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
    region = region or error.response["Error"].get("Region", "")
    if code == "NoSuchBucket":
        return f"{path}: no bucket {path.bucket!r} at {_endpoint()}; make it, or check name and endpoint"
    if code in EXPIRED:
        return f"{path}: the credentials have expired ({code}: {said}); get new ones, run the command again"
    if code in WRONG_KEYS:
        return (
            f"{path}: the credentials are wrong at {_endpoint()} ({code}: {said}); check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE and the endpoint"
        )
    if code == "RequestTimeTooSkewed":
        return f"{path}: the clock of this machine is wrong ({said}); set it and run the command again"
    if code in WRONG_REGION or (code == "400" and region):
        there = f"is in region {region}" if region else "is in another region or at another endpoint"
        return f"{path}: {bucket} {there} ({code}: {said}); set AWS_REGION or AWS_ENDPOINT_URL"
    if code in DENIED:
        return (
            f"{path}: access denied at {_endpoint()} ({code}: {said}); check the credentials and "
            "the policy of the bucket"
        )
    if code in CHANGED:
        return _changed(path)
    if code == "404" and error.operation_name not in ("HeadObject", "GetObject"):
        return f"{path}: what answers at {_endpoint()} is no S3 server (404); check AWS_ENDPOINT_URL"
    if code in GONE:
        return f"{path}: there is no such object at {_endpoint()}; check the name"
    if is_passing(error):
        return (
            f"{path}: S3 was out of order again and again ({code}: {said}); nothing is lost, run the command "
            "again when it is well"
        )
    return f"{path}: S3 refused {error.operation_name} ({code}: {said}); check address and AWS variables"


def _changed(path: S3Path) -> str:
    return f"{path}: was changed while it was being read; run the command again for the new one"


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _short(error: BaseException) -> str:
    last = getattr(error, "last_exception", None)
    return (str(last or error).strip() or type(error).__name__).splitlines()[0][:200]


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "Amazon S3"

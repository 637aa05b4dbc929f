"""Errors that a user can act on.

The command line prints the one message of an `UpsnetError` and exits with code 2; any other exception is a
bug and keeps its traceback.
"""


class UpsnetError(Exception):
    """Bad input. The message says where, what was found, what was expected and what to do."""


class ConfigError(UpsnetError):
    """A configuration key or value that is not allowed."""


class DataError(UpsnetError):
    """A data set, image, PNG or JSON file that is not what it should be."""


class CheckpointError(UpsnetError):
    """A checkpoint or weights file that is missing, damaged or of another network."""


class TrainingError(UpsnetError):
    """Training cannot go on, for example because a loss is not finite."""


class StorageError(UpsnetError):
    """Something in S3 that cannot be read or written, or the way to it."""

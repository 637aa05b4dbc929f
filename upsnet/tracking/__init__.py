"""Where the figures of a run go: JSON lines always, MLflow when configured. Only here is mlflow imported.

tracker.py      what a training or evaluation calls; connection.py, where MLflow is
runs.py         runs by id: of a pipeline, and what `upsnet compare` reads
run_file.py     the id of a run, for the process that goes on with it
names.py        names and values as MLflow takes them; git.py, the commit
"""

from upsnet.tracking.connection import DEFAULT_URI, mlflow_client, tracking_place, tracking_uri
from upsnet.tracking.git import git_tags
from upsnet.tracking.names import first_line, legal_name
from upsnet.tracking.points import LOG_NAME
from upsnet.tracking.runs import PARENT_TAG, close_run, open_run, read_runs
from upsnet.tracking.tracker import Tracker, open_tracker

__all__ = [
    "DEFAULT_URI",
    "LOG_NAME",
    "PARENT_TAG",
    "Tracker",
    "close_run",
    "first_line",
    "git_tags",
    "legal_name",
    "mlflow_client",
    "open_run",
    "open_tracker",
    "read_runs",
    "tracking_place",
    "tracking_uri",
]

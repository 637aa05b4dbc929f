"""Where the figures of a run go: JSON lines always, MLflow when configured. Only here is mlflow imported.

tracker.py      what a training or evaluation calls
outbox.py       what waits for MLflow on disk; points.py: the figures in it, items.py: all else
sender.py       brings it to MLflow; background.py: in a thread, sync_runs.py: for `upsnet sync`
runs.py         runs by id: of a pipeline, and what `upsnet compare` reads; parents.py: ablations
run_file.py     the id of a run, for the process that goes on with it; connection.py: where MLflow is
names.py        names and values as MLflow takes them; git.py: the commit; system.py: the machine
"""

from upsnet.tracking.connection import DEFAULT_URI, mlflow_client, tracking_place, tracking_uri
from upsnet.tracking.git import git_tags
from upsnet.tracking.names import first_line, legal_name
from upsnet.tracking.parents import group_runs, show_children
from upsnet.tracking.points import LOG_NAME
from upsnet.tracking.run_file import read_run_id
from upsnet.tracking.runs import PARENT_TAG, close_run, open_run, read_runs
from upsnet.tracking.sync_runs import Synced, sync_runs
from upsnet.tracking.tracker import Tracker, open_tracker

__all__ = [
    "DEFAULT_URI",
    "LOG_NAME",
    "PARENT_TAG",
    "Synced",
    "Tracker",
    "close_run",
    "first_line",
    "git_tags",
    "group_runs",
    "legal_name",
    "mlflow_client",
    "open_run",
    "open_tracker",
    "read_run_id",
    "read_runs",
    "show_children",
    "sync_runs",
    "tracking_place",
    "tracking_uri",
]

"""An API server of the tests' own, with as much of Kubernetes as the launcher uses, and an operator to play.

It speaks HTTP/1.1 with chunked logs, answers as the real one does (409, 403, 404, preconditions, foreground
deletion), and checks every MPIJob against the strict schema where that is there. The operator is a generator:
every look at the MPIJob takes it one step further, so that no test depends on the clock.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

NAMESPACE = "upsnet"
SCHEMA = Path(__file__).resolve().parents[4] / "shared" / "kubernetes" / "mpijob.v2beta1.schema.json"
PATH = re.compile(
    rf"/(?:api/v1|apis/kubeflow\.org/v2beta1)/namespaces/{NAMESPACE}/(mpijobs|pods|events)(?:/([^/]+))?(?:/(log))?"
)
CREATED = "2026-01-01T00:00:00Z"
LONGEST_STREAM_S = 20

Resource = dict[str, Any]
Operator = Callable[["ClusterServer", str], Iterator[None]]


class RefusedError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cut(Exception):  # noqa: N818 - the end of a connection, not an error of this server
    """The connection ends in the middle of an answer."""


def idle_operator(cluster: ClusterServer, name: str) -> Iterator[None]:
    """Never takes a job up."""
    yield


class ClusterServer:
    """The state of the cluster, and what a test does to it."""

    def __init__(self, operator: Operator = idle_operator) -> None:
        self.operator = operator
        self.jobs: dict[str, Resource] = {}
        self.pods: dict[str, Resource] = {}
        self.logs: dict[str, list[str]] = {}
        self.events: list[Resource] = []
        self.denied: set[str] = set()
        self.cuts: list[int] = []
        """Bytes after which the next log streams are cut; negative: they end as if that were all."""
        self.calls: list[str] = []
        """Every call as `verb resource`."""
        self.deletions: list[tuple[str, str]] = []
        self.created: list[Resource] = []
        self.log_followed = threading.Event()
        self.hold_creation: threading.Event | None = None
        self.creation_arrived = threading.Event()
        self.hold_deletion: threading.Event | None = None
        self.deletion_arrived = threading.Event()
        self.changed = threading.Condition()
        self._steps: dict[str, Iterator[None]] = {}
        self._connections: set[socket.socket] = set()
        self._timer: threading.Timer | None = None
        self._listen(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write_kubeconfig(self, path: Path) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": "a-token"}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}
            ],
        }
        path.write_text(json.dumps(config))
        return path

    # What the operator and the kubelet do.

    def add_pod(self, job: str, role: str, name: str, state: Resource, **status: Any) -> str:
        """Adds a pod, or gives it another state."""
        conditions = [{"type": "Ready", "status": "True" if "running" in state else "False"}]
        old = self.pods.get(name, {"metadata": {"uid": str(uuid.uuid4())}})
        self.pods[name] = {
            "metadata": {
                "name": name,
                "uid": old["metadata"]["uid"],
                "labels": {
                    "training.kubeflow.org/job-name": job,
                    "training.kubeflow.org/job-role": role,
                },
                "creationTimestamp": f"2026-01-01T00:00:{len(self.pods):02d}Z",
            },
            "status": {
                "phase": "Pending",
                "conditions": conditions,
                "containerStatuses": [{"name": role, "state": state}] if state else [],
                **status,
            },
        }
        self.logs.setdefault(name, [])
        return name

    def start_workers(self, job: str, count: int = 2) -> None:
        for index in range(count):
            self.add_pod(job, "worker", f"{job}-worker-{index}", {"running": {}}, phase="Running")

    def start_launcher(self, job: str, suffix: str) -> str:
        return self.add_pod(job, "launcher", f"{job}-launcher-{suffix}", {"running": {}}, phase="Running")

    def write(self, pod: str, *lines: str) -> None:
        with self.changed:
            for line in lines:
                number = len(self.logs[pod])
                # As Kubernetes does it: nanoseconds, without the zeros at the end; now and then two alike.
                fraction = f".{number // 2 * 1_500_000:09d}".rstrip("0").rstrip(".")
                self.logs[pod].append(f"2026-01-01T00:00:07{fraction}Z {line}\n")
            self.changed.notify_all()

    def end_pod(self, pod: str, exit_code: int, reason: str = "") -> None:
        with self.changed:
            terminated = {"exitCode": exit_code, "reason": reason or ("Error" if exit_code else "Completed")}
            status = self.pods[pod]["status"]
            status["phase"] = "Failed" if exit_code else "Succeeded"
            status["containerStatuses"][0]["state"] = {"terminated": terminated}
            self.changed.notify_all()

    def set_condition(self, job: str, kind: str, reason: str = "", message: str = "") -> None:
        conditions = self.jobs[job].setdefault("status", {}).setdefault("conditions", [])
        conditions.append({"type": kind, "status": "True", "reason": reason, "message": message})

    def warn(self, about: str, reason: str, message: str, uid: str = "", when: str = CREATED) -> None:
        self.events.append(
            {
                "metadata": {"name": f"event-{len(self.events)}", "creationTimestamp": when},
                "involvedObject": {"name": about, "uid": uid},
                "type": "Warning",
                "reason": reason,
                "message": message,
                "lastTimestamp": when,
            }
        )

    # Coming and going.

    def go_away(self, seconds: float) -> None:
        """Refuses connections for a while, and leaves every call that is being made without an answer."""
        self._stop_listening()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._timer = threading.Timer(seconds, self._listen, [self.port])
        self._timer.start()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.join()
        self._stop_listening()
        with self.changed:
            self.changed.notify_all()

    def _listen(self, port: int) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _stop_listening(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # The calls.

    def answer(self, method: str, target: str, body: Any) -> Resource:
        """The answer to everything but a log."""
        url = urlsplit(target)
        match = PATH.fullmatch(url.path)
        if match is None or match[3]:
            raise RefusedError(404, f"unknown path {url.path}")
        resource, name = match[1], match[2]
        verb = {"GET": "get" if name else "list", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[
            method
        ]
        self.allow(f"{verb} {resource}")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        call = getattr(self, f"_{verb}_{resource}")
        answer: Resource = call(name, query, body)
        return answer

    def allow(self, call: str) -> None:
        self.calls.append(call)
        if call in self.denied:
            verb, resource = call.split(" ", 1)
            raise RefusedError(
                403, f'{resource} is forbidden: User "pipeline" cannot {verb} resource "{resource}"'
            )

    def _create_mpijobs(self, _: None, query: Resource, body: Resource) -> Resource:
        self.creation_arrived.set()
        if self.hold_creation is not None:
            self.hold_creation.wait(LONGEST_STREAM_S)
        name = body["metadata"]["name"]
        if name in self.jobs:
            raise RefusedError(409, f'mpijobs.kubeflow.org "{name}" already exists')
        if (schema := validator()) is not None:
            schema.validate(body)
        self.created.append(body)
        return self.put(body)

    def put(self, manifest: Resource, **metadata: Any) -> Resource:
        """Stores an MPIJob as the API server would."""
        job: Resource = json.loads(json.dumps(manifest))
        marks = {"uid": str(uuid.uuid4()), "resourceVersion": "1", "creationTimestamp": CREATED}
        job["metadata"].update({**marks, **metadata})
        name = job["metadata"]["name"]
        self.jobs[name] = job
        self._steps[name] = self.operator(self, name)
        return job

    def _get_mpijobs(self, name: str, query: Resource, body: None) -> Resource:
        if name not in self.jobs:
            raise RefusedError(404, f'mpijobs.kubeflow.org "{name}" not found')
        job = self.jobs[name]
        if "deletionTimestamp" in job["metadata"]:
            del self.jobs[name]  # its pods were the last thing to go; the next look finds nothing
            return job
        next(self._steps[name], None)
        return job

    def _list_mpijobs(self, _: None, query: Resource, body: None) -> Resource:
        return {"items": [job for job in self.jobs.values() if selected(job, query["labelSelector"])]}

    def _patch_mpijobs(self, name: str, query: Resource, body: Any) -> Resource:
        metadata = self.jobs[name]["metadata"]
        for change in body:  # a JSON patch
            key = change["path"].removeprefix("/metadata/")
            if change["op"] == "test" and metadata[key] != change["value"]:
                raise RefusedError(422, f"the test of {key} failed")
            if change["op"] == "add":
                metadata[key] = change["value"]
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
        return self.jobs[name]

    def _delete_mpijobs(self, name: str, query: Resource, body: Resource) -> Resource:
        self.deletion_arrived.set()
        if self.hold_deletion is not None:
            self.hold_deletion.wait(LONGEST_STREAM_S)
        if name not in self.jobs:
            raise RefusedError(404, f'mpijobs.kubeflow.org "{name}" not found')
        metadata = self.jobs[name]["metadata"]
        if any(metadata[key] != value for key, value in body.get("preconditions", {}).items()):
            raise RefusedError(409, "the precondition failed")
        self.deletions.append((name, body["propagationPolicy"]))
        metadata["deletionTimestamp"] = CREATED
        with self.changed:
            mine = [pod for pod in self.pods if pod.startswith((f"{name}-launcher", f"{name}-worker"))]
            for pod in mine:
                del self.pods[pod]
            self.changed.notify_all()
        return self.jobs[name]

    def _get_pods(self, name: str, query: Resource, body: None) -> Resource:
        if name not in self.pods:
            raise RefusedError(404, f'pods "{name}" not found')
        return self.pods[name]

    def _list_pods(self, _: None, query: Resource, body: None) -> Resource:
        return {"items": [pod for pod in self.pods.values() if selected(pod, query["labelSelector"])]}

    def _list_events(self, _: None, query: Resource, body: None) -> Resource:
        assert query["fieldSelector"] == "type=Warning"
        return {"items": self.events}

    def log(self, pod: str, query: Resource) -> Iterator[bytes]:
        """The lines of a pod's log until it ends; the last seconds are always all of it here."""
        self.allow("get pods/log")
        if pod not in self.pods:
            raise RefusedError(404, f'pods "{pod}" not found')
        assert query["follow"] == "True"
        assert query["timestamps"] == "True"
        self.log_followed.set()
        sent, deadline = 0, time.monotonic() + LONGEST_STREAM_S
        while time.monotonic() < deadline:
            with self.changed:
                lines = self.logs[pod][sent:]
                status = self.pods.get(pod, {"status": {"phase": "Failed"}})["status"]
                over = status["phase"] in ("Succeeded", "Failed")
                if not lines and not over:
                    self.changed.wait(0.5)
            yield from (line.encode() for line in lines)
            sent += len(lines)
            if over and not lines:
                return


@functools.cache
def validator() -> Any:
    """Knows what an MPIJob may hold; None where its schema or jsonschema is not on this machine."""
    if not SCHEMA.is_file() or importlib.util.find_spec("jsonschema") is None:
        return None
    from jsonschema import Draft7Validator

    return Draft7Validator(json.loads(SCHEMA.read_text()))


def selected(resource: Resource, selector: str) -> bool:
    """Whether an object has the labels `key=value,key`."""
    labels = resource["metadata"].get("labels", {})
    pairs = [part.partition("=") for part in selector.split(",")]
    return all(labels.get(key) == value if equals else key in labels for key, equals, value in pairs)


def handler(cluster: ClusterServer) -> type[BaseHTTPRequestHandler]:
    """The handler of one server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            cluster._connections.add(self.connection)

        def finish(self) -> None:
            cluster._connections.discard(self.connection)
            with contextlib.suppress(OSError):
                super().finish()

        def respond(self) -> None:
            try:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length)) if length else None
                url = urlsplit(self.path)
                match = PATH.fullmatch(url.path)
                if match and match[3]:
                    query = {key: values[0] for key, values in parse_qs(url.query).items()}
                    self.stream(cluster.log(match[2], query))
                else:
                    self.send(200, cluster.answer(self.command, self.path, body))
            except RefusedError as error:
                self.send(error.status, {"kind": "Status", "code": error.status, "message": str(error)})
            except (Cut, OSError):
                self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = respond  # noqa: N815

        def send(self, status: int, answer: Resource) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def stream(self, pieces: Iterator[bytes]) -> None:
            first = next(pieces, b"")  # before the status line: it may be refused
            limit = cluster.cuts.pop(0) if cluster.cuts else None
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            sent = 0
            for piece in chain([first], pieces):
                part = piece if limit is None else piece[: abs(limit) - sent]
                if part:
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                sent += len(part)
                if limit is not None and sent >= abs(limit):
                    if limit < 0:
                        break
                    raise Cut
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    return Handler

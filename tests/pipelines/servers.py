"""HTTP servers for the tests of submit, cancel and preflight, on a port of this machine.

They speak the paths that those commands use, in the words of the real ones: Kubeflow Pipelines v2beta1 (runs
that follow a script) and the Kubernetes API (objects by path, permissions by verb, foreground deletion).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = tuple[int, Any]
MPIJOBS = "/apis/kubeflow.org/v2beta1/namespaces/{}/mpijobs"


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Server:
    """Answers requests with JSON until the `with` block ends, and keeps them in `requests`.

    `before` may answer in place of `answer`: an error, a login page, or nothing for a long time.
    """

    requests: list[Request] = field(default_factory=list)
    before: Callable[[Request], Answer | None] = lambda request: None

    def answer(self, request: Request) -> Answer:
        """Status and body (JSON, or text as it is)."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Any:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    def _respond(self, request: Request) -> Answer:
        early = self.before(request)  # outside of the lock: it may take long
        with self._lock:
            self.requests.append(request)
            return early or self.answer(request)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _go(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
            status, content = server._respond(request)
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/login")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_HEAD = do_POST = do_DELETE = _go  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@dataclass
class KfpServer(Server):
    """Kubeflow Pipelines. Each look at a run takes the next of `script`: states of the run and its steps."""

    script: list[tuple[str, dict[str, str | list[str]]]] = field(default_factory=list)
    error: str = ""
    multi_user: bool = True
    token: str = ""
    cookie: str = ""
    namespaces: tuple[str, ...] = ("upsnet",)
    experiments: list[dict[str, str]] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    RUN_ID = "4f1f2a3b-5c6d-4e7f-8a9b-0c1d2e3f4a5b"

    def answer(self, request: Request) -> Answer:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"error": "Request header error: there is no user identity header", "code": 16}
        if self.cookie and request.headers.get("cookie") != self.cookie:
            return (200, "<html>Log in!</html>") if request.path == "/login" else (302, "")
        kind, _, rest = request.path.removeprefix("/apis/v2beta1/").partition("/")
        if kind == "healthz":
            return 200, {"multi_user": True} if self.multi_user else {}
        if kind == "experiments":
            return self._experiments(request)
        if kind == "runs":
            return self._create(request) if not rest else self._run(request.method, rest)
        return 404, {"error": "Not Found", "code": 5, "message": "Not Found"}

    def _experiments(self, request: Request) -> Answer:
        if request.method == "GET":
            (predicate,) = json.loads(request.query["filter"])["predicates"]
            assert predicate["operation"] == "EQUALS"
            assert predicate["key"] == "display_name"
            found = [e for e in self.experiments if e["display_name"] == predicate["string_value"]]
            return 200, {"experiments": found} if found else {}
        namespace = request.body.get("namespace", "")
        if self.multi_user and namespace not in self.namespaces:
            return 403, {"code": 7, "message": f"User 'ann' is not authorized in namespace {namespace!r}"}
        if not self.multi_user and namespace:
            return 400, {"code": 3, "message": "In single-user mode, namespace must be empty"}
        if any(e["display_name"] == request.body["display_name"] for e in self.experiments):
            return 409, {"code": 6, "message": "Already exist error: Experiment already exists"}
        self.experiments.append({"experiment_id": f"e{len(self.experiments)}", **request.body})
        return 200, self.experiments[-1]

    def _create(self, request: Request) -> Answer:
        self.runs[self.RUN_ID] = {"state": "PENDING", "display_name": request.body["display_name"]}
        return 200, {"run_id": self.RUN_ID, **self.runs[self.RUN_ID]}

    def _run(self, method: str, rest: str) -> Answer:
        run_id, _, verb = rest.partition(":")
        run = self.runs.get(run_id)
        if run is None:
            return 404, {"code": 5, "message": f"ResourceNotFoundError: Run {run_id} not found."}
        if verb == "terminate" and method == "POST":
            if run["state"] not in ("PENDING", "RUNNING", "PAUSED"):
                return 400, {"code": 3, "message": f"Failed to terminate a run {run_id}. Row not found"}
            run["state"], self.script = "CANCELING", [("CANCELING", {}), ("CANCELED", {})]
            return 200, {}
        if self.script:
            run["state"], steps = self.script.pop(0)
            run["run_details"] = {"task_details": _task_details(steps)}
        return 200, {"run_id": run_id, **run, **({"error": {"message": self.error}} if self.error else {})}


def _task_details(steps: dict[str, str | list[str]]) -> list[dict[str, Any]]:
    """The tasks as Kubeflow lists them, its own drivers and executors among them."""
    tasks = [
        {"display_name": "root", "state": "RUNNING"},
        {"display_name": "root-driver", "state": "SUCCEEDED"},
    ]
    for name, states in steps.items():
        for state in [states] if isinstance(states, str) else states:
            tasks.append({"display_name": f"{name}-driver", "state": "SUCCEEDED"})
            tasks.append({"display_name": name, "state": state})
            tasks.append({"display_name": "executor", "state": state})
    return [{"task_id": f"t{number}", **task} for number, task in enumerate(tasks)]


@dataclass
class KubernetesServer(Server):
    """The Kubernetes API: `objects` by path, MPIJobs by namespace, permissions that are refused.

    `forbidden` are paths not to be read; `denied` and `denied_to_steps` are pairs of resource and
    verb in the answers to access reviews. A deleted MPIJob is listed `slow` more times, with its time.
    """

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    mpijobs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    forbidden: tuple[str, ...] = ()
    denied: tuple[tuple[str, str], ...] = ()
    denied_to_steps: tuple[tuple[str, str], ...] = ()
    slow: int = 1

    def answer(self, request: Request) -> Answer:
        if request.path in self.forbidden:
            return _status(403, f'{request.path} is forbidden: User "ann" cannot {request.method} it')
        if request.path.endswith("accessreviews"):
            return self._review(request)
        for namespace in self.mpijobs:
            folder = MPIJOBS.format(namespace)
            if request.path == folder:
                return self._list(namespace)
            if request.path.startswith(f"{folder}/") and request.method == "DELETE":
                return self._delete(namespace, request.path.rpartition("/")[2], request)
        if request.path in self.objects:
            return 200, self.objects[request.path]
        return _status(404, f"{request.path} not found")

    def _review(self, request: Request) -> Answer:
        attributes = request.body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, [attributes["resource"], attributes.get("subresource")]))
        own = request.path.endswith("selfsubjectaccessreviews")
        refused = self.denied if own else self.denied_to_steps
        return 201, {**request.body, "status": {"allowed": (resource, attributes["verb"]) not in refused}}

    def _list(self, namespace: str) -> Answer:
        jobs = self.mpijobs[namespace]
        listed = json.loads(json.dumps(jobs))
        for job in [job for job in jobs if "deletionTimestamp" in job["metadata"]]:
            job["looks"] = job.get("looks", 0) + 1
            if job["looks"] > self.slow:
                jobs.remove(job)
        return 200, {"kind": "MPIJobList", "items": listed}

    def _delete(self, namespace: str, name: str, request: Request) -> Answer:
        for job in self.mpijobs[namespace]:
            if job["metadata"]["name"] == name:
                assert request.body["propagationPolicy"] == "Foreground"
                job["metadata"]["deletionTimestamp"] = "2026-11-22T21:04:05Z"
                return 200, job
        return _status(404, f'mpijobs.kubeflow.org "{name}" not found')


def _status(code: int, message: str) -> Answer:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


def mpijob(name: str, run_id: str, *, label: bool = False) -> dict[str, Any]:
    """An MPIJob that belongs to a run, marked by annotation or label."""
    mark = {"labels" if label else "annotations": {"upsnet.dev/run-id": run_id}}
    return {"kind": "MPIJob", "metadata": {"name": name, **mark}}


def never(request: Request) -> None:
    """For `Server.before`: keeps the client waiting for longer than any test."""
    time.sleep(60)

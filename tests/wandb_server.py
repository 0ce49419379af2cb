"""The part of W&B's server that an agent and its runs talk to, on loopback: GraphQL, file streams and file storage.

The grid comes from W&B's own engine, as on their servers. An operation that it does not know is answered with an
error, as GraphQL servers do it, and kept in `refused`, so that a test sees when a new version of the client asks for
more.
"""

import contextlib
import gzip
import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

import sweeps

ENTITY, PROJECT, SWEEP = "team", "codecs", "grid0001"
_OPERATION = re.compile(r"\s*(?:query|mutation)\s+(\w+)")


class Run:
    """What the server has been told of one run."""

    def __init__(self, name: str, parameters: dict[str, Any] | None = None) -> None:
        self.name = name
        self.parameters = parameters
        """Those that the sweep chose, or None of a run that is in no sweep."""
        self.upserts: list[dict[str, Any]] = []
        """Variables of each UpsertBucket."""
        self.streamed: dict[str, dict[int, str]] = {}
        """Lines of each file of the file stream, by their number."""
        self.exit_codes: list[int] = []
        self.heard_as_running = False

    @property
    def config(self) -> dict[str, Any]:
        """The last config, as names and values."""
        configs = [json.loads(upsert["config"]) for upsert in self.upserts if upsert.get("config")]
        return {name: entry["value"] for name, entry in configs[-1].items() if name != "_wandb"} if configs else {}

    @property
    def summary(self) -> dict[str, Any]:
        """The last summary."""
        lines = self.streamed.get("wandb-summary.json", {})
        return json.loads(lines[max(lines)]) if lines else {}

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was logged, in order."""
        lines = self.streamed.get("wandb-history.jsonl", {})
        return [json.loads(lines[number]) for number in sorted(lines)]


class WandbServer:
    """One sweep and its runs; see `serve`.

    Args:
        sweep: The content of a sweep file.
        url: Where it listens.
    """

    def __init__(self, sweep: dict[str, Any], url: str) -> None:
        self.sweep = sweep
        self.url = url
        self.runs: dict[str, Run] = {}
        self.agents: list[str] = []
        self.refused: list[str] = []
        self._asked: list[sweeps.SweepRun] = []
        self._lock = threading.Lock()

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find it."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40, "WANDB_ENTITY": ENTITY}

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The answer to a GraphQL request."""
        match = _OPERATION.match(query)
        name = match[1] if match else query.strip()[:60]
        with self._lock:
            method = getattr(self, f"_on_{name.lower()}", None)
            if method is None:
                self.refused.append(name)
                return {"data": None, "errors": [{"message": f"{name} is not known here"}]}
            return {"data": method(variables)}

    def stream(self, run: str, request: dict[str, Any]) -> None:
        """Take in a request to a run's file stream."""
        with self._lock:
            told = self.runs[run]
            for file, chunk in (request.get("files") or {}).items():
                lines = told.streamed.setdefault(file, {})
                lines.update({chunk["offset"] + i: line for i, line in enumerate(chunk["content"])})
            if request.get("complete"):
                told.exit_codes.append(request["exitcode"])

    def _on_viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}}

    def _on_serverfeaturesquery(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _on_sweepwithruns(self, variables: dict[str, Any]) -> dict[str, Any]:
        assert variables["sweep"] == SWEEP
        text = yaml.safe_dump(self.sweep, sort_keys=False)
        sweep = {"id": "sweep-1", "name": SWEEP, "method": "grid", "state": "RUNNING", "config": text}
        return {"project": {"sweep": {**sweep, "runs": {"edges": []}}}}

    def _on_createagent(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.agents.append(f"agent-{len(self.agents)}")
        return {"createAgent": {"agent": {"id": self.agents[-1]}}}

    def _on_heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        running = json.loads(variables["runState"])
        for name in running:
            self.runs[name].heard_as_running = True
        commands = [] if running else [self._next_command()]
        return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}

    def _next_command(self) -> dict[str, Any]:
        run = sweeps.next_run(self.sweep, self._asked)
        if run is None:
            return {"type": "exit"}
        self._asked.append(run)
        name = f"run{len(self._asked):05}"
        self.runs[name] = Run(name, {key: entry["value"] for key, entry in run.config.items()})
        return {"type": "run", "run_id": name, "program": self.sweep["program"], "args": run.config}

    def _on_upsertbucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        run = self.runs.setdefault(name, Run(name))
        new = not run.upserts
        run.upserts.append(variables)
        in_sweep = variables.get("sweep") or None
        project = {"id": "project-1", "name": PROJECT, "entity": {"id": "entity-1", "name": ENTITY}}
        shown = variables.get("displayName") or name
        bucket = {"id": f"id-{name}", "name": name, "displayName": shown, "sweepName": in_sweep, "project": project}
        chosen = {key: {"value": value} for key, value in (run.parameters or {}).items()}
        bucket |= {"config": json.dumps(chosen), "description": None, "historyLineCount": 0, "notes": None}
        return {"upsertBucket": {"bucket": bucket, "inserted": new}}

    def _on_runresumestatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"model": {"id": "project-1", "name": PROJECT, "entity": {"id": "1", "name": ENTITY}, "bucket": None}}

    def _on_createrunfiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = variables["run"]
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/{run}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": f"id-{run}", "uploadHeaders": [], "files": files}}


class _Handler(BaseHTTPRequestHandler):
    """HTTP to a `WandbServer`, which `serve` sets."""

    protocol_version = "HTTP/1.1"
    wandb: WandbServer

    def do_POST(self) -> None:
        body = self._body()
        parts = self.path.strip("/").split("/")
        if parts == ["graphql"]:
            request = json.loads(body)
            self._reply(self.wandb.answer(request["query"], request.get("variables") or {}))
        elif parts[0] == "files" and parts[-1] == "file_stream":
            self.wandb.stream(parts[-2], json.loads(body))
            self._reply({"exitcode": None, "limits": {}})
        else:
            self.wandb.refused.append(f"POST {self.path}")
            self._reply({}, 404)

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def do_GET(self) -> None:
        self.wandb.refused.append(f"GET {self.path}")
        self._reply({}, 404)

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class _Http(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that end drop the connections that they have kept open.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serve(sweep: dict[str, Any]) -> Iterator[WandbServer]:
    """A server of one sweep, on a free port of loopback, until the block ends.

    Args:
        sweep: The content of a sweep file.
    """
    handler = type("Handler", (_Handler,), {})
    with _Http(("127.0.0.1", 0), handler) as http:
        handler.wandb = server = WandbServer(sweep, f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()

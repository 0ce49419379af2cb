"""The part of W&B's server that `dashboard` talks to, on loopback: runs with their files, views, reports and charts.

An operation that it does not know is answered with an error, as GraphQL servers do it, and kept in `refused`.
"""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ENTITY, PROJECT = "team", "taco"
_OPERATION = re.compile(r"^\s*(?:query|mutation)\s+(\w+)", re.MULTILINE)


class DashboardServer:
    """A project with runs.

    Args:
        url: Where it listens.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.runs: dict[str, dict[str, Any]] = {}
        """Id -> `group`, `sweep`, `summary` and `files` (name -> path), oldest first."""
        self.views: dict[str, dict[str, Any]] = {}
        """Id -> what was upserted last."""
        self.charts: dict[str, Any] = {}
        """Name -> spec."""
        self.upserts: list[str] = []
        """Ids of the views, in the order in which they came."""
        self.refused: list[str] = []
        self.filters: list[Any] = []

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The answer to a GraphQL request."""
        match = _OPERATION.search(query)
        name = match[1] if match else query.strip()[:60]
        method = getattr(self, f"_on_{name.lower()}", None)
        if method is None:
            self.refused.append(name)
            return {"data": None, "errors": [{"message": f"{name} is not known here"}]}
        try:
            return {"data": method(variables)}
        except LookupError as error:
            return {"data": None, "errors": [{"message": str(error.args[0])}]}

    def _on_viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}}

    def _on_getdefaultentity(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "1", "entity": ENTITY}}

    def _on_runs(self, variables: dict[str, Any]) -> dict[str, Any]:
        if (variables["entity"], variables["project"]) != (ENTITY, PROJECT):
            return {"project": None}
        filters = json.loads(variables["filters"])
        self.filters.append(filters)
        wanted = [value for part in filters.get("$or", []) for value in part.values()]
        chosen = [run for run in self.runs if not wanted or self.runs[run]["group"] in wanted]
        edges = [{"node": self._run(run), "cursor": run} for run in reversed(chosen)]
        page = {"endCursor": None, "hasNextPage": False}
        return {
            "project": {
                "internalId": "17",
                "runCount": len(edges),
                "readOnly": False,
                "runs": {"edges": edges, "pageInfo": page},
            }
        }

    def _run(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        empty = {
            "tags": [],
            "config": "{}",
            "systemMetrics": "{}",
            "historyKeys": None,
            "commit": None,
            "notes": None,
        }
        return {
            **empty,
            **{"id": f"id-{name}", "name": name, "displayName": name, "state": "finished", "jobType": "test"},
            **{"createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00", "description": None},
            **{"readOnly": False, "historyLineCount": 1, "user": {"name": "a", "username": "a"}, "projectId": "17"},
            **{"group": run["group"], "sweepName": run["sweep"], "summaryMetrics": json.dumps(run["summary"])},
        }

    def _on_runfiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        run, prefix = variables["name"], variables["pattern"].removesuffix("%")
        files = [name for name in self.runs[run]["files"] if name.startswith(prefix)]
        known = {"mimetype": "application/json", "updatedAt": None, "md5": "", "sizeBytes": 1}
        nodes = [
            {
                **known,
                "id": name,
                "name": name,
                "url": f"{self.url}/{run}/{name}",
                "directUrl": f"{self.url}/{run}/{name}",
            }
            for name in files
        ]
        edges = [{"node": node, "cursor": node["id"]} for node in nodes]
        page = {"endCursor": None, "hasNextPage": False}
        return {
            "project": {
                "internalId": "17",
                "run": {"fileCount": len(nodes), "files": {"edges": edges, "pageInfo": page}},
            }
        }

    def _on_createcustomchart(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["chartName"]
        if name in self.charts:
            raise LookupError(f"chart {name} already exists")
        self.charts[name] = json.loads(variables["spec"])
        return {"createCustomChart": {"chart": {"id": f"{variables['entity']}/{name}"}}}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        number = variables.get("id") or f"Vmlldzo{len(self.views) + 100}"
        if variables.get("id") and number not in self.views:
            raise LookupError(f"view {number} does not exist")
        inserted = number not in self.views
        self.views[number] = {**variables, "id": number, "spec": json.loads(variables["spec"])}
        self.upserts.append(number)
        view = {key: variables.get(key) for key in ("type", "name", "displayName", "description", "spec")}
        view |= {"id": number, "updatedAt": "2026-01-01T00:00:00"}
        view["project"] = {"id": "17", "name": PROJECT, "entityName": ENTITY}
        return {"upsertView": {"view": view, "inserted": inserted}}

    _on_upsertview = _on_upsertview2 = _upsert

    def _on_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = [view for view in self.views.values() if view["name"] == variables["viewName"]]
        nodes = [{"id": v["id"], "displayName": v["displayName"], "spec": json.dumps(v["spec"])} for v in found]
        return {"project": {"allViews": {"edges": [{"node": node} for node in nodes]}}}

    def _on_getprojects(self, variables: dict[str, Any]) -> dict[str, Any]:
        node = {"__typename": "Project", "id": "17", "name": PROJECT, "entityName": ENTITY, "isBenchmark": False}
        node |= {"createdAt": "2026-01-01T00:00:00Z", "user": None}
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"edges": [{"node": node}], "pageInfo": page}}

    def _on_project(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"model": {"id": "17", "name": PROJECT}}


class _Handler(BaseHTTPRequestHandler):
    """HTTP to a `DashboardServer`, which `serve` sets."""

    protocol_version = "HTTP/1.1"
    wandb: DashboardServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/graphql":  # counts of how the client is used
            self._reply(b"{}")
            return
        request = json.loads(body)
        self._reply(json.dumps(self.wandb.answer(request["query"], request.get("variables") or {})).encode())

    def do_GET(self) -> None:
        _, run, name = self.path.split("/", 2)
        self._reply(Path(self.wandb.runs[run]["files"][name]).read_bytes())

    def _reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serve() -> Iterator[DashboardServer]:
    """A server on a free port of loopback, until the block ends."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        handler.wandb = server = DashboardServer(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()

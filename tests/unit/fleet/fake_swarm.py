"""A Docker engine in Swarm mode, as far as leases need it: a real HTTP server on a Unix socket, with nothing behind it.

Words and statuses of its errors are those of Docker 26.
"""

import json
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

MIB = 1024 * 1024
NO_LEADER = (
    500,
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online."
    " Make sure more than half of the managers are online.",
)
OUT_OF_SEQUENCE = (500, "rpc error: code = Unknown desc = update out of sequence")


class Refused(Exception):
    """Status and message."""


class FakeSwarm:
    """Nodes, services and tasks. What a test sets: `leaderless`, `hanging`, `assigns_after_s` (None: never),
    `lingers_s`, for which a task that was removed goes on reserving.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.leaderless = False
        self.hanging = threading.Event()
        self.assigns_after_s: float | None = 0.03
        self.lingers_s = 0.0
        self.nodes: dict[str, dict[str, Any]] = {}
        self.services: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self._index = 10
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self.start()

    # --- What a test does to it --------------------------------------------------------------------------------------

    def start(self) -> None:
        self._server = Server(str(self.path), handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The engine is gone, with all of its connections; what it knows stays."""
        self._server.shutdown()
        self._server.server_close()
        self.path.unlink()
        self._thread.join(10)
        self._server.hang_up()

    def close(self) -> None:
        self._stopped.set()
        if self.path.exists():
            self.stop()

    def join(
        self, name: str, memory_mb: int = 4096, cpus: float = 4, role: str = "worker", leader: bool = False
    ) -> str:
        """A host joins; returns its id."""
        with self._lock:
            made = self._id("node")
            self.nodes[made] = {
                "ID": made,
                "Version": {"Index": self._next()},
                "Spec": {"Labels": {}, "Role": role, "Availability": "active"},
                "Description": {
                    "Hostname": f"host-{name}",
                    "Resources": {"MemoryBytes": memory_mb * MIB, "NanoCPUs": int(cpus * 1e9)},
                    "Engine": {"EngineVersion": "26.1.5", "Labels": {"sandbox.node": name}},
                },
                "Status": {"State": "ready", "Addr": f"10.231.0.{len(self.nodes) + 11}"},
                **({"ManagerStatus": {"Leader": leader, "Reachability": "reachable"}} if role == "manager" else {}),
            }
            return made

    def lose(self, node: str) -> None:
        """The host does not answer any more: Swarm gives its tasks up, whatever becomes of them."""
        with self._lock:
            self._touch(self.nodes[node])["Status"]["State"] = "down"
            for task in self._of_node(node):
                task["DesiredState"] = "shutdown"

    def find_again(self, node: str) -> None:
        """It answers again, and ends the tasks that were given up."""
        with self._lock:
            self._touch(self.nodes[node])["Status"]["State"] = "ready"
            for task in self._of_node(node):
                if task["DesiredState"] == "shutdown":
                    task["Status"] = {"State": "shutdown", "Message": "shutdown"}

    def end_tasks(self, node: str, state: str = "failed", why: str = "task: non-zero exit (137)") -> None:
        """As when the fleet engine of a host is restarted."""
        with self._lock:
            for task in self._of_node(node):
                task["Status"] = {"State": state, "Err": why, "Message": "started"}
                task["DesiredState"] = "shutdown"

    def service(self, name: str) -> dict[str, Any]:
        return next(one for one in self.services.values() if one["Spec"]["Name"] == name)

    def task_ids(self, name: str) -> list[str]:
        service = self.service(name)["ID"]
        return sorted(task["ID"] for task in self.tasks.values() if task["ServiceID"] == service)

    # --- What it is asked --------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        with self._lock:
            self.asked.append((method, path))
            if path == "/version":
                return {"Version": "26.1.5", "ApiVersion": "1.45", "MinAPIVersion": "1.24"}
            path = path.partition("/v1.")[2].partition("/")[2]
            if self.leaderless:
                raise Refused(*NO_LEADER)
            self._schedule()
            match method, path.split("/"):
                case "POST", ["services", "create"]:
                    return self._create(body)
                case "GET", ["services"]:
                    return [one for one in self.services.values() if labelled(one, query)]
                case "GET", ["services", name]:
                    return self._service(name)
                case "DELETE", ["services", name]:
                    return self._remove(self._service(name))
                case "POST", ["services", name, "update"]:
                    return self._update(self._service(name), int(query["version"]), body)
                case "GET", ["tasks"]:
                    chosen = json.loads(query.get("filters", "{}")).get("service")
                    ids = [self._service(name)["ID"] for name in chosen] if chosen else list(self.services)
                    return [task for task in self.tasks.values() if task["ServiceID"] in ids]
                case "GET", ["nodes"]:
                    return list(self.nodes.values())
                case "GET", ["nodes", node]:
                    return self.nodes[node]
                case "POST", ["nodes", node, "update"]:
                    return self._update(self.nodes[node], int(query["version"]), body)
            raise Refused(404, "page not found")

    def _service(self, name: str) -> dict[str, Any]:
        for one in self.services.values():
            if name in (one["ID"], one["Spec"]["Name"]):
                return one
        raise Refused(404, f"service {name} not found")

    def _create(self, spec: dict[str, Any]) -> dict[str, str]:
        if any(one["Spec"]["Name"] == spec["Name"] for one in self.services.values()):
            said = f"name conflicts with an existing object: service {spec['Name']} already exists"
            raise Refused(409, f"rpc error: code = AlreadyExists desc = {said}")
        made = self._id("service")
        self.services[made] = {"ID": made, "Version": {"Index": self._next()}, "Spec": spec}
        self._add_task(made)
        return {"ID": made}

    def _add_task(self, service: str) -> None:
        made = self._id("task")
        self.tasks[made] = {
            "ID": made,
            "CreatedAt": f"2027-01-15T08:00:00.{self._next():09}Z",
            "ServiceID": service,
            "Spec": self.services[service]["Spec"]["TaskTemplate"],
            "Status": {"State": "new", "Message": "created"},
            "DesiredState": "running",
            "due": None if self.assigns_after_s is None else time.monotonic() + self.assigns_after_s,
        }

    def _update(self, found: dict[str, Any], version: int, spec: dict[str, Any]) -> dict[str, Any]:
        if found["Version"]["Index"] != version:
            raise Refused(*OUT_OF_SEQUENCE)
        before = found["Spec"].get("TaskTemplate")
        self._touch(found)["Spec"] = spec
        if before != spec.get("TaskTemplate"):
            for task in self.tasks.values():
                if task["ServiceID"] == found["ID"]:
                    task["DesiredState"] = "shutdown"
            self._add_task(found["ID"])
        if spec.get("Availability") == "drain":
            self.end_tasks(found["ID"], "shutdown", "")
        return {"Warnings": None}

    def _remove(self, found: dict[str, Any]) -> None:
        del self.services[found["ID"]]
        for task in self.tasks.values():
            if task["ServiceID"] == found["ID"]:
                task.update(DesiredState="remove", until=time.monotonic() + self.lingers_s)

    def _schedule(self) -> None:
        """Assigns what is due, to the node with the fewest tasks that fits."""
        now = time.monotonic()
        self.tasks = {key: task for key, task in self.tasks.items() if task.get("until", now + 1) > now}
        for task in list(self.tasks.values()):
            if task["Status"]["State"] not in ("new", "pending") or task["due"] is None or task["due"] > now:
                continue
            if task["Status"]["State"] == "new":
                self._touch(self.services[task["ServiceID"]])  # its addresses were allocated
            fitting = [node for node in self.nodes.values() if self._fits(task["Spec"], node)]
            if not fitting:
                said = f"no suitable node (insufficient resources on {len(self.nodes)} nodes)"
                task["Status"] = {"State": "pending", "Message": "pending task scheduling", "Err": said}
                continue
            chosen = min(fitting, key=lambda node: len(self._of_node(node["ID"])))
            task.update(NodeID=chosen["ID"], Status={"State": "assigned", "Message": "scheduler assigned task to node"})

    def _fits(self, template: dict[str, Any], node: dict[str, Any]) -> bool:
        free = dict(node["Description"]["Resources"])
        for task in self._of_node(node["ID"]):
            for name in free:
                free[name] -= task["Spec"]["Resources"]["Reservations"][name]
        wanted, constraints = template["Resources"]["Reservations"], template["Placement"]["Constraints"]
        return (
            node["Status"]["State"] == "ready"
            and node["Spec"]["Availability"] == "active"
            and constraints in ([], [f"node.id=={node['ID']}"])
            and all(wanted[name] <= free[name] for name in free)
        )

    def _of_node(self, node: str) -> list[dict[str, Any]]:
        """The tasks that reserve something there."""
        over = ("failed", "rejected", "shutdown", "complete")
        found = [task for task in self.tasks.values() if task.get("NodeID") == node]
        return [task for task in found if task["Status"]["State"] not in over]

    def _id(self, kind: str) -> str:
        return f"{kind}{self._next():04}"

    def _next(self) -> int:
        self._index += 1
        return self._index

    def _touch(self, found: dict[str, Any]) -> dict[str, Any]:
        found["Version"] = {"Index": self._next()}
        return found

    def wait(self) -> None:
        """What a request does while the engine hangs."""
        while self.hanging.is_set() and not self._stopped.wait(0.02):
            pass


def labelled(service: dict[str, Any], query: dict[str, str]) -> bool:
    wanted = json.loads(query.get("filters", "{}")).get("label", [])
    return all(service["Spec"]["Labels"].get(key) == value for key, _, value in (one.partition("=") for one in wanted))


class Server(ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, path: str, handler: type[BaseHTTPRequestHandler]) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(path, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Connections that clients keep, as well."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away."""


def handler(swarm: FakeSwarm) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 0

        def serve(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
            swarm.wait()
            try:
                self.reply(200, swarm.answer(self.command, unquote(url.path), query, body))
            except Refused as error:
                self.reply(error.args[0], {"message": error.args[1]})

        def reply(self, status: int, value: Any) -> None:
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = serve

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    return Handler

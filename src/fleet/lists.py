"""Lists over all hosts: each is asked for its own, and the answers are put together.

Of a host that does not answer, the sandboxes that it had are listed all the same, and say that it is lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from starlette.datastructures import QueryParams

from fleet.index import Index
from fleet.nodes import Answer, Node, Unreachable
from sandboxd.e2b.lists import MOST, parse_metadata, parse_states, parse_time, parse_token, token_of
from sandboxd.e2b.tags import template_name

LOST = "lost"
# What E2B's schema has of a sandbox in a list, and what is ours there: why its host is not heard.
SHOWN = (
    *("templateID", "sandboxID", "clientID", "envdVersion", "startedAt", "endAt", "cpuCount", "memoryMB"),
    *("diskSizeMB", "metadata", "reason"),
)


async def gathered(nodes: Iterable[Node], ask: Callable[[Node], Awaitable[Answer]]) -> dict[str, Answer]:
    """The answers by host, without those of hosts that do not answer, be it that they are lost while they are asked."""

    async def one(node: Node) -> Answer | None:
        try:
            node.check()
            return await node.while_heard(ask(node))
        except Unreachable:
            return None

    asked = list(nodes)
    answers = await asyncio.gather(*(one(node) for node in asked))
    return {node.name: answer for node, answer in zip(asked, answers, strict=True) if answer is not None}


def lost_rows(index: Index, answered: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of the sandboxes of all other hosts, as those were read last."""
    rows = []
    for name in index.nodes.keys() - set(answered):
        node = index.nodes[name]
        state = {"state": LOST} if node.lost_since is not None else {}
        for sandbox_id, row in index.contents[name].sandboxes.items():
            if row is not None and not index.moved(name, sandbox_id):
                note = index.notes.get(sandbox_id, "")
                reason = f"{node.obituary}; not made anew elsewhere yet: {note}" if note else node.obituary
                rows.append({**without(row, "cpus", "generation"), **state, "reason": reason, "node": name})
    return rows


def native(index: Index, answers: Mapping[str, Answer]) -> list[dict[str, Any]]:
    """The rows of GET /v2/sandboxes, each with its `node`; those of each host in its own order."""
    rows = [{**row, "node": name} for name, answer in answers.items() for row in answer.json()]
    return rows + lost_rows(index, answers)


def page(
    index: Index, answers: Mapping[str, Answer], query: QueryParams, owner: str
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One page of E2B's list, and its headers. A token of one host's list is good for all: it is a place in the order.

    `answers` are those of all hosts that answer to the same query, all of them 200.
    """
    rows = [row for answer in answers.values() for row in answer.json()]
    lost = [row for row in lost_rows(index, answers) if row["owner"] == owner]
    running = sum(int(answer.header(b"x-total-running") or 0) for answer in answers.values())
    running += sum(was_running(index, row) for row in lost)
    rows += [shown(index, row) for row in lost if wanted(index, row, query)]
    rows.sort(key=position, reverse=query.get("order", "desc") == "desc")
    limit = int(query.get("limit", str(MOST)).partition(".")[0])  # for the hosts, 5.0 is a number of rows, too
    headers = {"X-Total-Running": str(running)}
    if len(rows) > limit or any(answer.header(b"x-next-token") for answer in answers.values()):
        last = rows[:limit][-1]
        headers["X-Next-Token"] = token_of(position(last))
    return rows[:limit], headers


def position(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["startedAt"], row["sandboxID"]


def was_running(index: Index, row: Mapping[str, Any]) -> bool:
    before = index.contents[row["node"]].sandboxes[row["sandboxID"]]
    return before is not None and before["state"] == "running"


def wanted(index: Index, row: dict[str, Any], query: QueryParams) -> bool:
    """Whether a sandbox of a lost host belongs on a page, by the rules of `sandboxd.e2b.lists`."""
    before = index.contents[row["node"]].sandboxes[row["sandboxID"]] or row
    name = template_name(query.get("template", ""))
    if before["state"] not in parse_states(query.getlist("state")):
        return False
    if not parse_metadata(query.get("metadata", "")).items() <= row["metadata"].items():
        return False
    if name and name not in (row["templateID"], row["templateID"].partition(":")[0]):
        return False
    if (after := query.get("startedAfter")) and parse_time(row["startedAt"]) < parse_time(after):
        return False
    if not (last := query.get("nextToken")):
        return True
    place = parse_token(last)
    return position(row) < place if query.get("order", "desc") == "desc" else position(row) > place


def shown(index: Index, row: dict[str, Any]) -> dict[str, Any]:
    """In E2B's words, whose clients know no state but two: it keeps the one that it had."""
    state = "running" if was_running(index, row) else "paused"
    values = {key: row[key] for key in SHOWN}
    return {**values, "alias": row["templateID"], "state": state, "volumeMounts": []}


def without(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def joined(answers: Mapping[str, Answer], node: bool = False) -> list[Any]:
    """One list of the hosts' lists, with `node` in each row if that is asked for."""
    return [{**row, "node": name} if node else row for name, answer in answers.items() for row in answer.json()]


def volumes(answers: Mapping[str, Answer]) -> list[Any]:
    """The rows of GET /volumes, each with its `node`. Those on shared storage are in the list of every host, and count
    as in that of the host that has them."""
    rows: list[Any] = []
    shared: dict[str, Any] = {}
    for row in joined(answers):
        if row["shared"]:
            shared[row["name"]] = max(row, shared.get(row["name"], row), key=lambda one: bool(one["sandboxID"]))
    for row in joined(answers, node=True):
        if not row["shared"]:
            rows.append(row)
    return rows + list(shared.values())


def united(answers: Mapping[str, Answer], key: str, own: Callable[[Any], bool], node: bool = False) -> list[Any]:
    """Lists of which a part is the same on all hosts: of rows that are no host's `own`, one for each `key`."""
    rows: list[Any] = []
    seen: set[Any] = set()
    for name, answer in answers.items():
        for row in answer.json():
            if own(row):
                rows.append({**row, "node": name} if node else row)
            elif row[key] not in seen:
                seen.add(row[key])
                rows.append(row)
    return sorted(rows, key=own)

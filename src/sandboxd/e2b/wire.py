"""Sandboxes in E2B's words. Values in, values out."""

from typing import Any

from sandboxd.api.sandboxes import CLIENT_ID, ENVD_VERSION, OPEN_ENDED_S
from sandboxd.config import Config
from sandboxd.e2b import network
from sandboxd.records import TOKEN, Sandbox
from sandboxd.times import rfc3339
from sandboxd.tokens import agent_token, traffic_token


def brief(row: Sandbox, config: Config, key: bytes) -> dict[str, Any]:
    """The schema `Sandbox`: the answer of create, connect and resume."""
    return {
        "templateID": row.template,
        "sandboxID": row.id,
        "clientID": CLIENT_ID,
        "envdVersion": ENVD_VERSION,
        "envdAccessToken": agent_token(key, row.id),
        "trafficAccessToken": traffic_token(key, row.id, row.access_round) if row.access == TOKEN else None,
        "domain": config.domain,
    }


def listed(row: Sandbox) -> dict[str, Any]:
    """The schema `ListedSandbox`. One that is stopped is `paused`: E2B knows no other state that can be resumed."""
    started = row.claimed_at or row.created_at
    return {
        "templateID": row.template,
        "sandboxID": row.id,
        "clientID": CLIENT_ID,
        "envdVersion": ENVD_VERSION,
        "alias": row.template,
        "startedAt": rfc3339(started),
        "endAt": rfc3339(started + OPEN_ENDED_S if row.ends_at is None else row.ends_at),
        "state": "running" if row.state == "running" else "paused",
        "cpuCount": max(1, round(row.cpus)),
        "memoryMB": row.memory_mb,
        "diskSizeMB": row.disk_mb,
        "metadata": row.metadata,
        "volumeMounts": [{"name": one.title, "path": one.path} for one in row.mounts],
    }


def detailed(row: Sandbox, config: Config, key: bytes) -> dict[str, Any]:
    """The schema `SandboxDetail`."""
    return {
        **listed(row),
        "envdAccessToken": agent_token(key, row.id),
        "domain": config.domain,
        "allowInternetAccess": not row.policy.closed,
        "network": network.described(row),
        "pauseMode": "full" if row.pause_memory else "filesystem",
        "lifecycle": {"onTimeout": row.on_timeout, "autoResume": row.auto_resume},
    }

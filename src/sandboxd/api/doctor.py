"""The request for an examination of the host: its findings, each as soon as it is known."""

import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from sandboxd.api.access import TRUSTED
from sandboxd.api.sandboxes import ENVD_VERSION
from sandboxd.api.services import Services
from sandboxd.api.streams import Source, Streamed
from sandboxd.doctor.agent import through_gateway
from sandboxd.doctor.checks import checks
from sandboxd.doctor.findings import examine
from sandboxd.doctor.probe import Probe
from sandboxd.doctor.readers import Readers


class Examination(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    probe: bool = True


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    sandboxes = services.sandboxes

    def findings(wanted: Examination, stopped: threading.Event) -> Generator[dict[str, Any]]:
        readers = Readers(sandboxes, services.pool, services.health, ENVD_VERSION, services.effects)
        execute = through_gateway(sandboxes.config, sandboxes.key)
        with closing(Probe(readers, execute)) as probe:
            listed = checks(probe if wanted.probe else None)
            for finding in examine(listed, readers, stopped.is_set, f"journalctl -u {readers.daemon_unit} -n 50"):
                yield asdict(finding)

    @made.post("/doctor")
    async def doctor(body: Examination) -> Response:
        """Lines {"name", "level", "seen", "remedy"}."""
        stopped = threading.Event()
        return Streamed(services.streams, Source(findings(body, stopped), stopped.set))

    return made

"""E2B's control plane, as its unmodified clients speak it: what answers by TCP, to whoever has a key.

Field names, status codes and their oddities are E2B's. Handlers only translate, as in `sandboxd.api`, whose answers to
the command line are free to differ.
"""

from fastapi import FastAPI

from sandboxd.api.answers import answer_errors
from sandboxd.api.services import Services
from sandboxd.bodies import BodyLimit, DrainedBody
from sandboxd.e2b import (
    buildapi,
    buildmoves,
    create,
    fork,
    host,
    lifecycle,
    lists,
    looks,
    network,
    tags,
    templates,
    volumecontent,
    volumes,
)
from sandboxd.e2b.builds import Builds

__all__ = ["build", "buildmoves", "create"]


def build(services: Services, builds: Builds) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(BodyLimit)
    app.add_middleware(DrainedBody)  # outermost: whoever refuses
    answer_errors(app)
    sandboxes = (create, fork, lists, looks, lifecycle, network)
    for module in (*sandboxes, host, tags, templates, volumes, volumecontent):
        app.include_router(module.router(services))
    app.include_router(buildapi.router(services, builds))
    return app

"""The HTTP API of the Unix socket, which the command line uses. What answers by TCP is `sandboxd.e2b`.

Handlers only translate: a request into a call of the life cycle, a row into JSON, an error into its status. Work runs
in threads. One module for each kind of request.
"""

from fastapi import FastAPI

from sandboxd.api import doctor, fleet, host, inventory, keys, previews, sandboxes, shared, templates, volumes, watch
from sandboxd.api.answers import answer_errors
from sandboxd.api.services import Services
from sandboxd.bodies import BodyLimit, DrainedBody

__all__ = ["Services", "build"]


def build(services: Services) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BodyLimit)
    app.add_middleware(DrainedBody)  # outermost: whoever refuses
    answer_errors(app)
    app.include_router(host.router(services))
    app.include_router(sandboxes.router(services))
    app.include_router(previews.router(services))
    app.include_router(templates.router(services))
    app.include_router(watch.router(services))
    app.include_router(doctor.router(services))
    app.include_router(volumes.router(services))
    app.include_router(shared.router(services))
    app.include_router(keys.router(services))
    app.include_router(inventory.router(services))
    app.include_router(fleet.router(services))
    return app

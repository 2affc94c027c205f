"""Tags of templates: each names a build, which is kept as long as one does. What `name:tag` means.

`default` is the build that a name without a tag means; `latest` is another word for it.
"""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.audit import current
from sandboxd.bodies import Text
from sandboxd.e2b import access
from sandboxd.errors import BadRequest
from sandboxd.records import ApiKey
from sandboxd.templates import build_id
from sandboxd.templatetable import DEFAULT_TAG
from sandboxd.times import rfc3339

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
MOST = 100  # tags of one template


class NewTags(BaseModel):
    model_config = ConfigDict(strict=True)
    target: Text
    tags: list[Text] = Field(min_length=1, max_length=MOST)


class OldTags(BaseModel):
    model_config = ConfigDict(strict=True)
    name: Text
    tags: list[Text] = Field(min_length=1, max_length=MOST)


def router(services: Services) -> APIRouter:
    made = APIRouter()
    sandboxes, ledger, templates = services.sandboxes, services.sandboxes.ledger, services.templates
    Key = Annotated[ApiKey, Depends(access.caller(services))]

    def changeable(name: str) -> str:
        if name in sandboxes.config.templates:
            raise BadRequest(f"template {name!r} is one of the host's settings, and has one build.")
        return name

    @made.post("/templates/tags", status_code=201)
    async def assign(body: NewTags, key: Key) -> dict[str, Any]:
        source, tags = template_name(body.target), checked(body.tags)
        current().template, current().detail = source, f"given {' '.join(tags)}"

        def do() -> str:
            template = changeable(source.partition(":")[0])
            if len({*ledger.tagged(template), *(f"{template}:{tag}" for tag in tags)}) > MOST:
                raise BadRequest(f"template {template!r} would have more than {MOST} tags. Remove some.")
            return ledger.copy_tags(source, tags, sandboxes.host.now()).image

        image = await run(do)
        await run(templates.discard)  # the last tag of a build may have moved away
        return {"tags": tags, "buildID": build_id(image)}

    @made.delete("/templates/tags", status_code=204)
    async def remove(body: OldTags, key: Key) -> None:
        name, tags = changeable(template_name(body.name).partition(":")[0]), checked(body.tags)
        current().template, current().detail = name, f"taken {' '.join(tags)}"
        if DEFAULT_TAG in tags:
            raise BadRequest(f"the tag {DEFAULT_TAG!r} goes with its template: remove that.")
        await run(lambda: ledger.remove_tags(name, tags))
        await run(templates.discard)

    @made.get("/templates/{name:path}/tags")
    async def list_tags(name: str, key: Key) -> Response:
        template = template_name(name).partition(":")[0]

        def do() -> list[dict[str, Any]]:
            found = {f"{template}:{DEFAULT_TAG}": one} if (one := ledger.templates().get(template)) else {}
            rows = [
                {"tag": tag.partition(":")[2], "buildID": build_id(one.image), "createdAt": rfc3339(one.created_at)}
                for tag, one in {**found, **ledger.tagged(template)}.items()
            ]
            if not rows:  # one of the settings has one build, of no time; of an unknown one it is told
                image = sandboxes.template(template).image
                rows = [{"tag": DEFAULT_TAG, "buildID": build_id(image), "createdAt": rfc3339(0.0)}]
            return rows

        return JSONResponse(await run(do))

    return made


def template_name(asked: str) -> str:
    """`team/name:tag` is read as `name:tag`, or `name` for the default tag: a host has one team."""
    name, _, tag = asked.rpartition("/")[2].partition(":")
    return name if tag in ("", DEFAULT_TAG, "latest") else f"{name}:{tag}"


def checked(tags: list[str]) -> list[str]:
    """Without repetitions. Raises BadRequest."""
    if wrong := [tag for tag in tags if not TAG.fullmatch(tag)]:
        raise BadRequest(f"tags: {wrong[0]!r} is none: letters, digits, dots, dashes and underscores, at most 128.")
    return list(dict.fromkeys(DEFAULT_TAG if tag == "latest" else tag for tag in tags))

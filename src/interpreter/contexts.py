"""All contexts of a sandbox: those that clients made, and one for each language that is there when asked for."""

import asyncio
import os
import secrets
from typing import TYPE_CHECKING

from envd.config import ConfigSource
from envd.errors import EnvdError, invalid_argument, not_found
from envd.spawn import environment
from envd.users import expand_path, find_user
from interpreter.context import Context
from interpreter.errors import KernelError
from interpreter.languages import Language, find_language

if TYPE_CHECKING:
    from interpreter.kernels import Kernel

MAX_CONTEXTS = 16  # an idle Python kernel takes some 40 MB, one of Deno 180


class Contexts:
    """The contexts by id. Their kernels belong to the sandbox's user and begin with the sandbox's environment."""

    def __init__(self, source: ConfigSource) -> None:
        self._source = source
        self._contexts: dict[str, Context] = {}
        self._defaults: dict[str, str] = {}  # language -> id

    def all(self) -> list[Context]:
        return list(self._contexts.values())

    def get(self, id: str) -> Context:
        """Raises `not_found`."""
        context = self._contexts.get(id)
        if context is None:
            raise not_found(f"context '{id}' not found")
        return context

    def default(self, language_name: str | None) -> Context:
        """The one of a language, in the user's home. Raises `invalid_argument` for an unknown language."""
        language = find_language(language_name)
        context = self._contexts.get(self._defaults.get(language.name, ""))
        if context is None:
            context = self._add(language, None)
            self._defaults[language.name] = context.id
        return context

    async def create(self, language_name: str | None, cwd: str | None) -> Context:
        """Another context, whose kernel runs. Raises `invalid_argument`, and `internal` when the kernel does not."""
        context = self._add(find_language(language_name), cwd)
        try:
            await context.start()
        except BaseException as error:
            self._contexts.pop(context.id, None)
            if isinstance(error, KernelError):
                raise EnvdError("internal", str(error)) from error
            raise
        return context

    async def restart(self, id: str) -> None:
        """Raises `not_found`, and `internal` when the kernel does not start."""
        try:
            await self.get(id).restart()
        except KernelError as error:
            raise EnvdError("internal", str(error)) from error

    async def delete(self, id: str) -> None:
        """Raises `not_found`."""
        context = self.get(id)
        del self._contexts[id]
        await context.delete()

    async def close(self) -> None:
        """End all kernels."""
        await asyncio.gather(*(self.delete(id) for id in list(self._contexts)))

    def _add(self, language: Language, cwd: str | None) -> Context:
        if len(self._contexts) >= MAX_CONTEXTS:
            raise EnvdError(
                "resource_exhausted", f"there are {MAX_CONTEXTS} contexts already: delete one of them first"
            )
        user = find_user(self._source.current().user)
        directory = expand_path(cwd or "", user, user.home)
        if not os.path.isdir(directory):
            raise invalid_argument(f"cwd '{directory}' does not exist")
        id = secrets.token_hex(16)
        context = Context(id, language, directory, lambda: self._start(language, directory))
        self._contexts[id] = context
        return context

    async def _start(self, language: Language, cwd: str) -> "Kernel":
        # Here, so that a sandbox in which nobody runs code does not hold Jupyter in its memory.
        from interpreter.kernels import Kernel

        config = self._source.current()
        user = find_user(config.user)
        variables = environment(os.environ, config, user, {})
        # As in a login shell: what pip installs for the user is found.
        variables["PATH"] = os.pathsep.join([os.path.join(user.home, ".local/bin"), variables["PATH"]])
        return await Kernel.start(language, user, cwd, variables)

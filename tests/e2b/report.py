"""Runs features, each a function without arguments, and prints a line of JSON for each: {"feature", "error", "absent"}.

`absent` says what this release of the client does not have; there is then nothing that could fail.
"""

import asyncio
import inspect
import json
import sys
import traceback
from typing import Any


class Absent(Exception):
    """This client has no such thing. The message says what, and since when there is one."""


def main(features: dict[str, Any]) -> None:
    for name, feature in features.items():
        error = absent = ""
        try:
            if inspect.iscoroutinefunction(feature):
                asyncio.run(feature())
            else:
                feature()
        except Absent as raised:
            absent = str(raised)
        except BaseException as raised:
            error = f"{type(raised).__name__}: {raised}"
            traceback.print_exc()
        print(json.dumps({"feature": name, "error": error, "absent": absent}), flush=True)
    sys.stdout.flush()


def features_of(module: dict[str, Any]) -> dict[str, Any]:
    """The module's functions that begin with `feature_`, in their order."""
    return {name.removeprefix("feature_"): value for name, value in module.items() if name.startswith("feature_")}


def raises(kind: type[BaseException], call: Any, *arguments: Any, **options: Any) -> BaseException:
    try:
        call(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")

"""An application with its own copy of Bottle, like pypiserver."""

# mypy: disable-error-code="untyped-decorator"

import importlib.util
import sys
from types import ModuleType
from typing import Any


def copy_of_bottle(name: str) -> ModuleType:
    """Returns Bottle's file as a module of another name."""
    spec = importlib.util.find_spec("bottle")
    assert spec is not None
    assert spec.origin is not None
    copied = importlib.util.spec_from_file_location(name, spec.origin)
    assert copied is not None
    assert copied.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(copied)
    copied.loader.exec_module(module)
    return module


def shop(bottle: Any) -> Any:
    """Returns an application made with it."""
    made = bottle.Bottle()
    made.get("/own/<name>", callback=lambda name: f"{name}\n")

    @made.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError

    @made.hook("before_request")
    def before_routes() -> None:
        if bottle.request.path.startswith("/moved/"):
            bottle.redirect("/elsewhere", 303)

    return made


app = shop(copy_of_bottle("shop._vendor.bottle"))

"""Applications of many frameworks, each with one route that waits: `/orders/17/wait`."""

import asyncio
import time
from typing import Any

SECONDS = 60


def flask() -> Any:
    from flask import Flask

    app = Flask(__name__)

    @app.route("/orders/<int:order>/wait")
    def wait(order: int) -> str:
        time.sleep(SECONDS)
        return str(order)

    return app


def django() -> Any:
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    def wait(_request: Any, order: int) -> HttpResponse:
        time.sleep(SECONDS)
        return HttpResponse(str(order))

    settings.configure(ROOT_URLCONF=(path("orders/<int:order>/wait", wait),), ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    return get_wsgi_application()


def bottle() -> Any:
    from bottle import Bottle

    app = Bottle()

    @app.route("/orders/<order:int>/wait")
    def wait(order: int) -> str:
        time.sleep(SECONDS)
        return str(order)

    return app


def pyramid() -> Any:
    from pyramid.config import Configurator
    from pyramid.response import Response

    def wait(_request: Any) -> Response:
        time.sleep(SECONDS)
        return Response("waited")

    with Configurator() as config:
        config.add_route("wait", "/orders/{order}/wait")
        config.add_view(wait, route_name="wait")
        return config.make_wsgi_app()


def falcon() -> Any:
    import falcon as framework

    class Wait:
        def on_get(self, _req: Any, _resp: Any, order: str) -> None:  # noqa: ARG002
            time.sleep(SECONDS)

    app = framework.App()
    app.add_route("/orders/{order}/wait", Wait())
    return app


def fastapi() -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/orders/{order}/wait")
    async def wait(order: int) -> int:
        await asyncio.sleep(SECONDS)
        return order

    return app


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def wait(_request: Any) -> PlainTextResponse:
        await asyncio.sleep(SECONDS)
        return PlainTextResponse("waited")

    return Starlette(routes=[Mount("/orders", routes=[Route("/{order}/wait", wait)])])


def quart() -> Any:
    from quart import Quart

    app = Quart(__name__)

    @app.route("/orders/<int:order>/wait")
    async def wait(order: int) -> str:
        await asyncio.sleep(SECONDS)
        return str(order)

    return app


def tornado() -> Any:
    import tornado.web

    class Wait(tornado.web.RequestHandler):
        async def get(self, _order: str) -> None:
            await asyncio.sleep(SECONDS)

    return tornado.web.Application([(r"/orders/([0-9]+)/wait", Wait)])

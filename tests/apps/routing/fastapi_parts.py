"""FastAPI in parts: routers in one another, mounted applications, static files, dependencies, validation."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles


async def text(number: int = 0) -> dict[str, int]:
    """The answer of every route."""
    return {"number": number}


def blocking(number: int) -> dict[str, int]:
    """Runs in a thread."""
    return {"number": number}


async def refused() -> None:
    """A dependency that always fails."""
    raise HTTPException(401)


inner = APIRouter(prefix="/inner")
inner.add_api_route("/{number}", text)
outer = APIRouter(prefix="/outer/{tenant}")
outer.add_api_route("/one", text)
outer.include_router(inner)
part = FastAPI()
part.add_api_route("/users/{number}", text)

app = FastAPI()


@app.middleware("http")
async def before_routes(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answers what never comes to a route."""
    if request.url.path.startswith("/early/"):
        return Response("early")
    if request.url.path.startswith("/moved/"):
        return RedirectResponse("/elsewhere", 301)
    return await call_next(request)


app.add_api_route("/users/{number}", text)
app.add_api_route("/blocking/{number}", blocking)
app.add_api_route("/refused/{number}", text, dependencies=[Depends(refused)])
app.include_router(outer, prefix="/v1")
app.include_router(outer, prefix="/v2")
app.mount("/part", part)
app.mount("/assets", StaticFiles(directory=Path(__file__).parent))

"""A shop in FastAPI; gunicorn -k gunicorn_prometheus_exporter.PrometheusUvicornWorker fastapi_app:app."""

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse

app = FastAPI()
router = APIRouter()


@app.get("/item/{number}")
@router.get("/item/{number}")
async def item(number: int) -> PlainTextResponse:
    """A route with a parameter."""
    return PlainTextResponse(f"item {number}\n")


@app.post("/upload")
async def upload(request: Request) -> PlainTextResponse:
    """Takes a body."""
    return PlainTextResponse(str(len(await request.body())))


@app.get("/forbidden")
async def forbidden() -> PlainTextResponse:
    """Raises an exception that the framework answers."""
    raise HTTPException(403)


@app.get("/broken")
async def broken() -> PlainTextResponse:
    """A defect: raises an exception without a handler."""
    raise KeyError("broken")


app.include_router(router, prefix="/old")

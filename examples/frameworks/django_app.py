"""A shop in Django, in one file; gunicorn -k gunicorn_prometheus_exporter.PrometheusWorker django_app:app."""

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="an example", ALLOWED_HOSTS=["*"])


def item(_request: HttpRequest, number: int) -> HttpResponse:
    """A route with a parameter."""
    return HttpResponse(f"item {number}\n")


def upload(request: HttpRequest) -> HttpResponse:
    """Takes a body."""
    return HttpResponse(str(len(request.body)))


def forbidden(_request: HttpRequest) -> HttpResponse:
    """Raises an exception that the framework answers."""
    raise PermissionDenied


def broken(_request: HttpRequest) -> HttpResponse:
    """A defect: raises an exception without a handler."""
    raise KeyError("broken")


urlpatterns = [
    path("item/<int:number>", item),
    path("v1/", include([re_path(r"^old/(?P<number>\d+)/$", item)])),
    path("upload", upload),
    path("forbidden", forbidden),
    path("broken", broken),
]

app = get_wsgi_application()

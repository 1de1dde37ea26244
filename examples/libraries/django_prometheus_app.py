"""django-prometheus, as its documentation says; with the worker class PrometheusWorker."""

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

settings.configure(
    SECRET_KEY="for a test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django_prometheus"],
    MIDDLEWARE=[
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
)
django.setup()


def order(_request: HttpRequest, number: int) -> HttpResponse:
    """One order."""
    return HttpResponse(str(number))


urlpatterns = [path("orders/<int:number>", order, name="order"), path("", include("django_prometheus.urls"))]
app = get_wsgi_application()

"""Django in parts: includes, patterns, languages, namespaces, class-based views, and routers of its REST framework."""

from django.conf import settings

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="a test",
    ALLOWED_HOSTS=["*"],
    LANGUAGES=[("en", "English"), ("de", "Deutsch")],
    MIDDLEWARE=[
        "django_parts.before_routes",
        "django.middleware.locale.LocaleMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    INSTALLED_APPS=["rest_framework"],
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []},
)

import django  # noqa: E402

django.setup()

from collections.abc import Callable  # noqa: E402

from django.conf.urls.i18n import i18n_patterns  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import Http404, HttpRequest, HttpResponse  # noqa: E402
from django.urls import include, path, re_path  # noqa: E402
from django.views import View  # noqa: E402
from rest_framework.exceptions import Throttled  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.routers import DefaultRouter  # noqa: E402
from rest_framework.viewsets import ViewSet  # noqa: E402


def text(_request: HttpRequest, **values: object) -> HttpResponse:
    """The answer of every route."""
    return HttpResponse(f"{values}\n")


def gone(_request: HttpRequest, number: int) -> HttpResponse:
    """A route whose object is missing."""
    raise Http404(number)


def before_routes(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """A middleware that answers requests before they reach a route."""

    def respond(request: HttpRequest) -> HttpResponse:
        return HttpResponse("early\n") if request.path.startswith("/early/") else get_response(request)

    return respond


class Users(View):
    """A view that is a class, and answers 405 to other methods."""

    def get(self, _request: HttpRequest, number: int) -> HttpResponse:
        """Answers one object."""
        return HttpResponse(f"{number}\n")


class Things(ViewSet):
    """A view from which a router makes routes."""

    def list(self, _request: object, format: str = "") -> Response:  # noqa: ARG002
        """Answers all objects."""
        return Response([])

    def retrieve(self, _request: object, pk: str, format: str = "") -> Response:  # noqa: ARG002
        """Answers one object, or raises an error that the REST framework answers."""
        if pk == "0":
            raise Throttled
        return Response({"pk": pk})


router = DefaultRouter()
router.register("things", Things, basename="thing")
deep = [path("leaf/<slug:name>/", text), re_path(r"^old/(?P<number>[0-9]{4})/$", text)]
urlpatterns = [
    path("", text),
    path("v1/", include((deep, "v1"), namespace="v1")),
    path("tenants/<int:tenant>/", include(deep)),
    re_path(r"^patterns/(?P<number>[0-9]+)$", text),
    path("users/<int:number>", Users.as_view()),
    path("gone/<int:number>", gone),
    path("api/", include(router.urls)),
    *i18n_patterns(path("greet/<str:name>", text)),
]

app = get_wsgi_application()
asgi_app = get_asgi_application()

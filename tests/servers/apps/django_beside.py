"""Django, with the application beside its handler: no middleware of Django sees the videos."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

import wsgi
from tests.servers.apps.mounting import PAGE, mount

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of no use to anybody")


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE)


urlpatterns = [path("", page)]
application = mount(wsgi.application, get_wsgi_application())

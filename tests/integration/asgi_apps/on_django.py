"""The application of test_asgi_frameworks.py, for Django."""

import asyncio
import threading

import django
from common import PIECE, Digest, say
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path


settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING_CONFIG=None)
django.setup()


async def json(request):
    return JsonResponse({"path": request.path, "query": request.GET.dict()})


async def digest(request):
    digest = Digest()
    while piece := request.read(65536):
        digest.update(piece)
    return JsonResponse(digest.result())


async def download(request):
    async def pieces():
        for _ in range(int(request.GET["pieces"])):
            yield PIECE

    return StreamingHttpResponse(pieces())


async def fail(request):
    raise LookupError("the view fails")


def sync(request):
    return HttpResponse(threading.current_thread().name)


async def hold(request):
    say("hold: began")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("hold: the client has gone")
        raise


async def put(request):
    await request.scope["state"]["queue"].put("from.application", b"body")
    return HttpResponse("put")


urlpatterns = [
    path("json", json),
    path("digest", digest),
    path("download", download),
    path("fail", fail),
    path("sync", sync),
    path("hold", hold),
    path("put", put),
]
app = get_asgi_application()

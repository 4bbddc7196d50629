"""A map at a URL, from servers of every kind, on loopback."""

import asyncio
import base64
import contextlib
import http.server
import threading

import pytest

from sennit.beacon.url import FetchError, Poll, fetch
from sennit.netmap.model import NetmapError
from sennit.netmap.signing import MAX_SIGNED_BYTES


class Server(http.server.ThreadingHTTPServer):
    """Does what ``answer`` does with each request; ``asked`` holds the header If-None-Match of each."""

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}/netmap"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.headers["If-None-Match"])
        with contextlib.suppress(ConnectionError):
            self.server.answer(self)

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def serve():
    """Starts a server with an answer, and gives it."""
    servers = []

    def start(answer):
        server = Server(answer)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def store(request):
    """An object store that has one map."""
    if request.headers["If-None-Match"] == '"v1"':
        request.reply(304)
    else:
        request.reply(200, b"a map", ETag='"v1"')


def test_the_map_and_the_second_time_that_it_is_the_same(serve):
    server = serve(store)
    assert fetch(server.url, None) == {"netmap": base64.b64encode(b"a map").decode(), "etag": '"v1"'}
    assert fetch(server.url, '"v1"') == {"netmap": None, "etag": '"v1"'}
    assert fetch(server.url, '"v0"')["netmap"]


def test_a_redirect_is_followed(serve):
    target = serve(store)
    server = serve(lambda request: request.reply(302, Location=target.url))
    assert fetch(server.url, None)["etag"] == '"v1"'


def test_a_map_of_the_largest_size(serve):
    server = serve(lambda request: request.reply(200, bytes(MAX_SIGNED_BYTES)))
    assert len(base64.b64decode(fetch(server.url, None)["netmap"])) == MAX_SIGNED_BYTES


def endless(request):
    request.reply(200, b"", **{"Content-Length": str(10 * 1024**3)})
    while True:
        request.wfile.write(bytes(1024 * 1024))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda request: request.reply(302, Location="/netmap"), "HTTP status 302"),
        (lambda request: request.reply(302, Location=f"/{request.path.count('x') * 'x'}x{request.path}"), "status 302"),
        (lambda request: request.reply(302, Location="ftp://127.0.0.1/netmap"), "redirects from http to ftp"),
        (lambda request: request.reply(302, Location="file:///etc/passwd"), "HTTP status 302"),
        (lambda request: request.reply(302, Location="//["), "no answer by HTTP"),
        (endless, "more than 16777"),
        (lambda request: request.reply(404), "HTTP status 404"),
        (lambda request: request.reply(500, b"oops"), "HTTP status 500"),
        (lambda request: request.wfile.write(b"\x00\xff\n\n"), "no answer by HTTP"),
        (lambda request: request.reply(200, b"short", **{"Content-Length": "100"}), "cut short, by 95 bytes"),
        (lambda request: request.connection.close(), "no answer by HTTP|reset"),
    ],
)
def test_what_is_no_map_is_one_error(serve, answer, problem):
    with pytest.raises(FetchError, match=problem):
        fetch(serve(answer).url, None)


def test_nobody_there():
    with pytest.raises(FetchError, match="refused"):
        fetch("http://127.0.0.1:1/netmap", None)


# --- looking again and again


def polled(url, take, looks):
    """What became of this many looks: the status after each."""

    async def main():
        statuses = []
        looked = asyncio.Event()
        poll = Poll(url, take, interval=0.01)
        look = poll._look

        async def noticed():
            problem = await look()
            asyncio.get_running_loop().call_soon(looked.set)
            return problem

        poll._look = noticed
        for _ in range(looks):
            await asyncio.wait_for(looked.wait(), 30)
            looked.clear()
            statuses.append(poll.status())
        await poll.close()
        return statuses

    return asyncio.run(main())


def test_a_map_is_taken_once(serve):
    taken = []

    async def take(signed):
        taken.append(signed)

    server = serve(store)
    statuses = polled(server.url + "?signature=secret", take, 3)
    assert taken == [b"a map"]
    assert server.asked[:3] == [None, '"v1"', '"v1"']
    assert [status["problem"] for status in statuses] == [None] * 3
    assert statuses[0]["url"] == server.url and statuses[0]["looked_at"]


def test_a_map_that_is_refused_is_told_and_not_fetched_again(serve):
    async def take(_signed):
        raise NetmapError("bad-signature", "not signed by the key that is pinned here")

    server = serve(store)
    statuses = polled(server.url, take, 2)
    assert server.asked[:2] == [None, '"v1"']
    assert "bad-signature" in statuses[0]["problem"]


def test_a_map_that_cannot_be_taken_now_is_fetched_again(serve):
    async def take(_signed):
        raise OSError("something is on trial")

    server = serve(store)
    statuses = polled(server.url, take, 2)
    assert server.asked[:2] == [None, None]
    assert statuses[1]["problem"] == "something is on trial"


def test_a_server_that_fails_is_told(serve):
    async def take(_signed):
        raise AssertionError("there is no map")

    server = serve(lambda request: request.reply(403))
    assert [status["problem"] for status in polled(server.url, take, 2)] == ["HTTP status 403"] * 2

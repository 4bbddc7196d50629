"""The control API over a real unix socket: whatever a client does, it gets a reply in the API's form or is cut off."""

import asyncio
import contextlib
import json
import os
import socket
import stat
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sennit import api_server
from sennit.api import ApiError, call
from sennit.api_server import ApiServer, parse_request

LIMIT = 64 * 1024
# Seconds in which a client that is only slow, as all are on a busy machine, is served.
PATIENCE = 20.0


class Running:
    """A server in an event loop of its own."""

    def __init__(self, path, handler, timeout=PATIENCE):
        self.path = str(path)
        self.oversized = 0
        self._handler = handler
        self._limits = {"max_request_bytes": LIMIT, "request_timeout": timeout}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self):
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = ApiServer(self.path, self._handler, self._count, **self._limits)
        await server.start()
        self._ready.set()
        await self._stop.wait()
        await server.close()

    def _count(self):
        self.oversized += 1

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(self.path)
        return client

    def exchange(self, data):
        """Send these bytes and close the sending side; every line that comes back until the server closes."""
        with self.connect() as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := client.recv(65536):
                    received += chunk
        assert received == b"" or received.endswith(b"\n")
        return [json.loads(line) for line in received.splitlines()]


async def echo(method, params):
    if method == "fail":
        raise ApiError("no-way", "it failed")
    if method == "bug":
        raise ZeroDivisionError("secret detail")
    return {"method": method, "params": params}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Running(tmp_path_factory.mktemp("api") / "control.sock", echo) as running:
        yield running


def test_call_gives_the_result(server):
    assert call(server.path, "echo", {"a": [1, "é"]}) == {"method": "echo", "params": {"a": [1, "é"]}}


def test_call_raises_what_the_agent_says(server):
    with pytest.raises(ApiError, match=r"^it failed$") as caught:
        call(server.path, "fail")
    assert caught.value.code == "no-way"


def test_a_bug_is_logged_and_not_told(server, caplog):
    with pytest.raises(ApiError) as caught:
        call(server.path, "bug")
    assert caught.value.code == "internal"
    assert "secret" not in caught.value.message
    assert "secret detail" in caplog.text


def test_only_the_owner_can_reach_the_socket(server):
    assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600


def test_several_requests_on_one_connection(server):
    line = json.dumps({"method": "echo"}).encode() + b"\n"
    assert server.exchange(line * 3) == [{"result": {"method": "echo", "params": {}}}] * 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\n", "not JSON"),
        (b"nonsense\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 50_000 + b"\n", "not JSON"),
        (b"[]\n", "not a JSON object"),
        (b"7\n", "not a JSON object"),
        (b"{}\n", "method: missing, or not a string"),
        (b'{"method": 7}\n', "method: missing, or not a string"),
        (b'{"method": "echo", "params": []}\n', "params: not an object"),
        (b'{"method": "echo"}', "the request does not end with a newline"),
    ],
)
def test_a_bad_request_is_told_so(server, line, message):
    assert server.exchange(line) == [{"error": {"code": "bad-request", "message": message}}]


def test_a_client_that_says_nothing_is_answered_nothing(server):
    assert server.exchange(b"") == []


def test_too_long_a_request_is_refused_and_counted(server):
    before = server.oversized
    with pytest.raises(ApiError) as caught:
        call(server.path, "echo", {"netmap": "A" * 10_000_000})
    assert caught.value.code == "too-large"
    assert server.oversized == before + 1


@pytest.mark.parametrize("sent", [b"", b'{"method"'])
def test_a_slow_client_is_timed_out(tmp_path, sent):
    with Running(tmp_path / "control.sock", echo, timeout=0.5) as server, server.connect() as client:
        client.sendall(sent)
        reply = json.loads(client.makefile().readline())
        assert reply["error"]["code"] == "timeout"
        assert client.recv(1) == b""


def test_half_open_clients_do_not_hold_up_the_others(server):
    with contextlib.ExitStack() as stack:
        for _ in range(api_server.MAX_CLIENTS - 1):
            stack.enter_context(server.connect()).sendall(b'{"method":')
        assert call(server.path, "echo")["method"] == "echo"


def test_more_clients_than_allowed_are_told(tmp_path):
    # A server of its own: clients of the test before may still be leaving the shared one.
    with Running(tmp_path / "control.sock", echo) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(api_server.MAX_CLIENTS + 1)]
        assert json.loads(clients[-1].makefile().readline())["error"]["code"] == "busy"


def test_other_users_are_refused(server, monkeypatch):
    monkeypatch.setattr(api_server.os, "geteuid", lambda: 4711)
    monkeypatch.setattr(api_server, "_UCRED", FakeCredentials)
    with pytest.raises(ApiError, match="only root") as caught:
        call(server.path, "echo")
    assert caught.value.code == "no-permission"


class FakeCredentials:
    size = 12

    @staticmethod
    def unpack(_data):
        return 1, 1000, 1000


def test_a_client_that_does_not_read_is_cut_off(server):
    with server.connect() as client:
        request = json.dumps({"method": "echo", "params": {"x": "y" * 60_000}}).encode() + b"\n"
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(request)
    assert call(server.path, "echo")["method"] == "echo"


def test_a_killed_servers_socket_is_replaced(tmp_path):
    path = tmp_path / "control.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with Running(path, echo):
        assert call(str(path), "echo")["method"] == "echo"
    assert not path.exists()


def test_call_without_an_agent(tmp_path):
    with pytest.raises(ApiError) as caught:
        call(str(tmp_path / "control.sock"))
    assert caught.value.code == "not-running"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "control.sock"))
    dead.close()
    with pytest.raises(ApiError) as caught:
        call(str(tmp_path / "control.sock"))
    assert caught.value.code == "not-running"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"", "bad-reply"),
        (b"{", "bad-reply"),
        (b"[]\n", "bad-reply"),
        (b'{"error": 1}\n', "bad-reply"),
        (None, "timeout"),
    ],
)
def test_call_of_something_that_is_no_agent(tmp_path, reply, code):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()

    def answer():
        client, _address = listener.accept()
        with client:
            if reply is None:
                client.recv(65536)
                client.recv(1)
            else:
                client.recv(65536)
                client.sendall(reply)

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(ApiError) as caught:
        call(str(tmp_path / "socket"), timeout=0.2 if reply is None else PATIENCE)
    assert caught.value.code == code
    thread.join(10)
    listener.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
requests = st.fixed_dictionaries({}, optional={"method": json_values, "params": json_values})
lines = st.binary(max_size=200) | requests.map(lambda request: json.dumps(request).encode() + b"\n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(st.lists(lines, max_size=4))
def test_whatever_is_sent_the_replies_are_in_form(server, data):
    for reply in server.exchange(b"".join(data)):
        assert set(reply) in ({"result"}, {"error"})
        if "error" in reply:
            assert set(reply["error"]) == {"code", "message"}
            assert reply["error"]["code"] in {"bad-request", "no-way", "internal"}
    assert call(server.path, "echo", {"alive": True})["params"] == {"alive": True}


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_parsing_raises_api_error_only(line):
    with contextlib.suppress(ApiError):
        method, params = parse_request(line)
        assert isinstance(method, str) and isinstance(params, dict)

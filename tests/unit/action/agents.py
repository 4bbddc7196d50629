# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent of a few lines at a control socket, that keeps the contract; and a connection that can be cut."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import socketserver
import threading
from typing import Any

from tests.unit.netmap.inventories import VERIFY_KEY

from sennit.netmap.admit import admit
from sennit.netmap.model import Netmap, NetmapError
from sennit.preferences import Preferences

# A connection to this machine. It breaks as files in the playbook's directory say: HOST.cut, the answer of what runs
# now is lost, and no new connection is made; HOST.closed, no new connection is made.
CONNECTION = '''
from __future__ import annotations

DOCUMENTATION = """
name: breakable
short_description: to this machine
description: to this machine, until it is cut
author: nobody
extends_documentation_fragment: [connection_pipelining]
"""

import os

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local


class Connection(Local):
    transport = "breakable"
    anew = False

    def reset(self):
        self.anew = True

    def exec_command(self, *arguments, **keywords):
        host = self._play_context.remote_addr
        with open("connections", "a", encoding="ascii") as log:
            log.write(f"{host} {'new' if self.anew else 'old'}\\n")
        if self.anew and os.path.exists(f"{host}.closed"):
            raise AnsibleConnectionFailure("no route to host")
        answer = super().exec_command(*arguments, **keywords)
        if os.path.exists(f"{host}.cut"):
            raise AnsibleConnectionFailure("no answer")
        return answer
'''


class Agent(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Admits maps as the real one does, puts changes on trial, and notes what it was asked.

    on_apply: called when a change comes into force. A trial ends when a test calls fall_back().
    """

    daemon_threads = True

    def __init__(self, directory):
        self.directory = directory
        self.file = directory / "netmap"
        self.config = directory / "agent.json"
        directory.mkdir(exist_ok=True)
        directories = {"state_dir": str(directory), "runtime_dir": str(directory)}
        self.config.write_text(json.dumps({"network": "sennit", "signing_key": VERIFY_KEY, **directories}))
        self.current: Netmap | None = None
        self.sha256: str | None = None
        self.preferences = Preferences()
        self.trial: dict[str, Any] | None = None
        self.before: tuple[Any, ...] = ()
        self.asked: list[str] = []
        self.on_apply = lambda: None
        super().__init__(str(directory / "control.sock"), _Connection)

    def answer(self, method, params):
        self.asked.append(method)
        if method == "netmap.apply":
            signed = base64.b64decode(params["netmap"])
            netmap = admit(signed, VERIFY_KEY, "sennit", self.current)
            return self._change(params, netmap, hashlib.sha256(signed).hexdigest(), self.preferences, signed)
        if method == "preferences.set":
            wanted = self.preferences.changed(params["preferences"])
            return self._change(params, self.current, self.sha256, wanted, None)
        if method == "preferences.get":
            return {"preferences": self.preferences.to_mapping()}
        if method == "trial.confirm":
            if not self.trial or self.trial["id"] != params["id"]:
                raise NetmapError("no-such-trial", "no such trial runs")
            self._keep()
            return {"confirmed": True}
        return self.status()

    def status(self):
        return {
            "netmap": {"version": self.current.version if self.current else None, "sha256": self.sha256},
            "preferences": self.preferences.to_mapping(),
            "trial": self.trial,
        }

    def fall_back(self):
        self.current, self.sha256, self.preferences = self.before
        self.trial = None

    def _change(self, params, netmap, sha256, preferences, signed):
        self.before = self.current, self.sha256, self.preferences
        self.current, self.sha256, self.preferences = netmap, sha256, preferences
        self.signed = signed
        self.on_apply()
        if "trial" not in params:
            self._keep()
            return {"changed": True}
        self.trial = {"id": f"trial {len(self.asked)}", "state": "running"}
        return {"changed": True, "trial": {"id": self.trial["id"], "deadline": params["trial"]}}

    def _keep(self):
        self.trial = None
        if self.signed is not None:
            self.file.write_bytes(self.signed)


class _Connection(socketserver.StreamRequestHandler):
    def handle(self):
        request = json.loads(self.rfile.readline())
        try:
            reply = {"result": self.server.answer(request["method"], request["params"])}
        except NetmapError as error:
            reply = {"error": {"code": error.reason, "message": str(error)}}
        self.wfile.write(json.dumps(reply).encode() + b"\n")


@contextlib.contextmanager
def running(directory):
    """An agent that answers at its socket in this directory."""
    with Agent(directory) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def as_status(agent):
    """What sennit.mesh.status_info tells of the agent's host."""
    kept = base64.b64encode(agent.file.read_bytes()).decode() if agent.file.exists() else None
    return {"netmap": kept, "agent": agent.status()}


def preferences(**values):
    """All of an agent's preferences, with these values."""
    return {**dataclasses.asdict(Preferences()), **values}

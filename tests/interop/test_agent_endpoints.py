"""Endpoints that are DNS names: looked up beside the mesh, which does not wait for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.interop.agents import Mesh

from sennit.api import ApiError


@pytest.fixture
def mesh(tmp_path):
    with Mesh(tmp_path, "alpha", "beta", "gamma") as mesh:
        yield mesh


@pytest.fixture
def names(mesh):
    """alpha's own /etc/hosts, by the way that ip-netns(8) has for it."""
    directory = Path("/etc/netns") / mesh.hosts[0].namespace
    directory.mkdir(parents=True)
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    (directory / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    yield hosts
    shutil.rmtree(directory)


def test_a_name_is_looked_up_until_it_is_found_while_the_mesh_works(mesh, names):
    alpha, beta, gamma = mesh.hosts
    nodes = [alpha.node(endpoint=None), beta.node(endpoint="beta.example:51820"), gamma.node()]
    for host in mesh.hosts:
        host.start()
        host.apply(mesh.netmap(1, *nodes))
    alpha.log.wait_for("endpoint beta.example:51820: ")
    assert alpha.peer("beta")["endpoint"] is None
    assert alpha.cli("ping", "gamma", "-c", "1").returncode == 0
    with names.open("a") as file:
        file.write(f"{beta.underlay[0]} beta.example\n")
    alpha.log.wait_for(f"endpoint beta.example:51820 is at {beta.underlay[0]}")
    result = alpha.cli("ping", "beta", "-c", "1")
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == f"beta: 2 of 2 answered, by {beta.underlay[0]}:51820"


def test_the_exit_nodes_name_need_not_be_asked_for_through_itself(mesh, names):
    alpha, beta, _gamma = mesh.hosts
    nodes = [alpha.node(endpoint=None), beta.node(endpoint="beta.example:51820", exit_node="approved")]
    for host in (alpha, beta):
        host.start()
        host.apply(mesh.netmap(1, *nodes))
    with names.open("a") as file:
        file.write(f"{beta.underlay[0]} beta.example\n")
    alpha.call("preferences.set", preferences={"exit_node": "beta"})
    names.write_text("127.0.0.1 localhost\n")
    alpha.stop()
    alpha.start()
    assert alpha.cli("ping", "beta", "-c", "1").returncode == 0


def test_an_exit_node_whose_name_leads_nowhere_is_refused(mesh, names):
    alpha, beta, _gamma = mesh.hosts
    alpha.start()
    alpha.apply(mesh.netmap(1, alpha.node(), beta.node(endpoint="beta.example:51820", exit_node="approved")))
    before = alpha.traces()
    with pytest.raises(ApiError, match=r"beta\.example:51820 cannot be found") as caught:
        alpha.call("preferences.set", preferences={"exit_node": "beta"})
    assert caught.value.code == "exit-node-not-found"
    assert alpha.traces() == before

"""Nameservers in a race, queries that are one, loops. The time is made up: nobody waits."""

import asyncio

import dns.message
import dns.rcode
import pytest
from tests.unit.dns.helpers import Clock, Nameservers, answering, lines, query, question, refusing, settings, silent

from sennit.dns.forward import (
    MAX_IN_FLIGHT,
    PROBE_INTERVAL,
    QUERY_TIMEOUT,
    REVIEW_INTERVAL,
    STAGGER,
    Forwarder,
)
from sennit.dns.message import Query
from sennit.dns.stub import Stub

ONE, TWO, THREE = "192.0.2.1", "192.0.2.2", "192.0.2.3"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def servers(clock, monkeypatch):
    return Nameservers(clock, monkeypatch)


def forwarder(**values):
    made = Forwarder()
    made.configure(settings(**values))
    return made


def known(made, *addresses):
    """Have these asked a moment ago, with good answers in this order: what a review would find is known."""
    for number, address in enumerate(addresses):
        for nameserver in nameservers_at(made, address):
            nameserver.asked_at, nameserver.rtt, nameserver.state = 1000.0, 0.01 * number, "ok"
    return made


def nameservers_at(made, address):
    """Of each rule that has it."""
    return [each for nameservers in made._rules.values() for each in nameservers if each.address == address]


def ask(clock, made, *names):
    """The replies to these, asked at once; all that was begun has come to its end."""

    async def work():
        replies = await asyncio.gather(*(made.answer(query(name)) for name in names))
        await asyncio.gather(*made._background, return_exceptions=True)
        return replies

    return clock.run(work)


# --- rules


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("www.company.test", "company.test"),
        ("company.test", "company.test"),
        ("WWW.Company.Test", "company.test"),
        ("www.lab.company.test", "lab.company.test"),
        ("xcompany.test", ""),
        ("x\\.company.test", ""),
        ("test", ""),
        (".", ""),
        ("5.10.168.192.in-addr.arpa", "10.168.192.in-addr.arpa"),
        ("5.11.168.192.in-addr.arpa", "168.192.in-addr.arpa"),
    ],
)
def test_the_longest_suffix_wins(clock, servers, name, suffix):
    rules = {
        "company.test": [ONE],
        "lab.company.test": [TWO],
        "168.192.in-addr.arpa": [ONE],
        "10.168.192.in-addr.arpa": [TWO],
    }
    made = forwarder(rules=rules, default=[THREE])
    servers.behaviour = dict.fromkeys((ONE, TWO, THREE), answering("203.0.113.1"))
    (reply,) = ask(clock, made, name)
    assert reply.suffix == suffix
    assert [address for _when, address in servers.whom()] == list(rules.get(suffix, [THREE]))


def test_the_stub_is_no_nameserver(clock, servers):
    made = forwarder(rules={"company.test": ["100.100.100.100"]}, default=["fd5e::24:6464", ONE])
    servers.behaviour[ONE] = answering("203.0.113.1")
    refused, reply = ask(clock, made, "www.company.test", "www.example.com")
    assert (refused.answer, refused.problem) == (None, "there is no nameserver for it")
    assert reply.server == ONE
    assert servers.whom() == [(0.0, ONE)]


def test_nameservers_that_stay_keep_what_is_known_of_them(clock, servers):
    made = forwarder(default=[ONE])
    servers.behaviour[ONE] = answering("203.0.113.1", after=0.02)
    ask(clock, made, "www.example.com")
    made.configure(settings(rules={"company.test": [ONE]}, default=[TWO, ONE]))
    rule, default = made.status(["company.test", ""])
    assert [each["state"] for each in default["nameservers"]] == ["unused", "ok"]
    # What it says to others' names is another matter.
    assert [(each["state"], each["queries"]) for each in rule["nameservers"]] == [("unused", 0)]


# --- the race


def test_one_that_answers_in_time_is_asked_alone(clock, servers):
    made = known(forwarder(default=[ONE, TWO]), ONE, TWO)
    servers.behaviour[ONE] = answering("203.0.113.1", after=STAGGER - 0.01)
    (reply,) = ask(clock, made, "www.example.com")
    assert (reply.server, reply.tried) == (ONE, [{"server": ONE, "result": "NOERROR", "seconds": pytest.approx(0.09)}])
    assert servers.whom() == [(0.0, ONE)]


def test_one_that_is_slow_gets_company(clock, servers):
    made = known(forwarder(default=[ONE, TWO, THREE]), ONE, TWO, THREE)
    servers.behaviour = {ONE: silent, TWO: silent, THREE: answering("203.0.113.3", after=0.01)}
    (reply,) = ask(clock, made, "www.example.com")
    assert reply.server == THREE
    assert servers.whom() == [(0.0, ONE), (STAGGER, TWO), (2 * STAGGER, THREE)]
    assert reply.seconds == pytest.approx(2 * STAGGER + 0.01)


def test_the_first_answer_wins_whoever_was_asked_first(clock, servers):
    made = known(forwarder(default=[ONE, TWO]), ONE, TWO)
    servers.behaviour = {ONE: answering("203.0.113.1", after=0.15), TWO: answering("203.0.113.2", after=0.1)}
    (reply,) = ask(clock, made, "www.example.com")
    assert (reply.server, reply.seconds) == (ONE, pytest.approx(0.15))
    # The loser went on to its end, and its state is true.
    assert [each["state"] for each in made.status([""])[0]["nameservers"]] == ["ok", "ok"]


def test_one_that_fails_lets_another_win_at_once(clock, servers):
    made = known(forwarder(default=[ONE, TWO, THREE]), ONE, TWO, THREE)
    servers.behaviour = {ONE: refusing, TWO: refusing, THREE: answering("203.0.113.3")}
    (reply,) = ask(clock, made, "www.example.com")
    assert (reply.server, reply.seconds) == (THREE, 0.0)
    assert [each["result"] for each in reply.tried] == ["REFUSED", "REFUSED", "NOERROR"]


def test_all_fail(clock, servers):
    made = known(forwarder(default=[ONE, TWO]), ONE, TWO)
    servers.behaviour = {ONE: refusing, TWO: refusing}
    (reply,) = ask(clock, made, "www.example.com")
    assert (reply.answer, reply.seconds, reply.problem) == (None, 0.0, "no nameserver gave an answer")


def test_silence_has_an_end(clock, servers):
    made = known(forwarder(default=[ONE, TWO]), ONE, TWO)
    (reply,) = ask(clock, made, "www.example.com")
    assert (reply.answer, reply.seconds) == (None, pytest.approx(QUERY_TIMEOUT))
    assert reply.seconds < 5  # when clients ask again
    assert {each["result"] for each in reply.tried} == {"no answer"}
    assert [each["state"] for each in made.status([""])[0]["nameservers"]] == ["silent", "silent"]


def test_one_that_failed_is_asked_last_until_it_is_well_again(clock, servers):
    made = known(forwarder(default=[ONE, TWO]), ONE, TWO)
    servers.behaviour = {ONE: refusing, TWO: answering("203.0.113.2", after=0.01)}
    ask(clock, made, "a.example.com")
    servers.behaviour[ONE] = answering("203.0.113.1")
    (reply,) = ask(clock, made, "b.example.com")
    assert reply.server == TWO
    clock.now += REVIEW_INTERVAL + 1
    # Now it is asked along, to know how it does.
    ask(clock, made, "c.example.com")
    assert [each["state"] for each in made.status([""])[0]["nameservers"]] == ["ok", "ok"]


# --- queries that are one


def test_identical_queries_are_asked_once(clock, servers):
    made = known(forwarder(default=[ONE]), ONE)
    nameservers_at(made, ONE)[0].probed_at = clock.now
    servers.behaviour[ONE] = answering("203.0.113.1", after=0.05)
    replies = ask(clock, made, *["www.example.com"] * 50, *["WWW.example.COM"] * 50)
    assert {id(reply) for reply in replies} == {id(replies[0])}
    assert servers.whom() == [(0.0, ONE)]


def test_queries_that_differ_are_not_one(clock, servers):
    made = known(forwarder(default=[ONE]), ONE)
    servers.behaviour[ONE] = answering("203.0.113.1", after=0.05)
    different = [
        query("www.example.com"),
        query("www.example.com", "AAAA"),
        query("www.example.com", want_dnssec=True),
        query("mail.example.com"),
    ]

    async def work():
        return await asyncio.gather(*(made.answer(each) for each in different))

    clock.run(work)
    assert len(servers.asked) == 4


def test_who_gives_up_does_not_take_the_others_answer_away(clock, servers):
    made = known(forwarder(default=[ONE]), ONE)
    nameservers_at(made, ONE)[0].probed_at = clock.now
    servers.behaviour[ONE] = answering("203.0.113.1", after=0.05)

    async def work():
        first = asyncio.ensure_future(made.answer(query("www.example.com")))
        second = asyncio.ensure_future(made.answer(query("www.example.com")))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert clock.run(work).server == ONE


def test_queries_in_flight_are_bounded_for_each_rule(clock, servers):
    made = known(forwarder(rules={"company.test": [ONE]}, default=[TWO]), ONE, TWO)
    servers.behaviour[TWO] = answering("203.0.113.2")
    names = [f"n{number}.company.test" for number in range(MAX_IN_FLIGHT + 10)]
    *replies, other = ask(clock, made, *names, "www.example.com")
    assert [reply.problem for reply in replies].count("too many queries are in flight") == 10
    # A domain whose nameservers are gone takes nothing from the others.
    assert other.server == TWO
    (again,) = ask(clock, made, "www.company.test")
    assert again.problem == "no nameserver gave an answer"


# --- loops


def looping(made):
    """A nameserver that asks us what we ask it."""

    async def answer(asked):
        if made.is_probe(asked.name):
            return await refusing(asked)
        reply = await made.answer(query(asked.name))
        return reply.answer or await refusing(asked)

    return answer


def test_a_loop_is_noticed_by_the_first_query_and_cut(clock, servers):
    made = known(forwarder(default=[ONE, TWO]), ONE, TWO)
    servers.behaviour = {ONE: looping(made), TWO: answering("203.0.113.2", after=0.01)}
    (reply,) = ask(clock, made, "www.example.com")
    assert reply.server == TWO
    assert reply.tried[0]["result"].startswith("a loop")
    assert len([name for _when, address, name in servers.asked if address == ONE]) == 2  # the query, and the probe
    (loop,) = made.loops()
    assert f"nameserver {ONE} for names without a rule" in loop
    asked = len(servers.asked)
    (reply,) = ask(clock, made, "other.example.com")
    assert (reply.server, len(servers.asked)) == (TWO, asked + 1)


def test_a_loop_of_the_only_nameserver_is_servfail_at_once(clock, servers):
    made = known(forwarder(rules={"company.test": [ONE]}), ONE)
    servers.behaviour[ONE] = looping(made)
    (reply,) = ask(clock, made, "www.company.test")
    assert (reply.answer, reply.seconds) == (None, 0.0)
    (again,) = ask(clock, made, "www.company.test")
    assert again.problem == "no nameserver of the rule can be asked"
    assert "for company.test comes back" in made.loops()[0]


def test_a_nameserver_that_loops_is_asked_for_the_domain_that_it_knows(clock, servers):
    made = known(forwarder(rules={"company.test": [ONE]}, default=[ONE]), ONE)
    loop, answer = looping(made), answering("192.168.10.80")
    servers.behaviour[ONE] = lambda asked: (answer if asked.name.endswith("company.test") else loop)(asked)
    (reply,) = ask(clock, made, "www.example.com")
    assert reply.answer is None
    (reply,) = ask(clock, made, "www.company.test")
    assert reply.server == ONE
    assert len(made.loops()) == 1


def test_a_loop_in_which_somebody_holds_the_copy_back_is_noticed_too(clock, servers):
    """A resolver that waits for our answer does not ask us the same again; but it does ask for the probe."""
    made = known(forwarder(default=[ONE]), ONE)

    async def waits(asked):
        if made.is_probe(asked.name):
            return await refusing(asked)
        return await silent(asked)

    servers.behaviour[ONE] = waits
    (reply,) = ask(clock, made, "www.example.com")
    assert reply.answer is None
    assert reply.seconds < QUERY_TIMEOUT / 2
    assert made.loops()


def test_a_clients_second_try_is_no_loop(clock, servers):
    made = known(forwarder(default=[ONE]), ONE)
    servers.behaviour[ONE] = answering("203.0.113.1", after=0.05)
    ask(clock, made, "www.example.com", "www.example.com")
    assert sorted(name == "www.example.com" for _when, _address, name in servers.asked) == [False, True]
    assert made.loops() == []
    # The probe was answered, so there is none for a while, whatever comes twice.
    ask(clock, made, *["www.example.com"] * 2, *["mail.example.com"] * 2)
    assert len(servers.asked) == 4
    clock.now += PROBE_INTERVAL + 1
    ask(clock, made, "www.example.com", "www.example.com")
    assert len(servers.asked) == 6


def test_one_that_was_cut_off_is_tried_again_later(clock, servers):
    made = known(forwarder(default=[ONE]), ONE)
    servers.behaviour[ONE] = looping(made)
    ask(clock, made, "www.example.com")
    clock.now += 61
    ask(clock, made, "www.example.com")
    assert made.loops()  # still a loop: cut off by the first query, for longer
    clock.now += 61
    (reply,) = ask(clock, made, "www.example.com")
    assert reply.problem == "no nameserver of the rule can be asked"
    clock.now += 60
    servers.behaviour[ONE] = answering("203.0.113.1")
    (reply,) = ask(clock, made, "www.example.com")
    assert reply.server == ONE
    assert made.loops() == []


@pytest.mark.parametrize("name", [".", "a." * 126 + "a", "\\000\\255\\.x.example.com"])
def test_any_name_can_be_probed(clock, servers, name):
    made = known(forwarder(default=[ONE]), ONE)
    servers.behaviour[ONE] = answering("203.0.113.1", after=0.05)
    ask(clock, made, name, name)
    (probe,) = (asked for _when, _address, asked in servers.asked if made.is_probe(asked))
    assert dns.name.from_text(probe).is_subdomain(dns.name.root)


def test_others_names_are_no_probes(clock, servers):
    made, other = forwarder(default=[ONE]), forwarder(default=[ONE])
    servers.behaviour[ONE] = answering("203.0.113.1", after=0.05)
    ask(clock, made, "www.example.com", "www.example.com")
    assert sum(made.is_probe(asked) for _when, _address, asked in servers.asked) == 1
    assert not any(other.is_probe(asked) for _when, _address, asked in servers.asked)


# --- through the stub


def through(clock, stub, wire, tcp=False):
    asked = stub.answer_now(wire, tcp)
    assert isinstance(asked, Query)

    async def work():
        return await stub.answer(asked, tcp)

    return dns.message.from_wire(wire[:2] + clock.run(work))


def test_who_gets_no_answer_gets_servfail(clock, servers):
    stub = Stub()
    stub.configure(settings(default=[ONE]))
    servers.behaviour[ONE] = refusing
    for wire in (question("www.example.com"), question("www.example.com", edns=1232)):
        answer = through(clock, stub, wire)
        assert answer.rcode() == dns.rcode.SERVFAIL
        assert len(answer.question) == 1


def test_an_alias_of_the_map_leads_out_of_it(clock, servers):
    stub = Stub()
    stub.configure(settings(rules={"example.com": [ONE]}))
    servers.behaviour[ONE] = answering("203.0.113.1")
    answer = through(clock, stub, question("Web.demo.internal", edns=1232))
    assert lines(answer) == [
        "Web.demo.internal. 0 IN CNAME www.example.com.",
        "www.example.com. 60 IN A 203.0.113.1",
    ]
    # No nameserver hears of the alias.
    assert servers.asked == [(0.0, ONE, "www.example.com")]


def test_what_is_told_of_a_query(clock, servers):
    stub = Stub()
    stub.configure(settings(rules={"company.test": [ONE, TWO]}, default=[THREE]))
    known(stub.forwarder, ONE, TWO, THREE)
    servers.behaviour = {ONE: refusing, TWO: answering("192.168.10.80", after=0.02)}

    def explain(name, rdtype="A"):
        async def work():
            return await stub.explain(name, rdtype)

        return clock.run(work)

    told = explain("www.company.test")
    assert told == {
        "name": "www.company.test",
        "type": "A",
        "rule": "company.test",
        "server": TWO,
        "seconds": pytest.approx(0.02),
        "tcp": False,
        "rcode": "NOERROR",
        "answers": ["www.company.test. 60 IN A 192.168.10.80"],
        "tried": [
            {"server": ONE, "result": "REFUSED", "seconds": 0.0},
            {"server": TWO, "result": "NOERROR", "seconds": pytest.approx(0.02)},
        ],
        "problem": None,
    }
    servers.behaviour[THREE] = refusing
    told = explain("www.example.com")
    assert (told["rule"], told["rcode"], told["problem"]) == ("default", "SERVFAIL", "no nameserver gave an answer")
    told = explain("nobody.demo.internal")
    assert (told["rule"], told["rcode"], told["tried"]) == ("mesh", "NXDOMAIN", [])
    servers.behaviour[THREE] = answering("203.0.113.1")
    assert explain("web.demo.internal")["answers"][0] == "web.demo.internal. 0 IN CNAME www.example.com."
    for name, rdtype in (("a" * 64, "A"), ("www.example.com", "NOTYPE"), ("a..b", "A"), ("x", "AXFR")):
        with pytest.raises(ValueError, match=rdtype):
            explain(name, rdtype)

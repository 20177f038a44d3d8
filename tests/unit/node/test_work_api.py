"""The work API's handlers, without sockets: what they offer, what they refuse by name, and that no bytes break them."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.hashing import H
from hyperdust.node import work_api
from hyperdust.node.jobs import JobIndex
from hyperdust.proto import work_pb2 as messages
from tests.small_chain import MINER, OTHER_MINER, K, find_ticket, graph_id
from tests.unit.miner_harness import ASKER, Aborted, Context, WorkChain, small_miner, turn
from tests.unit.node.test_mempool import raw

COINBASE = bytes.fromhex(MINER.address[2:])
INPUT = bytes(K * 2)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[WorkChain]:
    chain = WorkChain(tmp_path / "chain")
    yield chain
    chain.close()


def ticket_of(chain: WorkChain, offered: messages.Template) -> messages.Ticket:
    certificate, nonce = find_ticket(chain.server._templates[offered.id], MINER)
    return messages.Ticket(template_id=offered.id, nonce=nonce, certificate=certificate.encode())


def submit(chain: WorkChain, ticket: messages.Ticket, peer: str = "ipv4:test") -> messages.Verdict:
    return chain.server.submit_ticket(ticket.SerializeToString(), Context(peer))


def test_a_good_ticket_is_imported_before_the_answer(chain: WorkChain) -> None:
    offered = chain.offer()
    assert (offered.open, offered.number, offered.chain_id) == (True, 1, chain.params.chain_id)
    verdict = submit(chain, ticket_of(chain, offered))
    assert verdict.accepted
    assert chain.store.latest.head.hash == verdict.block_hash


def test_a_late_ticket_is_stale(chain: WorkChain) -> None:
    offered = chain.offer()
    ticket = ticket_of(chain, offered)
    chain.extend(1)
    verdict = submit(chain, ticket)
    assert (verdict.accepted, verdict.rule, verdict.text) == (False, "Stale", "stale: head moved")


def test_garbage_tickets_are_refused_by_name_and_change_nothing(chain: WorkChain) -> None:
    offered = chain.offer()
    good = ticket_of(chain, offered)
    head = chain.store.latest.head.hash
    flipped = bytearray(good.certificate)
    flipped[300] ^= 1
    foreign, nonce = find_ticket(chain.server._templates[offered.id], OTHER_MINER)
    cases = [
        (messages.Ticket(template_id=99, nonce=bytes(8), certificate=good.certificate), "UnknownTemplate"),
        (messages.Ticket(template_id=offered.id, nonce=bytes(7), certificate=good.certificate), "Malformed"),
        (messages.Ticket(template_id=offered.id, nonce=good.nonce, certificate=b""), "Malformed"),
        (
            messages.Ticket(template_id=offered.id, nonce=good.nonce, certificate=good.certificate[:-1]),
            "TruncatedProof",
        ),
        (
            messages.Ticket(template_id=offered.id, nonce=good.nonce, certificate=good.certificate + b"\0"),
            "TrailingBytes",
        ),
        (messages.Ticket(template_id=offered.id, nonce=good.nonce, certificate=bytes(flipped)), None),
        (messages.Ticket(template_id=offered.id, nonce=nonce, certificate=foreign.encode()), "WrongSigner"),
    ]
    for ticket, rule in cases:
        verdict = submit(chain, ticket)
        assert not verdict.accepted
        assert verdict.text
        assert rule is None or verdict.rule == rule
    assert chain.store.latest.head.hash == head
    assert submit(chain, good).accepted


def test_a_connection_that_sends_only_garbage_is_slowed_and_others_are_not(chain: WorkChain) -> None:
    offered = chain.offer()
    bad = messages.Ticket(template_id=offered.id, nonce=bytes(8), certificate=b"x")
    for _ in range(work_api._REFUSALS):
        submit(chain, bad, "ipv4:bad")
    with pytest.raises(Aborted) as caught:
        submit(chain, bad, "ipv4:bad")
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert submit(chain, ticket_of(chain, offered), "ipv4:good").accepted


def test_requests_out_of_bounds_are_invalid_arguments(chain: WorkChain) -> None:
    for request in (
        messages.TemplateRequest(coinbase=bytes(19)),
        messages.TemplateRequest(coinbase=COINBASE, graphs=[bytes(31)]),
        messages.TemplateRequest(coinbase=COINBASE, graphs=[bytes(32)] * 65),
    ):
        with pytest.raises(Aborted) as caught:
            next(chain.server.get_template(request.SerializeToString(), Context()))
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(Aborted) as caught:
        chain.server.get_job(messages.JobRequest(id=7).SerializeToString(), Context())
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


HANDLERS = ("get_template", "get_job", "submit_ticket", "submit_result", "get_manifest")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400), handler=st.sampled_from(HANDLERS))
def test_random_bytes_get_an_answer_or_a_status(chain: WorkChain, data: bytes, handler: str) -> None:
    answer_or_status(chain, handler, data)


def test_mutated_messages_get_an_answer_or_a_status(chain: WorkChain) -> None:
    offered = chain.offer()
    good = {
        "submit_ticket": ticket_of(chain, offered).SerializeToString(),
        "get_template": messages.TemplateRequest(coinbase=COINBASE, graphs=[graph_id()]).SerializeToString(),
        "submit_result": messages.Result(
            job=1, output=bytes(40), trace_root=bytes(32), subgraph_roots=[bytes(32)], transactions=[raw()]
        ).SerializeToString(),
    }
    drawn = random.Random(5)
    for handler, data in good.items():
        for _ in range(60):
            mutated = bytearray(data)
            for _ in range(drawn.randrange(1, 6)):
                mutated[drawn.randrange(len(mutated))] = drawn.randrange(256)
            answer_or_status(chain, handler, bytes(mutated[: drawn.randrange(1, len(mutated) + 1)]))
    assert chain.store.latest.head.number <= 1


def answer_or_status(chain: WorkChain, handler: str, data: bytes) -> Any:
    try:
        answer = getattr(chain.server, handler)(data, Context(f"ipv4:{data[:4].hex()}"))
        if handler == "get_template":
            first = next(answer)
            answer.close()
            return first
    except Aborted as aborted:
        answer = aborted.text
    assert answer is not None
    assert answer != ""
    return answer


def test_a_result_must_fit_its_job_and_its_roots(chain: WorkChain) -> None:
    chain.bond(MINER)
    chain.extend(1)
    chain.ask(INPUT, 2, MINER)
    chain.extend(1)
    roots = [b"\1" * 32, b"\2" * 32]
    for result, rule in (
        (messages.Result(job=9, trace_root=bytes(32)), "UnknownJob"),
        (messages.Result(job=1, trace_root=bytes(31)), "Malformed"),
        (messages.Result(job=1, output=bytes(8_193), trace_root=bytes(32)), "Malformed"),
        (messages.Result(job=1, trace_root=bytes(32), subgraph_roots=[bytes(5)]), "Malformed"),
        (messages.Result(job=1, trace_root=bytes(32), subgraph_roots=roots), "WrongTraceRoot"),
        (messages.Result(job=1, trace_root=bytes(32), transactions=[b"junk"]), "MalformedTransaction"),
        (messages.Result(job=1, trace_root=bytes(32), transactions=[raw()] * 9), "Malformed"),
    ):
        verdict = chain.server.submit_result(result.SerializeToString(), Context())
        assert (verdict.accepted, verdict.rule) == (False, rule), verdict
    again = messages.Result(
        job=1, trace_root=H("trace", *roots), subgraph_roots=roots, transactions=[raw(ASKER, 1)]
    ).SerializeToString()
    assert chain.server.submit_result(again, Context()).accepted
    assert chain.server.submit_result(again, Context()).accepted


def test_a_manifest_is_shown_after_the_reveal_alone(chain: WorkChain, tmp_path: Path) -> None:
    miner = small_miner(chain, tmp_path / "miner")
    chain.bond(MINER)
    turn(chain, miner)
    chain.ask(INPUT, 2, MINER)
    request = messages.ManifestRequest(job=1).SerializeToString()
    while True:
        job = chain.server._jobs.get(1)
        if job is not None and job.last("Revealed"):
            break
        with pytest.raises(Aborted):
            chain.server.get_manifest(request, Context())
        turn(chain, miner)
    manifest = chain.server.get_manifest(request, Context())
    assert H("trace", *manifest.subgraph_roots) == manifest.trace_root


def test_jobs_are_offered_to_their_provider_with_input_and_best_fee_first(chain: WorkChain) -> None:
    chain.bond(MINER)
    chain.bond(OTHER_MINER)
    chain.extend(1)
    for _ in range(6):
        chain.ask(INPUT, 2)
    chain.ask(INPUT, 2, OTHER_MINER)
    chain.extend(1)
    # Named: at once. The others are not drawn yet; to take them over is for later.
    assert [offer.id for offer in chain.offer(OTHER_MINER).jobs if offer.ready_at <= 3] == [7]
    chain.extend(1)
    ours = {offer.id for offer in chain.offer(MINER).jobs if offer.ready_at <= 4}
    theirs = {offer.id for offer in chain.offer(OTHER_MINER).jobs if offer.ready_at <= 4}
    assert ours | theirs == set(range(1, 8))
    assert not ours & theirs
    job = chain.server.get_job(messages.JobRequest(id=1).SerializeToString(), Context())
    assert (job.input, list(job.symbols), job.graph) == (INPUT, [2], graph_id())
    assert bytes(job.provider) == bytes.fromhex((MINER if 1 in ours else OTHER_MINER).address[2:])


def test_the_index_follows_a_reorganisation_and_a_restart(chain: WorkChain, tmp_path: Path) -> None:
    other = WorkChain(tmp_path / "other")
    for one in (chain, other):
        one.bond(MINER)
    first = chain.extend(1)
    other.importer.import_block(first)
    chain.ask(INPUT, 2)
    chain.extend(1)
    assert chain.server._jobs.get(1) is not None
    for _ in range(2):
        chain.importer.import_block(other.extend(1, OTHER_MINER))
    assert chain.server._jobs.get(1) is None
    chain.extend(1)  # the request came back to the pool
    job = chain.server._jobs.get(1)
    assert job is not None
    again = JobIndex(chain.params, chain.store)
    assert again.get(1) == job
    assert again.head == chain.store.latest.head.hash
    other.close()


def test_between_blocks_a_paced_node_says_when_it_opens(chain: WorkChain) -> None:
    chain.extend(1)
    chain.builder._block_time_s = 5
    chain.clock.now = chain.store.latest.head.header.timestamp + 1.0
    request = messages.TemplateRequest(coinbase=COINBASE).SerializeToString()
    stream = chain.server.get_template(request, Context())
    message = next(stream)
    assert (message.open, message.id, message.parent_hash) == (False, 0, chain.store.latest.head.hash)
    assert 3_900 < message.opens_in_ms <= 4_001
    chain.clock.now += 4.0
    message = next(stream)
    assert (message.open, message.timestamp) == (True, chain.store.latest.head.header.timestamp + 5)
    chain.mempool.add(raw())
    chain.clock.now += 1.5
    renewed = next(stream)
    assert renewed.seal_hash != message.seal_hash
    chain.clock.now += 60
    later = next(stream)
    assert (later.number, later.timestamp) == (renewed.number, int(chain.clock.now))
    chain.extend(1)
    assert next(stream).number == 3
    stream.close()
    assert not chain.server._streams


def test_streams_are_bounded(chain: WorkChain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_api, "MAX_STREAMS", 1)
    request = messages.TemplateRequest(coinbase=COINBASE).SerializeToString()
    first = chain.server.get_template(request, Context())
    next(first)
    with pytest.raises(Aborted) as caught:
        next(chain.server.get_template(request, Context()))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    first.close()
    next(chain.server.get_template(request, Context()))


def test_a_consumer_that_does_not_read_is_cut(chain: WorkChain, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Context()
    chain.server._streams[slow] = 0.0
    monkeypatch.setattr("hyperdust.node.work_api.time.monotonic", lambda: work_api._STALLED_S + 1)
    chain.server._cut_stalled()
    assert not slow.active


def test_generated_files_are_those_of_the_proto() -> None:
    script = Path(__file__).parents[3] / "scripts" / "proto.py"
    checked = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr

"""The work API's door on a running node: strangers' bytes get a status, the node lives, templates still come."""

import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from hyperdust.proto import work_pb2 as messages
from hyperdust.proto.work_pb2_grpc import WorkStub

pytestmark = pytest.mark.functional

UNARY = ("GetJob", "SubmitTicket", "SubmitResult", "GetManifest")
SERVICE = "/hyperdust.work.v1.Work/"


@pytest.fixture
def channel(devnet) -> Iterator[Any]:
    with grpc.insecure_channel(devnet.ready["work_grpc"], options=(("grpc.enable_http_proxy", 0),)) as channel:
        yield channel


def status_of(channel: Any, method: str, data: bytes) -> grpc.StatusCode:
    """OK, or what the call failed with; bytes go out as they are."""
    try:
        channel.unary_unary(SERVICE + method)(data, timeout=10)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_bytes_that_are_no_message_are_invalid_arguments(channel) -> None:
    for method in UNARY:
        assert status_of(channel, method, b"\xff" * 40) is grpc.StatusCode.INVALID_ARGUMENT
    assert status_of(channel, "NoSuchMethod", b"") is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_beyond_the_limit_is_refused(channel) -> None:
    large = messages.Ticket(template_id=1, nonce=bytes(8), certificate=bytes(2 * 1024 * 1024)).SerializeToString()
    assert status_of(channel, "SubmitTicket", large) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_random_bytes_never_break_it(devnet, channel) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    drawn = random.Random(seed)
    expected = {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    for _ in range(200):
        assert status_of(channel, drawn.choice(UNARY), drawn.randbytes(drawn.randrange(300))) in expected
    host, port = devnet.ready["work_grpc"].rsplit(":", 1)
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=5) as raw, suppress(OSError):
            raw.sendall(drawn.randbytes(drawn.randrange(1, 2_000)))
    next(WorkStub(channel).GetTemplate(messages.TemplateRequest(coinbase=bytes(20)), timeout=30))


def test_templates_stop_with_the_head_and_open_again_in_time(channel) -> None:
    stream = WorkStub(channel).GetTemplate(messages.TemplateRequest(coinbase=b"\1" * 20), timeout=60)
    opened = []
    for message in stream:
        if message.open:
            opened.append(message)
            if len({template.number for template in opened}) == 4:
                break
        else:
            assert message.id == 0
            assert message.opens_in_ms <= 1_100  # --block-time 1
    stream.cancel()
    heights = sorted({template.number for template in opened})
    assert heights == list(range(heights[0], heights[0] + 4))
    assert all(template.parent_hash and len(template.seal_hash) == 32 for template in opened)


def test_a_ticket_for_no_template_is_refused_by_name(channel) -> None:
    verdict = WorkStub(channel).SubmitTicket(messages.Ticket(template_id=2**40, nonce=bytes(8)), timeout=10)
    assert (verdict.accepted, verdict.rule) == (False, "UnknownTemplate")

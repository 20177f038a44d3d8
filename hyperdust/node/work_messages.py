"""Messages of the work API: bytes in and out, and what is refused by its size before anything looks at it."""

from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import DecodeError

from hyperdust.node.jobs import Offer
from hyperdust.proto import work_pb2 as messages

MAX_OUTPUT_BYTES: Final = 8_192  # JobMarket.submit's bound
MAX_SUBGRAPHS: Final = 256  # pouw.hypergraph.SUBGRAPHS_MAX
MAX_RESULT_TRANSACTIONS: Final = 8


def offer_message(offer: Offer) -> messages.JobOffer:
    """A job that waits for an answer, as miners see it."""
    request = offer.job.request
    return messages.JobOffer(
        id=offer.job.id,
        graph=request["graph"],
        status=messages.JobStatus.Name(offer.status),
        fee=encode_number(int(request["fee"])),
        deadline=request["deadline"],
        ready_at=offer.ready_at,
        assigned=offer.assigned,
    )


def why_malformed(result: messages.Result) -> str | None:
    """What is wrong with the sizes of a result; None: nothing."""
    if len(result.output) > MAX_OUTPUT_BYTES:
        return f"output of {len(result.output)} bytes, at most {MAX_OUTPUT_BYTES}"
    if len(result.trace_root) not in {0, 32}:
        return f"trace_root has {len(result.trace_root)} bytes, not 32"
    if len(result.subgraph_roots) > MAX_SUBGRAPHS or any(len(root) != 32 for root in result.subgraph_roots):
        return f"subgraph_roots: at most {MAX_SUBGRAPHS} of 32 bytes"
    if len(result.transactions) > MAX_RESULT_TRANSACTIONS:
        return f"{len(result.transactions)} transactions, at most {MAX_RESULT_TRANSACTIONS}"
    return None


def parse_message(kind: Any, data: bytes, context: Any) -> Any:
    """A request from its bytes; others end the call."""
    try:
        return kind.FromString(data)
    except DecodeError:
        refuse(context, f"the bytes are no {kind.DESCRIPTOR.name}")


def refuse(context: Any, reason: str) -> NoReturn:
    """End the call with INVALID_ARGUMENT and the reason."""
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
    raise AssertionError(reason)  # abort raises


def encode_message(message: Any) -> bytes:
    """Bytes of an answer."""
    return bytes(message.SerializeToString())


def encode_number(value: int) -> bytes:
    """Big-endian, without leading zeros."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def encode_address(value: object) -> bytes:
    """20 bytes of 0x-text."""
    return bytes.fromhex(str(value)[2:])

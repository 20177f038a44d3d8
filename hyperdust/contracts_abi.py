"""How to call the predeployed contracts: their ABI from genesis/artifacts, calls and events encoded and decoded."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError

from chain.errors import Malformed, NodeFault
from chain.params import AGENT_FACTORY, BONDS, BRIDGE, COURT, DUST, GRAPH_REGISTRY, JOB_MARKET, SCHEDULER

ADDRESSES: Final[Mapping[str, bytes]] = {
    "GraphRegistry": GRAPH_REGISTRY,
    "Bonds": BONDS,
    "JobMarket": JOB_MARKET,
    "Dust": DUST,
    "Court": COURT,
    "Bridge": BRIDGE,
    "AgentFactory": AGENT_FACTORY,
    "Scheduler": SCHEDULER,
}
"""Where the predeploys of every network stand."""

ARTIFACTS: Final = Path(__file__).resolve().parents[1] / "genesis" / "artifacts"


class ArtifactMissing(NodeFault):
    """A contract's artifact cannot be read, or does not hold what is asked for."""


@cache
def load_artifact(name: str) -> Mapping[str, Any]:
    """The compiled contract: `abi` and bytecode.

    Raises:
        ArtifactMissing: no such file, or not an artifact.
    """
    path = ARTIFACTS / f"{name}.json"
    try:
        artifact = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactMissing(f"contract {name}: {error}; `make genesis` writes the artifacts") from error
    if not isinstance(artifact, dict) or not isinstance(artifact.get("abi"), list):
        raise ArtifactMissing(f"contract {name}: {path.name} holds no abi")
    return artifact


@cache
def load_abi(name: str) -> Sequence[Mapping[str, Any]]:
    """The ABI of a predeploy, as JSON.

    Raises:
        ArtifactMissing: no such artifact.
    """
    return tuple(load_artifact(name)["abi"])


def encode_call(contract: str, function: str, *args: object) -> bytes:
    """Input of a call: selector and arguments.

    Raises:
        ArtifactMissing: no such contract, or it has no such function of that many arguments.
        Malformed: an argument does not fit its type.
    """
    types, selector = _inputs(contract, function, len(args))
    try:
        return selector + encode(types, args)
    except EncodingError as error:
        raise Malformed(f"{contract}.{function}", str(error)) from error


def decode_output(contract: str, function: str, output: bytes) -> tuple[Any, ...]:
    """Values that a function returned; a struct is a tuple.

    Raises:
        ArtifactMissing: no such contract or function.
        Malformed: the bytes are not the function's outputs.
    """
    types = _outputs(contract, function)
    try:
        return decode(types, output)
    except DecodingError as error:
        raise Malformed(f"{contract}.{function}", str(error)) from error


def decode_struct(contract: str, function: str, output: bytes) -> dict[str, Any]:
    """The struct that a function returned, by field name.

    Raises:
        ArtifactMissing: no such contract or function.
        Malformed: the bytes are not the function's outputs, or those are not one struct.
    """
    (value,) = decode_output(contract, function, output)
    components = _function(contract, function, None)["outputs"][0].get("components")
    if not components:
        raise Malformed(f"{contract}.{function}", "returns no struct")
    return dict(zip((field["name"] for field in components), value, strict=True))


def event_topic(contract: str, event: str) -> bytes:
    """First topic of an event's logs.

    Raises:
        ArtifactMissing: no such contract or event.
    """
    return _keccak(_signature(_event(contract, event)))


def decode_event(contract: str, event: str, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
    """Fields of a log by name; an indexed field of dynamic type is its hash.

    Raises:
        ArtifactMissing: no such contract or event.
        Malformed: the log is not this event's.
    """
    abi = _event(contract, event)
    indexed = [field for field in abi["inputs"] if field["indexed"]]
    plain = [field for field in abi["inputs"] if not field["indexed"]]
    if not topics or topics[0] != _keccak(_signature(abi)) or len(topics) != len(indexed) + 1:
        raise Malformed(f"{contract}.{event}", "topics of another event")
    values: dict[str, Any] = {}
    try:
        for field, topic in zip(indexed, topics[1:], strict=True):
            kind = _type(field)
            dynamic = kind in {"bytes", "string"} or kind.endswith("]") or kind.startswith("(")
            values[field["name"]] = topic if dynamic else decode([kind], topic)[0]
        decoded = decode([_type(field) for field in plain], data)
    except DecodingError as error:
        raise Malformed(f"{contract}.{event}", str(error)) from error
    return values | dict(zip((field["name"] for field in plain), decoded, strict=True))


def _function(contract: str, name: str, arguments: int | None) -> Mapping[str, Any]:
    # A Vyper default argument makes one entry for each number of arguments.
    for entry in load_abi(contract):
        if entry["type"] == "function" and entry["name"] == name and arguments in {None, len(entry["inputs"])}:
            return entry
    raise ArtifactMissing(f"contract {contract} has no function {name} of {arguments} arguments")


def _event(contract: str, name: str) -> Mapping[str, Any]:
    for entry in load_abi(contract):
        if entry["type"] == "event" and entry["name"] == name:
            return entry
    raise ArtifactMissing(f"contract {contract} has no event {name}")


@cache
def _inputs(contract: str, name: str, arguments: int) -> tuple[tuple[str, ...], bytes]:
    entry = _function(contract, name, arguments)
    return tuple(_type(field) for field in entry["inputs"]), _keccak(_signature(entry))[:4]


@cache
def _outputs(contract: str, name: str) -> tuple[str, ...]:
    return tuple(_type(field) for field in _function(contract, name, None)["outputs"])


def _signature(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']}({','.join(_type(field) for field in entry['inputs'])})"


def _type(field: Mapping[str, Any]) -> str:
    kind = str(field["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in field['components'])}){kind.removeprefix('tuple')}"


def _keccak(text: str) -> bytes:
    from Crypto.Hash import keccak  # noqa: PLC0415  # slow to import, and --help needs none of it

    return keccak.new(digest_bits=256, data=text.encode()).digest()

"""The OpenRPC document of rpc.discover, from the method table."""

from collections.abc import Iterable
from typing import Final, TypeAlias

from hyperdust.node.rpc import parameters
from hyperdust.node.rpc.shapes import Json
from hyperdust.node.rpc.table import Method, Parameter

_Schema: TypeAlias = dict[str, object]
_QUANTITY: Final[_Schema] = {"type": "string", "pattern": "^0x(0|[1-9a-f][0-9a-f]*)$"}
_BYTES: Final[_Schema] = {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}
_OBJECT: Final[_Schema] = {"type": "object"}
_SCHEMAS: Final[dict[object, _Schema]] = {
    parameters.Address: {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"},
    parameters.Hash: {"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$"},
    parameters.Data: _BYTES,
    parameters.Quantity: _QUANTITY,
    parameters.Slot: {"type": "string"},
    parameters.Count: {"oneOf": [_QUANTITY, {"type": "integer", "minimum": 0}]},
    parameters.Percentiles: {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 100}},
    parameters.BlockReference: {
        "oneOf": [
            {"type": "string", "enum": list(parameters.TAGS)},
            _QUANTITY,
            {"type": "object", "properties": {"blockHash": _BYTES, "requireCanonical": {"type": "boolean"}}},
        ]
    },
    bool: {"type": "boolean"},
    str: {"type": "string"},
    int: {"oneOf": [{"type": "integer"}, _QUANTITY]},
    tuple[parameters.ProofKey, ...]: {"type": "array", "items": {"type": "string"}},
    object: {},
}


def build_document(methods: Iterable[Method], version: str) -> Json:
    """Names, parameters and summaries of all methods."""
    return {
        "openrpc": "1.2.6",
        "info": {"title": "Hyperdust JSON-RPC", "version": version},
        "methods": [_method(method) for method in sorted(methods, key=lambda method: method.name)],
    }


def _method(method: Method) -> Json:
    summary = (method.handler.__doc__ or "").strip().splitlines()
    return {
        "name": method.name,
        "summary": summary[0] if summary else "",
        "paramStructure": "by-position",
        "params": [_parameter(parameter) for parameter in method.parameters],
        "result": {"name": "result", "schema": {}},
    }


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name.lstrip("_"),
        "required": parameter.required,
        "schema": _SCHEMAS.get(parameter.type, _OBJECT),
    }

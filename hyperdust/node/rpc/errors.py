"""What a JSON-RPC call answers instead of a result. Codes and words are geth's, since tools match on them.

RpcError
├── ParseError        -32700
├── InvalidRequest    -32600
├── MethodNotFound    -32601
├── InvalidParams     -32602
├── InternalError     -32603
├── ServerError       -32000   transactions refused, missing state, failed calls
├── TimedOut          -32002
├── ResponseTooLarge  -32003
├── LimitExceeded     -32005
└── Reverted          3        with the revert data
"""

from typing import ClassVar

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from chain.errors import HyperdustError

_ERROR_SELECTOR = bytes.fromhex("08c379a0")  # Error(string)
_PANIC_SELECTOR = bytes.fromhex("4e487b71")  # Panic(uint256)

# Source: Solidity documentation, "Panic via assert and Error via require"; geth accounts/abi.
_PANICS = {
    0x00: "generic panic",
    0x01: "assert(false)",
    0x11: "arithmetic underflow or overflow",
    0x12: "division or modulo by zero",
    0x21: "enum overflow",
    0x22: "invalid encoded storage byte array accessed",
    0x31: "out-of-bounds array access; popping on an empty array",
    0x32: "out-of-bounds access of an array or bytesN",
    0x41: "out of memory",
    0x51: "uninitialized function",
}


class RpcError(HyperdustError):
    """An error object of the answer."""

    code: ClassVar[int] = -32000

    def __init__(self, message: str, data: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    def as_json(self) -> dict[str, object]:
        """The `error` member."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


class ParseError(RpcError):
    """Not JSON."""

    code = -32700


class InvalidRequest(RpcError):
    """JSON, but no request."""

    code = -32600


class MethodNotFound(RpcError):
    """No such method, or one of a namespace that is off."""

    code = -32601

    def __init__(self, method: str) -> None:
        super().__init__(f"the method {method} does not exist/is not available")


class InvalidParams(RpcError):
    """Parameters that do not parse or contradict each other."""

    code = -32602


class InternalError(RpcError):
    """Our own trouble."""

    code = -32603


class ServerError(RpcError):
    """The request is well-formed and cannot be done."""

    code = -32000


class TimedOut(RpcError):
    """The call took longer than the server allows."""

    code = -32002

    def __init__(self) -> None:
        super().__init__("request timed out")


class ResponseTooLarge(RpcError):
    """The answer has more bytes than the server sends."""

    code = -32003

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"response too large: more than {limit_bytes} bytes")


class LimitExceeded(RpcError):
    """A bound on ranges, results, filters or waiting requests."""

    code = -32005


class Reverted(RpcError):
    """Execution reverted; `data` is what the contract returned."""

    code = 3

    def __init__(self, output: bytes) -> None:
        reason = decode_revert_reason(output)
        super().__init__(f"execution reverted: {reason}" if reason else "execution reverted", "0x" + output.hex())


def decode_revert_reason(output: bytes) -> str | None:
    """The text of Error(string) or Panic(uint256); None for anything else."""
    try:
        if output[:4] == _ERROR_SELECTOR:
            return str(decode(["string"], output[4:])[0])
        if output[:4] == _PANIC_SELECTOR:
            code = decode(["uint256"], output[4:])[0]
            return _PANICS.get(code, f"unknown panic code: {code:#x}")
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return None
    return None

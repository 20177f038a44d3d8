"""`hyperdust statetest`: runs Ethereum's own state tests (format `state_test` of execution-spec-tests)."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import rlp

from chain.blocks import EMPTY_TRIE_ROOT
from chain.engine import (
    AccountOverride,
    BlobSchedule,
    BlockEnvironment,
    Executed,
    decode_transactions,
    execute,
    genesis_state,
)
from chain.hashing import keccak256
from chain.transactions import TransactionInvalid


def _number(text: str | None, default: int = 0) -> int:
    return default if text is None else int(text, 16)


def _data(text: str, width: int = 0) -> bytes:
    digits = text.removeprefix("0x")
    return bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2)).rjust(width, b"\0")


def _accounts(alloc: dict[str, Any]) -> dict[bytes, AccountOverride]:
    return {
        _data(address, 20): AccountOverride(
            balance=_number(account["balance"]),
            nonce=_number(account["nonce"]),
            code=_data(account["code"]),
            state_diff={_number(slot): _number(value) for slot, value in account["storage"].items()},
        )
        for address, account in alloc.items()
    }


def _environment(env: dict[str, str], fork: str, config: dict[str, Any]) -> BlockEnvironment:
    blobs = config.get("blobSchedule", {}).get(fork)
    return BlockEnvironment(
        chain_id=_number(config.get("chainid"), 1),
        fork=fork,
        number=_number(env["currentNumber"]),
        timestamp=_number(env["currentTimestamp"]),
        coinbase=_data(env["currentCoinbase"], 20),
        gas_limit=_number(env["currentGasLimit"]),
        base_fee=_number(env.get("currentBaseFee")),
        prev_randao=_data(env.get("currentRandom", "0x00"), 32),
        parent_hash=None,
        parent_beacon_root=None,
        difficulty=_number(env.get("currentDifficulty")),
        excess_blob_gas=_number(env.get("currentExcessBlobGas")),
        allow_blobs=True,
        blob_schedule=blobs
        and BlobSchedule(_number(blobs["target"]), _number(blobs["max"]), _number(blobs["baseFeeUpdateFraction"])),
    )


def _logs_hash(executed: Executed | None) -> bytes:
    logs = [log for receipt in executed.receipts for log in receipt.logs] if executed else []
    return keccak256(bytes(rlp.encode([[log.address, list(log.topics), log.data] for log in logs])))


def _run_case(test: dict[str, Any], fork: str, post: dict[str, Any]) -> str | None:
    """What is wrong, or None."""
    writes, pre_root = genesis_state(_accounts(test["pre"]), fork)
    state = {key: value for key, value in writes if value is not None}

    def read_many(keys: list[bytes]) -> list[bytes | None]:
        # BLOCKHASH of the tests' invented ancestors.
        return [keccak256(str(int.from_bytes(k[1:], "big")).encode()) if k[:1] == b"h" else state.get(k) for k in keys]

    executed = None
    reason = None
    try:
        transactions = decode_transactions([_data(post["txbytes"])])
        environment = _environment(test["env"], fork, test.get("config", {}))
        executed = execute(environment, transactions, read_many, system_contracts=False)
    except TransactionInvalid as error:
        reason = str(error)
    expected = post.get("expectException")
    if expected and executed:
        return f"accepted, expected {expected}"
    if reason and not expected:
        return f"refused: {reason}"
    root = executed.state_root if executed else pre_root
    if root != _data(post["hash"], 32):
        return f"state root {root.hex()}, expected {post['hash']}"
    if _logs_hash(executed) != _data(post["logs"], 32):
        return f"logs hash {_logs_hash(executed).hex()}, expected {post['logs']}"
    for key, value in executed.writes if executed else ():
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value
    if root != EMPTY_TRIE_ROOT and keccak256(state[b"n"]) != root:
        return "the stored root node is not the state root's"
    return None


def run_files(paths: Iterable[str | Path]) -> Iterator[dict[str, Any]]:
    """Runs every case of every file: {"name", "fork", "index", "pass", "error"}, one by one."""
    for path in paths:
        for name, test in json.loads(Path(path).read_bytes()).items():
            for fork, posts in test["post"].items():
                for index, post in enumerate(posts):
                    error = _run_case(test, fork, post)
                    yield {"name": name, "fork": fork, "index": index, "pass": error is None, "error": error}


def main(paths: Iterable[str | Path]) -> int:
    """Prints the failures and a summary as JSON lines; 1 if any case failed."""
    passed = failed = 0
    for result in run_files(paths):
        if result["pass"]:
            passed += 1
        else:
            failed += 1
            print(json.dumps(result))
    print(json.dumps({"passed": passed, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""`hyperdust status`: what a node says about the chain, gathered into one answer."""

import time
from typing import Any, Final

from chain.errors import HyperdustError
from hyperdust.contracts_abi import ADDRESSES, decode_output, encode_call
from hyperdust.rpc_client import RpcClient, RpcError

_RECENT_BLOCKS: Final = 32
_RECENT_JOBS: Final = 20
_LATE_SPACINGS: Final = 10
"""A head older than this many block times is worth a warning."""


def read_status(client: RpcClient) -> dict[str, Any]:
    """Head, finality, pool, miners, jobs; a part that the node does not serve is null.

    Raises:
        Unreachable: no node answers.
        RpcError: it does not serve Ethereum's methods.
    """
    head = client.call("eth_getBlockByNumber", "latest", False)
    number, timestamp = int(head["number"], 16), int(head["timestamp"], 16)
    recent = [
        client.call("eth_getBlockByNumber", hex(n), False)
        for n in range(max(1, number - _RECENT_BLOCKS + 1), number + 1)
    ]
    miners: dict[str, int] = {}
    for block in recent:
        miners[block["miner"]] = miners.get(block["miner"], 0) + 1
    spacing = None
    if len(recent) > 1:
        spacing = (int(recent[-1]["timestamp"], 16) - int(recent[0]["timestamp"], 16)) / (len(recent) - 1)
    return {
        "rpc": client.url,
        "client": client.call("web3_clientVersion"),
        "chain_id": client.quantity("eth_chainId"),
        "head": {"number": number, "hash": head["hash"], "age_s": max(0, int(time.time()) - timestamp)},
        "block_time_s": spacing,
        "difficulty_macs": int(head["difficulty"], 16),
        "base_fee_wei": int(head["baseFeePerGas"], 16),
        "usefulness": _usefulness(client, number),
        "finality": _optional(client, "hyperdust_finality"),
        "peg": _optional(client, "hyperdust_pegStatus"),
        "mempool": _mempool(client),
        "miners": miners,
        "jobs": _jobs(client),
    }


def show_status(found: dict[str, Any]) -> str:
    """The same for people."""
    head = found["head"]
    spacing = found["block_time_s"]
    apart = "-" if spacing is None else f"{spacing:.1f} s apart"
    lines = [
        f"chain     {found['chain_id']} at {found['rpc']} ({found['client']})",
        f"head      block {head['number']}, {head['age_s']} s old, {head['hash']}",
        f"blocks    {apart}, difficulty {found['difficulty_macs']:,} MACs, base fee {found['base_fee_wei']:,} wei",
    ]
    if (finality := found["finality"]) is not None:
        final = finality.get("final") or {}
        lines.append(f"final     block {final.get('block', 0)}")
    lines += _show_peg(found["peg"])
    if (pool := found["mempool"]) is not None:
        lines.append(f"mempool   {pool['pending']} pending, {pool['queued']} queued")
    recent = sum(found["miners"].values())
    for miner, blocks in sorted(found["miners"].items(), key=lambda row: -row[1]):
        lines.append(f"miner     {miner}: {blocks} of the last {recent} blocks")
    if (jobs := found["jobs"]) is not None:
        states = ", ".join(f"{count} {state}" for state, count in jobs["recent"].items())
        lines.append(f"jobs      {jobs['total']} asked{'; the newest: ' + states if states else ''}")
    if (useful := found["usefulness"]) is not None and useful["ratio"] is not None:
        lines.append(f"useful    {useful['ratio']:.1%} of the last blocks' work was paid jobs")
    if spacing is not None and head["age_s"] > _LATE_SPACINGS * max(spacing, 1):
        lines.append(f"warning   no block for {head['age_s']} s; is a miner running? `hyperdust miner --help`")
    return "\n".join(lines)


def _show_peg(peg: dict[str, Any] | None) -> list[str]:
    if peg is None:
        return []
    bitcoin, origin = peg["bitcoin"], peg["origin"]
    built_on = (
        "no origin yet" if origin is None else f"origin {origin['height']}, {origin['confirmations']} confirmations"
    )
    lines = [f"bitcoin   {bitcoin['network']} block {bitcoin['height']}, {bitcoin['state']}; {built_on}"]
    if bitcoin["reason"]:
        lines.append(f"warning   bitcoind: {bitcoin['reason']}")
    if peg["frozen"]:
        lines.append(f"warning   the peg is frozen, blocks go on: {peg['frozen_reason']}")
    return lines


def _optional(client: RpcClient, method: str, *params: object) -> Any:
    try:
        return client.call(method, *params)
    except RpcError:
        return None  # a namespace that this node does not serve


def _mempool(client: RpcClient) -> dict[str, int] | None:
    found = _optional(client, "txpool_status")
    return found and {name: int(found[name], 16) for name in ("pending", "queued")}


def _usefulness(client: RpcClient, number: int) -> Any:
    return _optional(client, "hyperdust_usefulness", hex(max(0, number - _RECENT_BLOCKS)), hex(number))


def _jobs(client: RpcClient) -> dict[str, Any] | None:
    try:
        raw = client.view(ADDRESSES["JobMarket"], encode_call("JobMarket", "jobs_count"))
        total = int(decode_output("JobMarket", "jobs_count", raw)[0])
    except HyperdustError:
        return None  # another chain
    recent: dict[str, int] = {}
    for job in range(max(1, total - _RECENT_JOBS + 1), total + 1):
        if (found := _optional(client, "hyperdust_getJob", job)) is not None:
            recent[found["status"]] = recent.get(found["status"], 0) + 1
    return {"total": total, "recent": recent}

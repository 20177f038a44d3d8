"""viem 2 works unchanged: js/viem.mjs holds the checks; here each is one test."""

import pytest

pytestmark = pytest.mark.functional

CHECKS = (
    "chain id and block number",
    "balance",
    "default fees and fee history",
    "value transfer",
    "deploy and call",
    "simulate, send, and read the event",
    "payable",
    "estimate",
    "three transactions in a row",
    "a revert's reason",
    "a custom error and a panic",
    "a failed transaction has a receipt",
    "block and transaction",
    "legacy, access list and dynamic fee transactions",
    "set code transaction",
    "access list and proof from the node",
    "call with a state override, and a batch of calls",
    "eth_simulateV1",
    "EIP-712 and personal signatures are local",
    "filters",
    "polled blocks and events",
    "errors that viem knows by the node's words",
    "WebSocket: new heads, logs and pending transactions",
)


@pytest.fixture(scope="module")
def outcomes(run_checks, devnet):
    return run_checks("viem", devnet.accounts[3])


@pytest.mark.parametrize("check", CHECKS)
def test_viem(outcomes, check):
    assert outcomes[check] is None, outcomes[check]


def test_every_check_is_named_here(outcomes):
    assert tuple(outcomes) == CHECKS

"""ethers 6 works unchanged: js/ethers.mjs holds the checks; here each is one test."""

import pytest

pytestmark = pytest.mark.functional

CHECKS = (
    "network and block number",
    "balance",
    "default fees",
    "value transfer",
    "deploy and call",
    "send to a contract and read its event",
    "payable",
    "estimate",
    "three transactions in a row",
    "a revert's reason",
    "a custom error",
    "a panic",
    "a failed transaction has a receipt",
    "block and transaction",
    "legacy, access list and dynamic fee transactions",
    "set code transaction",
    "personal and EIP-712 signatures are local",
    "polled events",
    "raw error of the node",
    "nonce already used",
    "WebSocket: new heads and logs",
    "abi round trip through eth_call on a creation",
)


@pytest.fixture(scope="module")
def outcomes(run_checks, devnet):
    return run_checks("ethers", devnet.accounts[2])


@pytest.mark.parametrize("check", CHECKS)
def test_ethers(outcomes, check):
    assert outcomes[check] is None, outcomes[check]


def test_every_check_is_named_here(outcomes):
    assert tuple(outcomes) == CHECKS

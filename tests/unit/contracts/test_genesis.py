"""The committed artifacts are what the sources compile to; the tables pin them, and hold what they say."""

import json
import re
import subprocess
import sys

import pytest
import rlp
from eth_account import Account
from eth_keys.datatypes import Signature
from eth_utils import keccak

from chain.params import (
    AGENT,
    AGENT_COIN,
    AGENT_FACTORY,
    AGENT_ITEMS,
    BONDS,
    BRIDGE,
    COURT,
    DUST,
    GRAPH_REGISTRY,
    JOB_MARKET,
    SCHEDULER,
)
from precompiles.registry import precompiles_for
from tests.unit.contracts.harness import ROOT

PREDEPLOYS = {
    "GraphRegistry": GRAPH_REGISTRY,
    "Bonds": BONDS,
    "JobMarket": JOB_MARKET,
    "Dust": DUST,
    "Court": COURT,
    "Bridge": BRIDGE,
    "AgentFactory": AGENT_FACTORY,
    "Scheduler": SCHEDULER,
    "Agent": AGENT,
    "AgentCoin": AGENT_COIN,
    "AgentItems": AGENT_ITEMS,
}
MNEMONIC = "test test test test test test test test test test test junk"
NETWORKS = ("main", "regtest")
# EIP-4788, 2935, 7002, 7251, Deployment: constructor before the code, and s of the keyless transaction (v 27, r 0x539).
DEPLOYMENTS = {
    "000f3df6d732807ef1319fb7b8bb8522d0beac02": ("60618060095f395ff3", 0x1B9B6EB1F0),
    "0000f90827f1c53a10cb7a02335b175320002935": ("60538060095f395ff3", 0xAA12693182426612186309F02CFE8A80A0000),
    "00000961ef480eb55e80d19ad83579a64c007002": (
        f"7f{'ff' * 32}5f556101f880602d5f395ff3",
        0x5FEEB084551E4E03A3581E269BC2EA2F8D0008,
    ),
    "0000bbddc7ce488642fb579f8b00f3a590007251": (
        f"7f{'ff' * 32}5f5561019e80602d5f395ff3",
        0xC0730F92DC275B663D377A7CBB141B6600052,
    ),
}


@pytest.fixture(params=NETWORKS)
def table(request):
    return json.loads((ROOT / "genesis" / f"{request.param}.json").read_text(encoding="utf-8"))


def artifact(name):
    return json.loads((ROOT / "genesis" / "artifacts" / f"{name}.json").read_text(encoding="utf-8"))


def test_the_artifacts_are_what_the_sources_compile_to():
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "genesis.py", "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_tables_pin_the_predeploys(table):
    assert list(table["contracts"]) == list(PREDEPLOYS)
    for name, pin in table["contracts"].items():
        code = bytes.fromhex(artifact(name)["bytecode"].removeprefix("0x"))
        assert pin == {"address": "0x" + PREDEPLOYS[name].hex(), "code_hash": "0x" + keccak(code).hex()}
        assert len(code) <= 24_576  # EIP-170


def test_initialize_names_its_arguments(table):
    for name, (types, keys) in table["initialize"].items():
        (entry,) = [part for part in artifact(name)["abi"] if part.get("name") == "initialize"]
        assert [part["type"] for part in entry["inputs"]] == types
        assert len(keys) == len(types)
        assert all(int(table[key]) > 0 for key in keys)
    without = {name for name in PREDEPLOYS if all(part.get("name") != "initialize" for part in artifact(name)["abi"])}
    assert without == set(PREDEPLOYS) - set(table["initialize"]) - {"Bridge"}  # the loader does: its root is computed


def test_both_tables_have_the_same_keys():
    main, regtest = (json.loads((ROOT / "genesis" / f"{name}.json").read_text(encoding="utf-8")) for name in NETWORKS)
    assert list(main) == list(regtest)
    assert main["contracts"] == regtest["contracts"]
    assert main["system_contracts"] == regtest["system_contracts"]
    assert main["chain_id"] != regtest["chain_id"]


def test_main_holds_the_protocols_numbers():
    table = json.loads((ROOT / "genesis" / "main.json").read_text(encoding="utf-8"))
    expected = {
        "spacing_s": 6,
        "asert_half_life_s": 3_600,
        "difficulty_floor": 2**26,
        "max_future_s": 12,
        "origin_depth_blocks": 6,
        "base_fee_per_gas": 10**6,
        "subsidy_lock_blocks": 2_048,
        "credit_lapse_blocks": 100_800,
        "final_window_blocks": 600,
        "takeover_blocks": 20,
        "sampling_bps": 500,
        "dispute_window_blocks": 100,
        "demand_window_blocks": 100,
        "genesis_supply_wei": "0",
        "alloc": {},
    }
    assert {key: table[key] for key in expected} == expected


def test_a_bond_can_be_slashed_longer_than_any_dispute_lasts(table):
    asked = 3 * 8 * 2 * table["demand_window_blocks"]  # companion, requester, others: eight demands each, one by one
    checked = 2 * table["reveal_window_blocks"] + 2 * table["dispute_window_blocks"]
    longest = checked + table["final_window_blocks"] + asked
    assert longest < table["unbonding_blocks"] or table["name"] == "regtest"


def test_supply_is_what_the_accounts_hold(table):
    held = sum(int(account["balance"]) for account in table["alloc"].values())
    assert int(table["genesis_supply_wei"]) == held


def test_regtest_funds_the_well_known_accounts():
    Account.enable_unaudited_hdwallet_features()
    table = json.loads((ROOT / "genesis" / "regtest.json").read_text(encoding="utf-8"))
    expected = {}
    for folder, count, btc in (("0'/0", 10, 1_000), ("1'/0", 20, 10)):
        for i in range(count):
            account = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/{folder}/{i}")
            expected[account.address] = {"balance": str(btc * 10**18)}
    assert table["alloc"] == expected
    assert next(iter(expected)) == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"  # anvil's first


def test_every_precompile_has_a_byte_of_code(table):
    addresses = ["0x" + entry[0].hex() for entry in precompiles_for(None, bytes(32))]
    assert table["precompiles"] == {"code": "0xfe", "addresses": addresses}


def test_system_contracts_are_those_of_the_eips(table):
    """Their addresses come from keyless transactions over their code, so that each address proves its code."""
    found = {address.lower().removeprefix("0x"): entry for address, entry in table["system_contracts"].items()}
    assert set(found) == set(DEPLOYMENTS)
    for address, (constructor, s) in DEPLOYMENTS.items():
        assert (found[address]["nonce"], found[address]["balance"]) == (1, "0")
        code = bytes.fromhex(constructor) + bytes.fromhex(found[address]["code"].removeprefix("0x"))
        message = keccak(rlp.encode([b"", 10**12, 250_000, b"", b"", code]))
        deployer = Signature(vrs=(0, 0x539, s)).recover_public_key_from_msg_hash(message).to_canonical_address()
        assert keccak(rlp.encode([deployer, b""]))[12:].hex() == address


@pytest.mark.parametrize("name", ["GraphRegistry", "JobMarket", "Bonds", "Court", "Dust"])
def test_the_solidity_interface_is_the_abi(name):
    source = (ROOT / "contracts" / "interfaces" / "IHyperdust.sol").read_text(encoding="utf-8")
    body = re.search(rf"interface I{name} \{{(.*?)\n\}}", source, re.DOTALL)[1]
    known = {
        (kind, called, *(part.split()[0] for part in arguments.split(",") if part.strip()))
        for kind, called, arguments in re.findall(r"(function|event) (\w+)\(([^)]*)\)", re.sub(r"//[^\n]*", "", body))
    }
    abi = {
        (part["type"], part.get("name"), *(field["type"] for field in part.get("inputs", [])))
        for part in artifact(name)["abi"]
    }
    assert known
    assert known <= abi

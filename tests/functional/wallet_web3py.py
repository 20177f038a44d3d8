"""web3.py 8 works unchanged: defaults for gas, fees, nonce and chain id come from the node; signatures are local."""

import asyncio

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from web3 import AsyncWeb3, Web3
from web3.exceptions import (
    ContractCustomError,
    ContractLogicError,
    ContractPanicError,
    TransactionNotFound,
    Web3RPCError,
)
from web3.middleware import SignAndSendRawMiddlewareBuilder
from web3.providers import WebSocketProvider

pytestmark = pytest.mark.functional

SLOT_0 = "0x" + "00" * 32


@pytest.fixture(scope="module")
def account(devnet):
    return Account.from_key(devnet.accounts[4].private_key)


@pytest.fixture(scope="module")
def w3(devnet, account):
    web3 = Web3(Web3.HTTPProvider(devnet.rpc))
    web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(account), layer=0)
    web3.eth.default_account = account.address
    return web3


@pytest.fixture(scope="module")
def mined(w3):
    def wait(hash_):
        return w3.eth.wait_for_transaction_receipt(hash_, timeout=30, poll_latency=0.1)

    return wait


@pytest.fixture(scope="module")
def deployed(w3, mined, counter):
    receipt = mined(w3.eth.contract(abi=counter["abi"], bytecode=counter["bytecode"]).constructor(7).transact())
    assert receipt.status == 1
    return w3.eth.contract(address=receipt.contractAddress, abi=counter["abi"])


def test_chain_id_client_and_sync(w3, devnet):
    assert w3.is_connected()
    assert w3.eth.chain_id == devnet.chain_id
    assert w3.net.version == str(devnet.chain_id)
    assert w3.client_version
    assert w3.eth.syncing is False
    assert w3.eth.block_number >= 0
    assert w3.net.listening is True


def test_balance_and_nonce(w3, account):
    assert w3.eth.get_balance(account.address) > 10**18
    assert w3.eth.get_balance(Account.create().address) == 0
    assert w3.eth.get_transaction_count(Account.create().address) == 0


def test_fees(w3):
    assert w3.eth.gas_price > 0
    assert w3.eth.max_priority_fee >= 0
    history = w3.eth.fee_history(2, "latest", [10, 90])
    assert len(history.baseFeePerGas) == len(history.gasUsedRatio) + 1
    assert all(len(reward) == 2 for reward in history.reward)


def test_value_transfer(w3, mined, account):
    to = Account.create().address
    receipt = mined(w3.eth.send_transaction({"to": to, "value": 12345}))
    assert (receipt.status, receipt.type, receipt.gasUsed) == (1, 2, 21_000)
    assert receipt.effectiveGasPrice > 0
    assert (receipt["from"], receipt.to) == (account.address, to)
    assert w3.eth.get_balance(to) == 12345


def test_deploy_call_code_and_storage(w3, deployed):
    assert deployed.functions.number().call(block_identifier="latest") >= 7
    assert len(w3.eth.get_code(deployed.address)) > 100
    assert int.from_bytes(w3.eth.get_storage_at(deployed.address, 0), "big") == deployed.functions.number().call()


def test_send_and_read_the_event(w3, mined, deployed, account):
    before = deployed.functions.number().call()
    receipt = mined(deployed.functions.setNumber(42).transact())
    (event,) = deployed.events.Changed().process_receipt(receipt)
    assert dict(event.args) == {"who": account.address, "number": 42, "note": "set"}
    (found,) = deployed.events.Changed.get_logs(from_block=receipt.blockNumber, argument_filters={"number": 42})
    assert found.transactionHash == receipt.transactionHash
    assert w3.eth.get_logs({"blockHash": receipt.blockHash, "address": deployed.address})[0].logIndex == event.logIndex
    assert deployed.functions.number().call(block_identifier=receipt.blockNumber - 1) == before


def test_payable(w3, mined, deployed, account):
    before = deployed.functions.paid(account.address).call()
    mined(deployed.functions.pay().transact({"value": 99}))
    assert deployed.functions.paid(account.address).call() == before + 99


def test_estimate(w3, deployed, account):
    assert w3.eth.estimate_gas({"from": account.address, "to": Account.create().address, "value": 1}) == 21_000
    assert 25_000 < deployed.functions.increment().estimate_gas() < 60_000


def test_three_transactions_in_a_row(w3, mined, account):
    first = w3.eth.get_transaction_count(account.address, "pending")
    to = Account.create().address
    hashes = [w3.eth.send_transaction({"to": to, "value": 1, "nonce": first + index}) for index in range(3)]
    assert w3.eth.get_transaction_count(account.address, "pending") == first + 3
    assert [mined(hash_).status for hash_ in hashes] == [1, 1, 1]
    assert [w3.eth.get_transaction(hash_).nonce for hash_ in hashes] == [first, first + 1, first + 2]


def test_a_revert_names_its_reason(deployed):
    with pytest.raises(ContractLogicError, match="counter: refused on purpose"):
        deployed.functions.refuse().call()
    with pytest.raises(ContractLogicError, match="counter: refused on purpose"):
        deployed.functions.refuse().transact()


def test_a_custom_error_and_a_panic(w3, deployed):
    with pytest.raises(ContractCustomError) as caught:
        deployed.functions.setNumber(1_000_001).call()
    assert Web3.keccak(text="TooFar(uint256,uint256)")[:4].hex() in str(caught.value.data)
    with pytest.raises(ContractPanicError):
        deployed.functions.divide(0).call()


def test_a_failed_transaction_has_a_receipt(mined, deployed):
    receipt = mined(deployed.functions.refuse().transact({"gas": 100_000}))
    assert (receipt.status, receipt.logs) == (0, [])


def test_block_and_transaction(w3, mined, account):
    receipt = mined(w3.eth.send_transaction({"to": account.address, "value": 0}))
    block = w3.eth.get_block(receipt.blockNumber, full_transactions=True)
    assert block.hash == receipt.blockHash
    assert block.baseFeePerGas > 0
    assert receipt.transactionHash in [transaction.hash for transaction in block.transactions]
    assert w3.eth.get_block(block.parentHash).number == block.number - 1
    assert w3.eth.get_transaction(receipt.transactionHash).blockNumber == block.number
    by_place = w3.eth.get_transaction_by_block(block.number, receipt.transactionIndex)
    assert by_place.hash == receipt.transactionHash
    assert w3.eth.get_block_transaction_count(block.number) == len(block.transactions)
    for tag in ("earliest", "safe", "finalized", "latest", "pending"):
        assert w3.eth.get_block(tag).gasLimit > 0
    with pytest.raises(TransactionNotFound):
        w3.eth.get_transaction("0x" + "12" * 32)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_transaction_types(w3, mined, deployed, kind):
    extra = {"gasPrice": w3.eth.gas_price} if kind < 2 else {}
    extra |= {"accessList": [{"address": deployed.address, "storageKeys": [SLOT_0]}]} if kind else {}
    receipt = mined(deployed.functions.increment().transact(extra))
    assert (receipt.status, receipt.type) == (1, kind)
    assert w3.eth.get_transaction(receipt.transactionHash).type == kind


def test_set_code_transaction(w3, mined, deployed, counter, devnet):
    authority = Account.create()
    authorization = {"chainId": devnet.chain_id, "address": deployed.address, "nonce": 0}
    receipt = mined(
        w3.eth.send_transaction(
            {
                "to": authority.address,
                "data": deployed.encode_abi("setNumber", [5]),
                "gas": 200_000,
                "authorizationList": [authority.sign_authorization(authorization)],
            }
        )
    )
    assert (receipt.status, receipt.type) == (1, 4)
    assert w3.eth.get_code(authority.address) == bytes.fromhex("ef0100") + bytes.fromhex(deployed.address[2:])
    assert w3.eth.contract(address=authority.address, abi=counter["abi"]).functions.number().call() == 5
    assert w3.eth.get_transaction(receipt.transactionHash).authorizationList[0].nonce == 0


def test_proof_and_access_list(w3, deployed, account):
    proof = w3.eth.get_proof(deployed.address, [SLOT_0])
    assert proof.accountProof
    assert int.from_bytes(proof.storageProof[0].value, "big") == deployed.functions.number().call()
    call = {"from": account.address, "to": deployed.address, "data": deployed.encode_abi("increment")}
    made = w3.eth.create_access_list(call)
    assert [entry.address for entry in made.accessList] == [deployed.address]


def test_proof_of_a_slot_named_by_its_number(w3, deployed, anvil_deviates):
    anvil_deviates('refuses the key "0x0", which web3.py sends for 0 and geth takes')
    assert w3.eth.get_proof(deployed.address, [0]).storageProof[0].proof


def test_state_override(deployed):
    override = {deployed.address: {"stateDiff": {SLOT_0: "0x" + "09".rjust(64, "0")}}}
    assert deployed.functions.number().call(state_override=override) == 9


def test_signatures_are_local(devnet, account):
    types = {"Job": [{"name": "graph", "type": "bytes32"}, {"name": "fee", "type": "uint256"}]}
    domain = {"name": "Hyperdust", "version": "1", "chainId": devnet.chain_id}
    signed = account.sign_typed_data(domain, types, {"graph": b"\x11" * 32, "fee": 5})
    assert len(signed.signature) == 65
    message = encode_defunct(text="hello")
    assert Account.recover_message(message, signature=account.sign_message(message).signature) == account.address


def test_filters(w3, mined, deployed):
    changed = deployed.events.Changed.create_filter(from_block="latest")
    blocks, pending = w3.eth.filter("latest"), w3.eth.filter("pending")
    receipt = mined(deployed.functions.setNumber(61).transact())
    assert 61 in [event.args.number for event in changed.get_new_entries()]
    assert changed.get_new_entries() == []
    assert 61 in [event.args.number for event in changed.get_all_entries()]
    assert receipt.blockHash in blocks.get_new_entries()
    assert receipt.transactionHash in pending.get_new_entries()
    assert w3.eth.uninstall_filter(changed.filter_id) is True
    with pytest.raises(Web3RPCError, match="(?i)filter not found"):
        w3.eth.get_filter_changes(changed.filter_id)


def test_errors_use_known_words(w3, devnet, account):
    poor = Account.create()
    transfer = {"to": account.address, "value": 1, "gas": 21_000, "chainId": devnet.chain_id, "nonce": 0}
    transfer |= {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1}
    with pytest.raises(Web3RPCError, match="(?i)insufficient funds"):
        w3.eth.send_raw_transaction(poor.sign_transaction(transfer).raw_transaction)
    with pytest.raises(Web3RPCError, match="nonce too low"):
        w3.eth.send_raw_transaction(account.sign_transaction(transfer).raw_transaction)


def test_batch_of_calls(w3, devnet, account):
    with w3.batch_requests() as batch:
        batch.add(w3.eth.get_block("latest"))
        batch.add(w3.eth.get_balance(account.address))
        block, balance = batch.execute()
    assert block.number >= 0
    assert balance > 0


def test_websocket_subscriptions(w3, devnet, deployed):
    async def listen():
        async with AsyncWeb3(WebSocketProvider(devnet.ws)) as socket:
            assert await socket.eth.chain_id == devnet.chain_id
            heads = await socket.eth.subscribe("newHeads")
            logs = await socket.eth.subscribe("logs", {"address": deployed.address})
            await asyncio.to_thread(deployed.functions.setNumber(88).transact)
            numbers, found = [], None
            async for message in socket.socket.process_subscriptions():
                if message["subscription"] == heads:
                    numbers.append(message["result"]["number"])
                elif message["subscription"] == logs:
                    found = deployed.events.Changed().process_log(message["result"])
                if found and len(numbers) >= 2:
                    break
            assert await socket.eth.unsubscribe(heads)
            return numbers, found

    async def bounded():
        return await asyncio.wait_for(listen(), 30)

    numbers, found = asyncio.run(bounded())
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert found.args.number == 88

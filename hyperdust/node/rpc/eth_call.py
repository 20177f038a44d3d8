"""eth_*: trying a message on a block's state: call, gas estimate, access list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from chain import engine
from chain.engine import BlockEnvironment, CallMessage, CallResult, Precompile, create_access_list
from chain.errors import Invalid
from chain.transactions import FloorDataGasTooLow, IntrinsicGasTooLow
from hyperdust.node.contracts import State
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.blob_fees import prepare_blob_fees
from hyperdust.node.rpc.delegation import Delegated, delegate
from hyperdust.node.rpc.errors import InvalidParams, Reverted, ServerError
from hyperdust.node.rpc.eth_state import load_account, load_code
from hyperdust.node.rpc.parameters import (
    LATEST,
    BlockOverrides,
    BlockReference,
    CallRequest,
    StateOverrides,
)
from hyperdust.node.rpc.precompile_moves import move_precompiles, precompiled_addresses
from hyperdust.node.rpc.shapes import Json

_TRANSFER_GAS: Final = 21_000
_CALL_STIPEND: Final = 2_300
_MAX_TRANSACTION_GAS: Final = 1 << 24  # EIP-7825
_ERROR_RATIO: Final = (15, 1_000)  # stop the search once the bounds are this close, as geth does
_OUT_OF_GAS: Final = "out of gas"
_REVERTED: Final = "execution reverted"

_NO_OVERRIDES: Final = StateOverrides()
_SAME_BLOCK: Final = BlockOverrides()


@dataclass(frozen=True, slots=True)
class Trial:
    """A message and the world that it is tried in."""

    environment: BlockEnvironment
    message: CallMessage
    state: State
    overrides: Mapping[bytes, engine.AccountOverride]
    precompiles: Sequence[Precompile]
    delegated: Delegated = field(default_factory=Delegated)
    """What authorizations cost; their effect is in `overrides`, since messages carry none."""

    def run(self, gas: int | None = None, trace: str | None = None) -> CallResult:
        """Try the message, with another gas limit where one is given.

        Raises:
            TransactionInvalid, NodeFault
        """
        result = engine.call(
            self.environment,
            self.message_with(self.message.gas if gas is None else gas),
            self.state.read_many,
            overrides=self.overrides,
            precompiles=self.precompiles,
            trace=trace,
        )
        return self.delegated.settle(result)

    def message_with(self, gas: int) -> CallMessage:
        """The message with a gas limit, less what its authorizations take of that."""
        return replace(self.message, gas=max(gas - self.delegated.gas, 0))


def prepare(
    request: Request,
    call: CallRequest,
    block: BlockReference,
    overrides: StateOverrides = _NO_OVERRIDES,
    block_overrides: BlockOverrides = _SAME_BLOCK,
) -> Trial:
    """A trial on the state after a block, in that block's environment.

    Raises:
        ServerError: no such block, or its state is not kept.
    """
    state = request.state(block)
    rules = request.backend.rules
    environment = replace(rules.environment_of(state.header), **block_overrides.as_changes())
    if call.chain_id is not None and call.chain_id != environment.chain_id:
        raise ServerError(f"chainId does not match node's (have={call.chain_id}, want={environment.chain_id})")
    if call.blob_hashes and not environment.allow_blobs:
        raise InvalidParams("this chain has no blob transactions")
    cap, blobs = call.max_fee_per_blob_gas or 0, len(call.blob_hashes)
    fees = prepare_blob_fees(environment, block_overrides.blob_base_fee, blobs, cap, validates=False)
    price, tip = _fees(call, environment)
    message = CallMessage(
        sender=call.sender,
        to=call.to,
        data=call.data,
        value=call.value,
        gas=min(call.gas if call.gas is not None else request.backend.limits.call_gas, request.backend.limits.call_gas),
        gas_price=price,
        max_priority_fee=tip,
        access_list=call.access_list,
        blob_hashes=call.blob_hashes,
        max_fee_per_blob_gas=fees.cap,
    )
    precompiles = move_precompiles(overrides, environment, rules.precompiles_of(state.header))
    changed = engine_overrides(overrides)
    delegated = delegate(changed, call.authorizations, state, call.sender, environment.chain_id)
    if fees.credit:
        credit_sender(changed, state, call.sender, fees.credit)
    return Trial(fees.environment, message, state, changed, precompiles, delegated)


def credit_sender(overrides: dict[bytes, engine.AccountOverride], state: State, sender: bytes, amount: int) -> None:
    """Give the sender wei before a trial."""
    known = overrides.get(sender, engine.AccountOverride())
    balance = load_account(state, sender).balance if known.balance is None else known.balance
    overrides[sender] = replace(known, balance=balance + amount)


def _fees(call: CallRequest, environment: BlockEnvironment) -> tuple[int, int | None]:
    if call.max_fee_per_gas is None and call.max_priority_fee_per_gas is None:
        return call.gas_price or 0, None
    tip = call.max_priority_fee_per_gas or 0
    cap = call.max_fee_per_gas
    return (environment.base_fee + tip if cap is None else cap), tip


def engine_overrides(overrides: StateOverrides) -> dict[bytes, engine.AccountOverride]:
    """The engine's form of overrides."""
    return {
        address: engine.AccountOverride(
            balance=override.balance,
            nonce=override.nonce,
            code=override.code,
            state=dict(override.state) if override.state is not None else None,
            state_diff=dict(override.state_diff) or None,
        )
        for address, override in overrides.accounts
    }


def call(
    request: Request,
    transaction: CallRequest,
    block: BlockReference = LATEST,
    overrides: StateOverrides = _NO_OVERRIDES,
    block_overrides: BlockOverrides = _SAME_BLOCK,
) -> str:
    """What a message returns."""
    result = run_trial(prepare(request, transaction, block, overrides, block_overrides))
    check_success(result)
    return shapes.data(result.output)


def run_trial(trial: Trial, gas: int | None = None) -> CallResult:
    """As `Trial.run`, with the refusal of a transaction as an answer.

    Raises:
        ServerError: not enough funds, gas below the intrinsic cost, ...
    """
    try:
        return trial.run(gas)
    except Invalid as error:
        raise ServerError(f"err: {error} (supplied gas {gas or trial.message.gas})") from error


def check_success(result: CallResult) -> None:
    """Raise what a failed call answers.

    Raises:
        Reverted: with the contract's data.
        ServerError: any other failure, in geth's words.
    """
    if result.success:
        return
    if result.error is None or result.error.startswith(_REVERTED):
        raise Reverted(result.output)
    raise ServerError(result.error)


def estimate_gas(
    request: Request,
    transaction: CallRequest,
    block: BlockReference = LATEST,
    overrides: StateOverrides = _NO_OVERRIDES,
    block_overrides: BlockOverrides = _SAME_BLOCK,
) -> str:
    """The gas limit that a transaction needs; at most 1.5 % too high."""
    trial = prepare(request, transaction, block, overrides, block_overrides)
    high = _highest_gas(request, trial, transaction)
    if _is_transfer(trial) and high >= _TRANSFER_GAS and _succeeds(trial, _TRANSFER_GAS):
        return shapes.quantity(_TRANSFER_GAS)
    return shapes.quantity(_search_gas(request, trial, high))


def _is_transfer(trial: Trial) -> bool:
    message = trial.message
    if message.data or message.access_list or trial.delegated.gas or message.to is None:
        return False
    overridden = trial.overrides.get(message.to)
    if overridden is not None and overridden.code is not None:
        return not overridden.code
    precompiled = precompiled_addresses(trial.environment.fork, trial.precompiles)
    return not load_code(trial.state, message.to) and message.to not in precompiled


def _highest_gas(request: Request, trial: Trial, transaction: CallRequest) -> int:
    message = trial.message
    high = min(trial.environment.gas_limit, _MAX_TRANSACTION_GAS, request.backend.limits.call_gas)
    if transaction.gas is not None and transaction.gas >= _TRANSFER_GAS:
        high = min(transaction.gas, _MAX_TRANSACTION_GAS, request.backend.limits.call_gas)
    if not message.gas_price:
        return high
    overridden = trial.overrides.get(message.sender)
    balance = overridden.balance if overridden is not None else None
    if balance is None:
        balance = load_account(trial.state, message.sender).balance
    if message.value > balance:
        raise ServerError("insufficient funds for transfer")
    return min(high, (balance - message.value) // message.gas_price)


def _search_gas(request: Request, trial: Trial, high: int) -> int:
    try:
        result = trial.run(high)
    except Invalid as error:
        if _is_gas_shortage(error):
            raise ServerError(f"gas required exceeds allowance ({high})") from error
        raise ServerError(f"err: {error} (supplied gas {high})") from error
    if not result.success:
        if result.error == _OUT_OF_GAS:
            raise ServerError(f"gas required exceeds allowance ({high})")
        check_success(result)
    low = result.gas_used - 1
    # Refunds come after the fact, and EIP-150 keeps a 64th of the gas from each inner call.
    likely = (result.gas_used + result.gas_refunded + _CALL_STIPEND) * 64 // 63
    if likely < high:
        if _succeeds(trial, likely):
            high = likely
        else:
            low = likely
    numerator, denominator = _ERROR_RATIO
    while low + 1 < high and (high - low) * denominator >= high * numerator:
        request.check_time()
        middle = min((high + low) // 2, low * 2)
        if _succeeds(trial, middle):
            high = middle
        else:
            low = middle
    return high


def _succeeds(trial: Trial, gas: int) -> bool:
    try:
        return trial.run(gas).success
    except Invalid as error:
        if _is_gas_shortage(error):
            return False
        raise ServerError(f"err: {error} (supplied gas {gas})") from error


def _is_gas_shortage(error: Invalid) -> bool:
    return isinstance(error, IntrinsicGasTooLow | FloorDataGasTooLow)


def access_list(
    request: Request,
    transaction: CallRequest,
    block: BlockReference = LATEST,
    overrides: StateOverrides = _NO_OVERRIDES,
) -> Json:
    """The access list that a transaction would use, and the gas that it uses with it."""
    trial = prepare(request, transaction, block, overrides)
    gas = min(trial.message.gas, trial.environment.gas_limit, _MAX_TRANSACTION_GAS)
    try:
        entries, gas_used, error = create_access_list(
            trial.environment,
            trial.message_with(gas),
            trial.state.read_many,
            overrides=trial.overrides,
            precompiles=trial.precompiles,
        )
    except Invalid as refusal:
        raise ServerError(f"err: {refusal} (supplied gas {gas})") from refusal
    result: Json = {
        "accessList": [
            {"address": shapes.data(address), "storageKeys": [shapes.data(slot) for slot in slots]}
            for address, slots in entries
        ],
        "gasUsed": shapes.quantity(gas_used + trial.delegated.gas),
    }
    if error is not None:
        result["error"] = error
    return result

"""Every method by name. What a method takes, its Python signature says; namespaces are switched as a whole."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

from hyperdust.node.rpc import (
    debug,
    eth_blocks,
    eth_call,
    eth_config,
    eth_fees,
    eth_logs,
    eth_send,
    eth_state,
    finality,
    node_info,
    peg,
    simulation,
    subscriptions,
    testing,
    transfers,
)
from hyperdust.node.rpc import hyperdust_methods as ours
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.errors import InvalidParams
from hyperdust.node.rpc.parsing import PARSERS

METHODS: Final[Mapping[str, Callable[..., object]]] = {
    "eth_chainId": eth_blocks.chain_id,
    "eth_blockNumber": eth_blocks.block_number,
    "eth_syncing": eth_blocks.syncing,
    "eth_accounts": eth_blocks.accounts,
    "eth_getBlockByNumber": eth_blocks.get_block_by_number,
    "eth_getBlockByHash": eth_blocks.get_block_by_hash,
    "eth_getHeaderByNumber": eth_blocks.get_header_by_number,
    "eth_getHeaderByHash": eth_blocks.get_header_by_hash,
    "eth_getBlockTransactionCountByNumber": eth_blocks.get_block_transaction_count_by_number,
    "eth_getBlockTransactionCountByHash": eth_blocks.get_block_transaction_count_by_hash,
    "eth_getUncleCountByBlockNumber": eth_blocks.get_uncle_count_by_number,
    "eth_getUncleCountByBlockHash": eth_blocks.get_uncle_count_by_hash,
    "eth_getUncleByBlockNumberAndIndex": eth_blocks.get_uncle_by_number,
    "eth_getUncleByBlockHashAndIndex": eth_blocks.get_uncle_by_hash,
    "eth_getTransactionByHash": eth_blocks.get_transaction_by_hash,
    "eth_getTransactionByBlockNumberAndIndex": eth_blocks.get_transaction_by_number_and_index,
    "eth_getTransactionByBlockHashAndIndex": eth_blocks.get_transaction_by_hash_and_index,
    "eth_getRawTransactionByHash": eth_blocks.get_raw_transaction_by_hash,
    "eth_getTransactionReceipt": eth_blocks.get_transaction_receipt,
    "eth_getBlockReceipts": eth_blocks.get_block_receipts,
    "eth_getBalance": eth_state.get_balance,
    "eth_getCode": eth_state.get_code,
    "eth_getStorageAt": eth_state.get_storage_at,
    "eth_getStorageValues": eth_state.get_storage_values,
    "eth_getTransactionCount": eth_state.get_transaction_count,
    "eth_getAccountInfo": eth_state.get_account_info,
    "eth_getProof": eth_state.get_proof,
    "eth_call": eth_call.call,
    "eth_estimateGas": eth_call.estimate_gas,
    "eth_createAccessList": eth_call.access_list,
    "eth_simulateV1": simulation.simulate,
    "eth_gasPrice": eth_fees.gas_price,
    "eth_maxPriorityFeePerGas": eth_fees.max_priority_fee_per_gas,
    "eth_feeHistory": eth_fees.fee_history,
    "eth_baseFee": eth_fees.base_fee,
    "eth_blobBaseFee": eth_fees.blob_base_fee,
    "eth_config": eth_config.config,
    "eth_capabilities": eth_config.capabilities,
    "eth_sendRawTransaction": eth_send.send_raw_transaction,
    "eth_getLogs": eth_logs.get_logs,
    "eth_newFilter": eth_logs.new_filter,
    "eth_newBlockFilter": eth_logs.new_block_filter,
    "eth_newPendingTransactionFilter": eth_logs.new_pending_transaction_filter,
    "eth_getFilterChanges": eth_logs.get_filter_changes,
    "eth_getFilterLogs": eth_logs.get_filter_logs,
    "eth_uninstallFilter": eth_logs.uninstall_filter,
    "eth_subscribe": subscriptions.subscribe,
    "eth_unsubscribe": subscriptions.unsubscribe,
    "net_version": node_info.net_version,
    "net_listening": node_info.net_listening,
    "net_peerCount": node_info.net_peer_count,
    "web3_clientVersion": node_info.client_version,
    "web3_sha3": node_info.sha3,
    "txpool_status": node_info.txpool_status,
    "txpool_content": node_info.txpool_content,
    "txpool_contentFrom": node_info.txpool_content_from,
    "txpool_inspect": node_info.txpool_inspect,
    "hyperdust_getCertificate": ours.get_certificate,
    "hyperdust_getRawBlock": ours.get_raw_block,
    "hyperdust_getReward": ours.get_reward,
    "hyperdust_usefulness": ours.usefulness,
    "hyperdust_getJob": ours.get_job,
    "hyperdust_getProviders": ours.get_providers,
    "hyperdust_getCredit": ours.get_credit,
    "hyperdust_finality": finality.finality,
    "hyperdust_pegStatus": peg.peg_status,
    "hyperdust_getPegState": peg.get_peg_state,
    "hyperdust_submitEvidence": peg.submit_evidence,
    "hyperdust_getPendingEvidence": peg.get_pending_evidence,
    "hyperdust_announceDeposit": peg.announce_deposit,
    "hyperdust_getAnnouncedDeposits": peg.get_announced_deposits,
    "hyperdust_getDeposit": transfers.get_deposit,
    "hyperdust_getWithdrawal": transfers.get_withdrawal,
    "hyperdust_getAnchors": peg.get_anchors,
    "hyperdust_getAnchorFacts": peg.get_anchor_facts,
    "hyperdust_getDispute": ours.get_dispute,
}

DEBUG_METHODS: Final[Mapping[str, Callable[..., object]]] = {
    "debug_traceTransaction": debug.trace_transaction,
    "debug_traceBlockByNumber": debug.trace_block_by_number,
    "debug_traceBlockByHash": debug.trace_block_by_hash,
    "debug_traceCall": debug.trace_call,
    "debug_getRawHeader": debug.get_raw_header,
    "debug_getRawBlock": debug.get_raw_block,
    "debug_getRawTransaction": debug.get_raw_transaction,
    "debug_getRawReceipts": debug.get_raw_receipts,
    "debug_getBadBlocks": debug.get_bad_blocks,
}

FOREIGN_METHODS: Final[Mapping[str, Callable[..., object]]] = {
    "testing_buildBlockV1": testing.build_block,
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One positional parameter."""

    name: str
    type: object
    """A key of `PARSERS`."""
    required: bool
    """Otherwise absent and null mean the default."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method and what it takes."""

    name: str
    handler: Callable[..., object]
    parameters: tuple[Parameter, ...]

    def call(self, request: Request, params: Sequence[Any]) -> object:
        """Parse positional parameters and run.

        Raises:
            InvalidParams: too few, too many, or one that does not parse.
            RpcError: what the method says.
        """
        if len(params) > len(self.parameters):
            raise InvalidParams(f"too many arguments, want at most {len(self.parameters)}")
        arguments: dict[str, object] = {}
        for index, parameter in enumerate(self.parameters):
            value = params[index] if index < len(params) else None
            if value is None and not parameter.required:
                continue
            if value is None:
                raise InvalidParams(f"missing value for required argument {index}")
            try:
                arguments[parameter.name] = PARSERS[parameter.type](value)
            except InvalidParams as error:
                raise InvalidParams(f"invalid argument {index}: {error.message}") from error
        return self.handler(request, **arguments)


def describe(name: str, handler: Callable[..., object]) -> Method:
    """A method from its Python signature: the first parameter is the request, the others have types in `PARSERS`."""
    hints = get_type_hints(handler)
    listed = list(inspect.signature(handler).parameters.values())[1:]
    parameters = [
        Parameter(one.name, hints[one.name], required=one.default is inspect.Parameter.empty) for one in listed
    ]
    return Method(name, handler, tuple(parameters))


def build_table(*, debug_enabled: bool, foreign: bool = False) -> dict[str, Method]:
    """All methods that this server offers, by name; an imported chain has none of our contracts."""
    chosen = dict(METHODS)
    if foreign:
        chosen = {name: handler for name, handler in METHODS.items() if not name.startswith("hyperdust_")}
        chosen |= FOREIGN_METHODS
    if debug_enabled:
        chosen |= DEBUG_METHODS
    return {name: describe(name, handler) for name, handler in chosen.items()}

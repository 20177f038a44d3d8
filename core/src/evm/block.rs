//! A block's transition: system calls, transactions, withdrawals, requests, roots.

use std::sync::Arc;

use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bloom, Bytes, U256, address};
use alloy_trie::root::{ordered_trie_root, ordered_trie_root_encoded};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use revm::ExecuteEvm;
use revm::context::result::{EVMError, ExecutionResult};
use revm::primitives::hardfork::SpecId;

use super::convert::{address_of, bytes_of, optional, python_bytes};
use super::environment::Environment;
use super::machine::{
    Machine, Rejection, Steps, Stop, checked_system_call, machine, requests_hash,
};
use super::overlay::Overlay;
use super::precompiles::Registry;
use super::reader::{Reader, StateCache, Writes};
use super::receipt::{Fields, Outcome, Receipt};
use super::transaction::{Decoded, Transaction};

const BEACON_ROOTS: Address = address!("000f3df6d732807ef1319fb7b8bb8522d0beac02"); // EIP-4788
const HISTORY: Address = address!("0000f90827f1c53a10cb7a02335b175320002935"); // EIP-2935
const WITHDRAWAL_REQUESTS: (Address, u8) =
    (address!("00000961ef480eb55e80d19ad83579a64c007002"), 1); // EIP-7002
const CONSOLIDATION_REQUESTS: (Address, u8) =
    (address!("0000bbddc7ce488642fb579f8b00f3a590007251"), 2); // EIP-7251
const WEI_PER_GWEI: u64 = 1_000_000_000;

/// A system call that the caller asks for.
pub struct SystemCall {
    to: Address,
    data: Bytes,
    request_type: Option<u8>,
}

impl SystemCall {
    pub fn list(calls: &Bound<'_, PyAny>) -> PyResult<Vec<Self>> {
        let one = |call: PyResult<Bound<'_, PyAny>>| {
            let call = call?;
            Ok(Self {
                to: address_of(&call.getattr("to")?)?,
                data: bytes_of(&call.getattr("data")?)?,
                request_type: optional(&call, "request_type", |value| value.extract())?,
            })
        };
        calls.try_iter()?.map(one).collect()
    }
}

/// Everything that a block's transition depends on, beside the state.
pub struct Block {
    pub environment: Environment,
    pub transactions: Vec<Arc<Decoded>>,
    pub before: Vec<SystemCall>,
    pub after: Vec<SystemCall>,
    pub withdrawals: Vec<Withdrawal>,
    pub skips: bool,
    pub system_contracts: bool,
}

/// What a block's transition did.
struct Executed {
    receipts: Vec<Arc<Fields>>,
    gas_used: u64,
    blob_gas_used: u64,
    bloom: Bloom,
    writes: Writes,
    state_root: B256,
    receipts_root: B256,
    transactions_root: B256,
    withdrawals_root: Option<B256>,
    requests: Vec<Bytes>,
    requests_hash: Option<B256>,
    included: Vec<usize>,
    skipped: Vec<(usize, Rejection)>,
}

pub fn effective_gas_price(max_fee: u128, tip: Option<u128>, base_fee: u64) -> u128 {
    tip.map_or(max_fee, |tip| {
        max_fee.min(tip.saturating_add(base_fee.into()))
    })
}

impl Block {
    fn overlay<'a>(&self, reader: &'a Reader) -> Result<Overlay<'a>, Stop> {
        let mut overlay = Overlay::new(reader, self.environment.spec);
        let mut addresses = vec![self.environment.coinbase];
        let mut slots = Vec::new();
        for transaction in &self.transactions {
            let transaction = &transaction.environment;
            addresses.push(transaction.caller);
            addresses.extend(transaction.kind.to());
            for item in &transaction.access_list.0 {
                addresses.push(item.address);
                slots.extend(
                    item.storage_keys
                        .iter()
                        .map(|slot| (item.address, U256::from_be_bytes(slot.0))),
                );
            }
        }
        addresses.extend(self.withdrawals.iter().map(|withdrawal| withdrawal.address));
        addresses.extend(self.before.iter().chain(&self.after).map(|call| call.to));
        if self.system_contracts && self.environment.is(SpecId::CANCUN) {
            addresses.extend([
                BEACON_ROOTS,
                HISTORY,
                WITHDRAWAL_REQUESTS.0,
                CONSOLIDATION_REQUESTS.0,
            ]);
        }
        overlay.prefetch(&addresses, &slots)?;
        Ok(overlay)
    }

    /// The system calls that open the block (EIP-4788, EIP-2935, the caller's).
    pub fn open<'a>(
        &self,
        reader: &'a Reader,
        registry: &Arc<Registry>,
    ) -> Result<Machine<'a, ()>, Stop> {
        let environment = &self.environment;
        let mut machine = machine(
            environment,
            environment.config(),
            self.overlay(reader)?,
            registry,
            (),
        );
        let opening = [
            (SpecId::CANCUN, BEACON_ROOTS, environment.parent_beacon_root),
            (SpecId::PRAGUE, HISTORY, environment.parent_hash),
        ];
        for (fork, contract, word) in opening {
            if let Some(word) = word.filter(|_| self.system_contracts && environment.is(fork))
                && machine.ctx.journaled_state.database.has_code(&contract)?
            {
                machine.system_call(contract, Bytes::copy_from_slice(word.as_slice()))?;
            }
        }
        for call in &self.before {
            checked_system_call(&mut machine, call.to, call.data.clone())?;
        }
        Ok(machine)
    }

    /// Rules about a transaction in its block, which revm does not know.
    fn check(&self, transaction: &Decoded, gas_used: u64, blobs: u64) -> Result<(), Rejection> {
        let transaction = &transaction.environment;
        if transaction.tx_type == 3 && !self.environment.allow_blobs {
            return Err(Rejection::small("BlobTransactionRefused", &[]));
        }
        let total = blobs + transaction.blob_hashes.len() as u64;
        if !transaction.blob_hashes.is_empty() && total > self.environment.max_blobs {
            return Err(Rejection::small(
                "TooManyBlobs",
                &[total.into(), self.environment.max_blobs.into()],
            ));
        }
        let left = self.environment.gas_limit.saturating_sub(gas_used);
        if transaction.gas_limit > left {
            return Err(Rejection::small(
                "BlockGasLimitReached",
                &[transaction.gas_limit.into(), left.into()],
            ));
        }
        Ok(())
    }

    fn execute(&self, reader: &Reader, registry: &Arc<Registry>) -> Result<Executed, Stop> {
        let environment = &self.environment;
        let mut machine = self.open(reader, registry)?;
        let (mut receipts, mut included, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        let (mut gas_used, mut blobs, mut bloom) = (0, 0, Bloom::ZERO);
        for (index, transaction) in self.transactions.iter().enumerate() {
            let outcome = match self.check(transaction, gas_used, blobs) {
                Ok(()) => run(&mut machine, transaction, environment)?,
                Err(rejection) => Err(rejection),
            };
            let result = match outcome {
                Ok(result) => result,
                Err(rejection) if self.skips => {
                    skipped.push((index, rejection));
                    continue;
                }
                Err(rejection) => return Err(Stop::Rejected(index, rejection)),
            };
            gas_used += result.tx_gas_used();
            blobs += transaction.environment.blob_hashes.len() as u64;
            let success = result.is_success();
            let outcome = if environment.is(SpecId::BYZANTIUM) {
                Outcome::Status(success)
            } else {
                Outcome::Root(machine.ctx.journaled_state.database.finish()?.0)
            };
            let receipt = receipt(transaction, result, outcome, gas_used, environment);
            bloom |= receipt.bloom;
            receipts.push(Arc::new(receipt));
            included.push(index);
        }
        for withdrawal in &self.withdrawals {
            let amount = U256::from(withdrawal.amount) * U256::from(WEI_PER_GWEI);
            machine
                .ctx
                .journaled_state
                .database
                .credit(&withdrawal.address, amount)?;
        }
        let requests = self.close(&mut machine)?;
        let (state_root, writes) = machine.ctx.journaled_state.database.finish()?;
        let encoded: Vec<Vec<u8>> = receipts.iter().map(|receipt| receipt.encode()).collect();
        let raws: Vec<&Bytes> = included
            .iter()
            .map(|index| &self.transactions[*index].raw)
            .collect();
        Ok(Executed {
            receipts,
            gas_used,
            blob_gas_used: blobs * alloy_eips::eip4844::DATA_GAS_PER_BLOB,
            bloom,
            writes,
            state_root,
            receipts_root: ordered_trie_root_encoded(&encoded),
            transactions_root: ordered_trie_root_encoded(&raws),
            withdrawals_root: environment
                .is(SpecId::SHANGHAI)
                .then(|| ordered_trie_root(&self.withdrawals)),
            requests_hash: environment
                .is(SpecId::PRAGUE)
                .then(|| requests_hash(&requests)),
            requests,
            included,
            skipped,
        })
    }

    /// The system calls that close the block (EIP-7002, EIP-7251, the caller's): their requests.
    fn close(&self, machine: &mut Machine<'_, ()>) -> Result<Vec<Bytes>, Stop> {
        let mut requests = Vec::new();
        let mut request = |kind: u8, data: &Bytes| {
            if !data.is_empty() {
                requests.push(Bytes::from([&[kind], data.as_ref()].concat()));
            }
        };
        if self.system_contracts && self.environment.is(SpecId::PRAGUE) {
            for (contract, kind) in [WITHDRAWAL_REQUESTS, CONSOLIDATION_REQUESTS] {
                if machine.ctx.journaled_state.database.has_code(&contract)? {
                    request(kind, &checked_system_call(machine, contract, Bytes::new())?);
                }
            }
        }
        for call in &self.after {
            let data = checked_system_call(machine, call.to, call.data.clone())?;
            if let Some(kind) = call.request_type {
                request(kind, &data);
            }
        }
        Ok(requests)
    }
}

/// Runs one transaction and commits what it did.
pub fn run(
    machine: &mut Machine<'_, ()>,
    transaction: &Decoded,
    environment: &Environment,
) -> Result<Result<ExecutionResult, Rejection>, Stop> {
    match machine.transact(transaction.environment.clone()) {
        Ok(outcome) => {
            machine.ctx.journaled_state.database.commit(outcome.state);
            Ok(Ok(outcome.result))
        }
        Err(EVMError::Transaction(error)) => Ok(Err(Rejection::from_revm(
            &error,
            &transaction.environment,
            environment,
        ))),
        Err(error) => Err(Stop::Fault(error.to_string())),
    }
}

fn receipt(
    transaction: &Decoded,
    result: ExecutionResult,
    outcome: Outcome,
    cumulative_gas_used: u64,
    environment: &Environment,
) -> Fields {
    let transaction = &transaction.environment;
    let success = result.is_success();
    let gas_used = result.tx_gas_used();
    let logs = if success {
        result.into_logs()
    } else {
        Vec::new()
    };
    Fields {
        r#type: transaction.tx_type,
        outcome,
        success,
        cumulative_gas_used,
        gas_used,
        effective_gas_price: effective_gas_price(
            transaction.gas_price,
            transaction.gas_priority_fee,
            environment.base_fee,
        ),
        bloom: Fields::bloom_of(&logs),
        logs,
        contract_address: transaction
            .kind
            .is_create()
            .then(|| transaction.caller.create(transaction.nonce)),
    }
}

pub fn withdrawals_of(withdrawals: &Bound<'_, PyAny>) -> PyResult<Vec<Withdrawal>> {
    let one = |withdrawal: PyResult<Bound<'_, PyAny>>| {
        let (index, validator_index, address, amount): (u64, u64, Bound<'_, PyAny>, u64) =
            withdrawal?.extract()?;
        Ok(Withdrawal {
            index,
            validator_index,
            address: address_of(&address)?,
            amount,
        })
    };
    withdrawals.try_iter()?.map(one).collect()
}

pub fn transactions_of(transactions: &Bound<'_, PyAny>) -> PyResult<Vec<Arc<Decoded>>> {
    let one = |transaction: PyResult<Bound<'_, PyAny>>| {
        Ok(Arc::clone(&transaction?.cast::<Transaction>()?.get().inner))
    };
    transactions.try_iter()?.map(one).collect()
}

pub fn python_writes<'py>(py: Python<'py>, writes: &Writes) -> PyResult<Bound<'py, PyTuple>> {
    let pairs = writes.iter().map(|(key, value)| {
        let value = value.as_ref().map(|value| python_bytes(py, value));
        (python_bytes(py, key), value)
    });
    PyTuple::new(py, pairs.collect::<Vec<_>>())
}

/// Executes a block; the fields of `chain.engine.Executed` in order.
#[pyfunction]
#[pyo3(signature = (environment, transactions, read_many, precompiles, before, after, withdrawals, skips, system_contracts, cache=None))]
#[allow(clippy::too_many_arguments)] // a pure function takes all that it needs
pub fn execute<'py>(
    py: Python<'py>,
    environment: &Bound<'py, PyAny>,
    transactions: &Bound<'py, PyAny>,
    read_many: Py<PyAny>,
    precompiles: &Bound<'py, PyAny>,
    before: &Bound<'py, PyAny>,
    after: &Bound<'py, PyAny>,
    withdrawals: &Bound<'py, PyAny>,
    skips: bool,
    system_contracts: bool,
    cache: Option<&StateCache>,
) -> PyResult<Bound<'py, PyTuple>> {
    let block = Block {
        environment: Environment::from_python(environment)?,
        transactions: transactions_of(transactions)?,
        before: SystemCall::list(before)?,
        after: SystemCall::list(after)?,
        withdrawals: withdrawals_of(withdrawals)?,
        skips,
        system_contracts,
    };
    let registry = Registry::from_python(precompiles)?;
    let reader = Reader::new(read_many, cache);
    let done = py
        .detach(|| block.execute(&reader, &registry))
        .map_err(|stop| stop.into_python(&reader))?;

    let receipts = PyTuple::new(py, done.receipts.into_iter().map(|inner| Receipt { inner }))?;
    let skipped = PyList::empty(py);
    for (index, rejection) in &done.skipped {
        skipped.append((*index, rejection.rule, rejection.values(py)?))?;
    }
    let optional_hash = |hash: Option<B256>| hash.map(|hash| python_bytes(py, hash));
    PyTuple::new(
        py,
        [
            receipts.into_any(),
            done.gas_used.into_pyobject(py)?.into_any(),
            python_bytes(py, done.bloom).into_any(),
            python_writes(py, &done.writes)?.into_any(),
            python_bytes(py, done.state_root).into_any(),
            python_bytes(py, done.receipts_root).into_any(),
            python_bytes(py, done.transactions_root).into_any(),
            optional_hash(done.withdrawals_root)
                .into_pyobject(py)?
                .into_any(),
            PyTuple::new(
                py,
                done.requests
                    .iter()
                    .map(|request| python_bytes(py, request)),
            )?
            .into_any(),
            optional_hash(done.requests_hash)
                .into_pyobject(py)?
                .into_any(),
            PyTuple::new(py, done.included)?.into_any(),
            skipped.into_any(),
            done.blob_gas_used.into_pyobject(py)?.into_any(),
        ],
    )
}

//! Messages tried on a state without changing it: calls, access lists, simulations, traces.

use std::sync::Arc;

use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes};
use alloy_rpc_types_trace::geth::GethDebugTracingOptions;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use revm::bytecode::OpCode;
use revm::context::result::{EVMError, ExecutionResult, HaltReason, ResultAndState};
use revm::context::{CfgEnv, TxEnv};
use revm::interpreter::Interpreter;
use revm::interpreter::interpreter_types::Jumps;
use revm::primitives::TxKind;
use revm::{DatabaseRef, ExecuteEvm, InspectEvm, Inspector};
use revm_inspectors::access_list::AccessListInspector;
use revm_inspectors::tracing::{DebugInspector, TransactionContext};

use super::block::{Block, SystemCall, python_writes, run, transactions_of};
use super::convert::{
    address_of, bytes_of, hash_of, integer_of, optional, python_bytes, python_hashes, u128_of,
};
use super::environment::Environment;
use super::machine::{Ctx, Fault, Machine, Rejection, Stop, halt_text, machine};
use super::overlay::{Overlay, Override};
use super::precompiles::Registry;
use super::reader::{Reader, StateCache, Writes};
use super::receipt::python_logs;
use super::state::override_of;

/// Access lists settle after a few runs; geth loops until they do.
const ACCESS_LIST_RUNS: usize = 8;

struct Message {
    transaction: TxEnv,
    has_nonce: bool,
}

fn access_list_of(list: &Bound<'_, PyAny>) -> PyResult<AccessList> {
    let one = |item: PyResult<Bound<'_, PyAny>>| {
        let (address, slots): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
        let storage_keys = slots
            .try_iter()?
            .map(|slot| hash_of(&slot?))
            .collect::<PyResult<_>>()?;
        Ok(AccessListItem {
            address: address_of(&address)?,
            storage_keys,
        })
    };
    list.try_iter()?
        .map(one)
        .collect::<PyResult<Vec<_>>>()
        .map(AccessList)
}

impl Message {
    fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let field = |name: &str| object.getattr(name);
        let nonce: Option<u64> = field("nonce")?.extract()?;
        let access_list = access_list_of(&field("access_list")?)?;
        let blob_hashes: Vec<B256> = field("blob_hashes")?
            .try_iter()?
            .map(|hash| hash_of(&hash?))
            .collect::<PyResult<_>>()?;
        let gas_priority_fee = optional(object, "max_priority_fee", u128_of)?;
        let tx_type = match (
            blob_hashes.is_empty(),
            gas_priority_fee.is_some(),
            access_list.0.is_empty(),
        ) {
            (false, ..) => 3,
            (true, true, _) => 2,
            (true, false, false) => 1,
            (true, false, true) => 0,
        };
        let transaction = TxEnv {
            tx_type,
            caller: address_of(&field("sender")?)?,
            gas_limit: field("gas")?.extract()?,
            gas_price: u128_of(&field("gas_price")?)?,
            kind: optional(object, "to", address_of)?.map_or(TxKind::Create, TxKind::Call),
            value: integer_of(&field("value")?)?,
            data: bytes_of(&field("data")?)?,
            nonce: nonce.unwrap_or_default(),
            chain_id: None,
            access_list,
            gas_priority_fee,
            blob_hashes,
            max_fee_per_blob_gas: u128_of(&field("max_fee_per_blob_gas")?)?,
            authorization_list: Vec::new(),
        };
        Ok(Self {
            transaction,
            has_nonce: nonce.is_some(),
        })
    }
}

/// What all kinds of trial need.
struct Trial {
    environment: Environment,
    overrides: Vec<(Address, Override)>,
    registry: Arc<Registry>,
    reader: Reader,
    /// Whether BASEFEE shows the block's even to who pays nothing: in simulations, as geth.
    keeps_base_fee: bool,
}

impl Trial {
    fn from_python(
        environment: &Bound<'_, PyAny>,
        overrides: &Bound<'_, PyDict>,
        precompiles: &Bound<'_, PyAny>,
        read_many: Py<PyAny>,
        cache: Option<&StateCache>,
    ) -> PyResult<Self> {
        let one = |(address, change): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            Ok((address_of(&address)?, override_of(&change)?))
        };
        Ok(Self {
            environment: Environment::from_python(environment)?,
            overrides: overrides.iter().map(one).collect::<PyResult<_>>()?,
            registry: Registry::from_python(precompiles)?,
            reader: Reader::new(read_many, cache),
            keeps_base_fee: false,
        })
    }

    /// Rules that do not bind a message without a signature.
    fn lenient(&self) -> CfgEnv {
        let mut config = self.environment.config();
        config.tx_chain_id_check = false;
        config.disable_nonce_check = true;
        config.disable_eip3607 = true;
        config.disable_block_gas_limit = true;
        config.tx_gas_limit_cap = Some(u64::MAX);
        config
    }

    fn machine<I>(
        &self,
        config: CfgEnv,
        message: Option<&TxEnv>,
        inspector: I,
    ) -> Result<Machine<'_, I>, Stop> {
        let mut overlay = Overlay::new(&self.reader, self.environment.spec);
        let mut addresses: Vec<Address> =
            self.overrides.iter().map(|(address, _)| *address).collect();
        addresses.push(self.environment.coinbase);
        addresses.extend(message.map(|message| message.caller));
        addresses.extend(message.and_then(|message| message.kind.to().copied()));
        overlay.prefetch(&addresses, &[])?;
        for (address, change) in &self.overrides {
            overlay.set(address, change.clone())?;
        }
        Ok(machine(
            &self.environment,
            config,
            overlay,
            &self.registry,
            inspector,
        ))
    }

    /// As geth: without a price there is no base fee either.
    fn set_fees<I>(&self, machine: &mut Machine<'_, I>, transaction: &TxEnv) {
        let free = transaction.gas_price == 0 && machine.ctx.cfg.disable_nonce_check;
        machine.ctx.cfg.disable_base_fee = free;
        let hidden = free && !self.keeps_base_fee;
        machine.ctx.block.basefee = if hidden { 0 } else { self.environment.base_fee };
    }

    fn named(
        &self,
        outcome: Result<ResultAndState, Fault>,
        transaction: &TxEnv,
        index: usize,
    ) -> Result<ResultAndState, Stop> {
        outcome.map_err(|error| match error {
            EVMError::Transaction(error) => Stop::Rejected(
                index,
                Rejection::from_revm(&error, transaction, &self.environment),
            ),
            error => Stop::Fault(error.to_string()),
        })
    }

    /// Runs one message; nothing is committed.
    fn run(
        &self,
        machine: &mut Machine<'_, ()>,
        transaction: &TxEnv,
        index: usize,
    ) -> Result<ResultAndState, Stop> {
        self.set_fees(machine, transaction);
        self.named(machine.transact(transaction.clone()), transaction, index)
    }

    /// Runs one message under an inspector; nothing is committed.
    fn inspect<'a, I: Inspector<Ctx<'a>>>(
        &self,
        machine: &mut Machine<'a, I>,
        transaction: &TxEnv,
    ) -> Result<ResultAndState, Stop> {
        self.set_fees(machine, transaction);
        self.named(machine.inspect_tx(transaction.clone()), transaction, 0)
    }
}

/// The last instruction that was tried: geth's messages name it.
#[derive(Default)]
struct LastStep {
    opcode: u8,
    stack: usize,
}

impl<CTX> Inspector<CTX> for LastStep {
    fn step(&mut self, interpreter: &mut Interpreter, _context: &mut CTX) {
        self.opcode = interpreter.bytecode.opcode();
        self.stack = interpreter.stack.len();
    }
}

/// Why a message failed, if it did.
fn plain_error(result: &ExecutionResult) -> Option<String> {
    match result {
        ExecutionResult::Success { .. } => None,
        ExecutionResult::Revert { .. } => Some("execution reverted".to_owned()),
        ExecutionResult::Halt { reason, .. } => Some(halt_text(reason)),
    }
}

/// The same; where the reason alone does not say enough, by running the message once more.
fn error_text(
    trial: &Trial,
    transaction: &TxEnv,
    result: &ExecutionResult,
) -> Result<Option<String>, Stop> {
    let ExecutionResult::Halt { reason, .. } = result else {
        return Ok(plain_error(result));
    };
    let unknown = matches!(
        reason,
        HaltReason::OpcodeNotFound | HaltReason::NotActivated
    );
    if !unknown && !matches!(reason, HaltReason::StackUnderflow) {
        return Ok(plain_error(result));
    }
    let mut machine = trial.machine(trial.lenient(), Some(transaction), LastStep::default())?;
    trial.inspect(&mut machine, transaction)?;
    let LastStep { opcode, stack } = machine.inspector;
    if unknown {
        return Ok(Some(format!(
            "invalid opcode: opcode {opcode:#x} not defined"
        )));
    }
    let wanted = OpCode::new(opcode).map_or(0, |opcode| opcode.inputs());
    Ok(Some(format!("stack underflow ({stack} <=> {wanted})")))
}

/// (success, output, gas used, gas refunded, error, logs, created): the fields of `chain.engine.CallResult`.
fn python_result<'py>(
    py: Python<'py>,
    result: ExecutionResult,
    error: Option<String>,
    trace: Option<String>,
) -> PyResult<Bound<'py, PyTuple>> {
    let gas = *result.gas();
    let (success, output, created) = match &result {
        ExecutionResult::Success { output, .. } => {
            (true, output.data().clone(), output.address().copied())
        }
        ExecutionResult::Revert { output, .. } => (false, output.clone(), None),
        ExecutionResult::Halt { .. } => (false, Bytes::new(), None),
    };
    let logs = if success {
        result.into_logs()
    } else {
        Vec::new()
    };
    (
        success,
        python_bytes(py, output),
        gas.tx_gas_used(),
        gas.final_refunded(),
        error,
        python_logs(py, &logs)?,
        created.map(|address| python_bytes(py, address)),
        trace,
    )
        .into_pyobject(py)
}

fn tracer_of(config: &str) -> PyResult<DebugInspector> {
    let options: GethDebugTracingOptions =
        serde_json::from_str(config).map_err(|error| PyValueError::new_err(error.to_string()))?;
    DebugInspector::new(options).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The tracer's JSON about the transaction that just ran.
fn trace_text<'a>(
    machine: &mut Machine<'a, DebugInspector>,
    transaction: &TxEnv,
    outcome: &ResultAndState,
    context: Option<TransactionContext>,
) -> Result<String, Stop> {
    let block = machine.ctx.block.clone();
    let database = &mut machine.ctx.journaled_state.database;
    let trace = machine
        .inspector
        .get_result(context, transaction, &block, outcome, database)
        .map_err(|error| Stop::Fault(error.to_string()))?;
    serde_json::to_string(&trace).map_err(|error| Stop::Fault(error.to_string()))
}

/// Tries one message.
#[pyfunction]
#[pyo3(signature = (environment, message, read_many, overrides, precompiles, trace, cache=None))]
#[allow(clippy::too_many_arguments)] // a pure function takes all that it needs
pub fn call<'py>(
    py: Python<'py>,
    environment: &Bound<'py, PyAny>,
    message: &Bound<'py, PyAny>,
    read_many: Py<PyAny>,
    overrides: &Bound<'py, PyDict>,
    precompiles: &Bound<'py, PyAny>,
    trace: Option<&str>,
    cache: Option<&StateCache>,
) -> PyResult<Bound<'py, PyTuple>> {
    let trial = Trial::from_python(environment, overrides, precompiles, read_many, cache)?;
    let transaction = Message::from_python(message)?.transaction;
    let tracer = trace.map(tracer_of).transpose()?;
    let work = || {
        let (result, text) = match tracer {
            None => {
                let mut machine = trial.machine(trial.lenient(), Some(&transaction), ())?;
                (trial.run(&mut machine, &transaction, 0)?.result, None)
            }
            Some(tracer) => {
                let mut machine = trial.machine(trial.lenient(), Some(&transaction), tracer)?;
                let outcome = trial.inspect(&mut machine, &transaction)?;
                let text = trace_text(&mut machine, &transaction, &outcome, None)?;
                (outcome.result, Some(text))
            }
        };
        let error = error_text(&trial, &transaction, &result)?;
        Ok((result, error, text))
    };
    let (result, error, text) = py
        .detach(work)
        .map_err(|stop: Stop| stop.into_python(&trial.reader))?;
    python_result(py, result, error, text)
}

/// The access list that a message would use, the gas that it uses with it, its error.
#[pyfunction]
#[pyo3(signature = (environment, message, read_many, overrides, precompiles, cache=None))]
pub fn create_access_list<'py>(
    py: Python<'py>,
    environment: &Bound<'py, PyAny>,
    message: &Bound<'py, PyAny>,
    read_many: Py<PyAny>,
    overrides: &Bound<'py, PyDict>,
    precompiles: &Bound<'py, PyAny>,
    cache: Option<&StateCache>,
) -> PyResult<Bound<'py, PyTuple>> {
    let trial = Trial::from_python(environment, overrides, precompiles, read_many, cache)?;
    let mut transaction = Message::from_python(message)?.transaction;
    let work = || {
        let mut runs = 0;
        loop {
            let inspector = AccessListInspector::new(transaction.access_list.clone());
            let mut machine = trial.machine(trial.lenient(), Some(&transaction), inspector)?;
            let outcome = trial.inspect(&mut machine, &transaction)?;
            let list = machine.inspector.into_access_list();
            runs += 1;
            if list == transaction.access_list || runs == ACCESS_LIST_RUNS {
                let error = error_text(&trial, &transaction, &outcome.result)?;
                return Ok((list, outcome.result, error));
            }
            transaction.access_list = list;
            transaction.tx_type = transaction.tx_type.max(1);
        }
    };
    let (list, result, error) = py
        .detach(work)
        .map_err(|stop: Stop| stop.into_python(&trial.reader))?;
    let mut items = Vec::new();
    for item in &list.0 {
        items.push((
            python_bytes(py, item.address),
            python_hashes(py, &item.storage_keys)?,
        ));
    }
    (PyTuple::new(py, items)?, result.tx_gas_used(), error).into_pyobject(py)
}

/// Tries messages one after another, each on what the ones before it left: results, writes, state root.
#[pyfunction]
#[pyo3(signature = (environment, messages, read_many, overrides, precompiles, validates, cache=None))]
#[allow(clippy::too_many_arguments)] // a pure function takes all that it needs
pub fn simulate<'py>(
    py: Python<'py>,
    environment: &Bound<'py, PyAny>,
    messages: &Bound<'py, PyAny>,
    read_many: Py<PyAny>,
    overrides: &Bound<'py, PyDict>,
    precompiles: &Bound<'py, PyAny>,
    validates: bool,
    cache: Option<&StateCache>,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut trial = Trial::from_python(environment, overrides, precompiles, read_many, cache)?;
    trial.keeps_base_fee = true;
    let messages: Vec<Message> = messages
        .try_iter()?
        .map(|message| Message::from_python(&message?))
        .collect::<PyResult<_>>()?;
    let work = || {
        let mut config = trial.lenient();
        config.disable_nonce_check = !validates;
        config.disable_eip3607 = !validates;
        let mut machine = trial.machine(config, None, ())?;
        let mut results = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let mut transaction = message.transaction.clone();
            if !message.has_nonce {
                let account = machine
                    .ctx
                    .journaled_state
                    .database
                    .basic_ref(transaction.caller)?;
                transaction.nonce = account.map_or(0, |account| account.nonce);
            }
            let outcome = trial.run(&mut machine, &transaction, index)?;
            machine.ctx.journaled_state.database.commit(outcome.state);
            results.push(outcome.result);
        }
        let (root, writes) = machine.ctx.journaled_state.database.finish()?;
        Ok((results, writes, root))
    };
    let (results, writes, root): (Vec<ExecutionResult>, Writes, B256) = py
        .detach(work)
        .map_err(|stop: Stop| stop.into_python(&trial.reader))?;
    let out = PyList::empty(py);
    for result in results {
        let error = plain_error(&result);
        out.append(python_result(py, result, error, None)?)?;
    }
    (out, python_writes(py, &writes)?, python_bytes(py, root)).into_pyobject(py)
}

/// Traces a block's transactions from index `first` on; one JSON text each.
#[pyfunction]
#[pyo3(signature = (environment, transactions, read_many, precompiles, before, first, config, cache=None))]
#[allow(clippy::too_many_arguments)] // a pure function takes all that it needs
pub fn trace_transactions<'py>(
    py: Python<'py>,
    environment: &Bound<'py, PyAny>,
    transactions: &Bound<'py, PyAny>,
    read_many: Py<PyAny>,
    precompiles: &Bound<'py, PyAny>,
    before: &Bound<'py, PyAny>,
    first: usize,
    config: &str,
    cache: Option<&StateCache>,
) -> PyResult<Vec<String>> {
    let block = Block {
        environment: Environment::from_python(environment)?,
        transactions: transactions_of(transactions)?,
        before: SystemCall::list(before)?,
        after: Vec::new(),
        withdrawals: Vec::new(),
        skips: false,
        system_contracts: true,
    };
    let registry = Registry::from_python(precompiles)?;
    let reader = Reader::new(read_many, cache);
    let tracer = tracer_of(config)?;
    let work = || {
        let mut machine = block.open(&reader, &registry)?;
        let (skipped, traced) = block
            .transactions
            .split_at(first.min(block.transactions.len()));
        for (index, transaction) in skipped.iter().enumerate() {
            run(&mut machine, transaction, &block.environment)?
                .map_err(|rejection| Stop::Rejected(index, rejection))?;
        }
        let mut machine = machine.with_inspector(tracer);
        let mut texts = Vec::new();
        for (offset, transaction) in traced.iter().enumerate() {
            let index = first + offset;
            machine
                .inspector
                .fuse()
                .map_err(|error| Stop::Fault(error.to_string()))?;
            let outcome = match machine.inspect_tx(transaction.environment.clone()) {
                Ok(outcome) => outcome,
                Err(EVMError::Transaction(error)) => {
                    let rejection =
                        Rejection::from_revm(&error, &transaction.environment, &block.environment);
                    return Err(Stop::Rejected(index, rejection));
                }
                Err(error) => return Err(Stop::Fault(error.to_string())),
            };
            let context = TransactionContext {
                block_hash: None,
                tx_index: Some(index),
                tx_hash: Some(transaction.hash),
            };
            texts.push(trace_text(
                &mut machine,
                &transaction.environment,
                &outcome,
                Some(context),
            )?);
            machine.ctx.journaled_state.database.commit(outcome.state);
        }
        Ok(texts)
    };
    py.detach(work)
        .map_err(|stop: Stop| stop.into_python(&reader))
}

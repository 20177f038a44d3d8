//! One revm machine over an overlay, and what its errors are called.

use alloy_primitives::{Address, B256, Bytes, U256, address};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use revm::ExecuteEvm;
use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction};
use revm::context::{BlockEnv, CfgEnv, Context, Evm, FrameStack, Journal, TxEnv};
use revm::handler::instructions::EthInstructions;
use revm::handler::{EthFrame, Handler, MainnetHandler};
use revm::interpreter::interpreter::EthInterpreter;
use revm::primitives::TxKind;

use super::convert::python_integer;
use super::environment::Environment;
use super::overlay::Overlay;
use super::precompiles::{Precompiles, Registry};
use super::reader::{ReadFault, Reader, StateFault};
use super::transaction::TransactionRejected;

pub type Ctx<'a> = Context<BlockEnv, TxEnv, CfgEnv, Overlay<'a>, Journal<Overlay<'a>>, ()>;
pub type Machine<'a, I> = Evm<
    Ctx<'a>,
    I,
    EthInstructions<EthInterpreter, Ctx<'a>>,
    Precompiles<'a>,
    EthFrame<EthInterpreter>,
>;
pub type Fault = EVMError<ReadFault, InvalidTransaction>;

pub const SYSTEM_ADDRESS: Address = address!("fffffffffffffffffffffffffffffffffffffffe");
const SYSTEM_GAS: u64 = 30_000_000; // EIP-4788

pub fn machine<'a, I>(
    environment: &Environment,
    config: CfgEnv,
    overlay: Overlay<'a>,
    registry: &std::sync::Arc<Registry>,
    inspector: I,
) -> Machine<'a, I> {
    let reader = overlay.reader();
    let mut context: Ctx<'a> = Context::new(overlay, environment.spec);
    context.cfg = config;
    context.block = environment.block();
    Evm {
        ctx: context,
        inspector,
        instruction: EthInstructions::new_mainnet_with_spec(environment.spec),
        precompiles: Precompiles::new(environment.spec, std::sync::Arc::clone(registry), reader),
        frame_stack: FrameStack::new_prealloc(8),
    }
}

/// Why execution stopped for good.
pub enum Stop {
    /// The transaction at this index breaks a rule.
    Rejected(usize, Rejection),
    /// Reading failed, or what was read cannot be.
    Fault(String),
}

impl Stop {
    pub fn into_python(self, reader: &Reader) -> PyErr {
        if reader.faulted() {
            return reader.take_fault();
        }
        match self {
            Self::Fault(text) => StateFault::new_err(text),
            Self::Rejected(index, rejection) => Python::attach(|py| match rejection.values(py) {
                Ok(values) => {
                    TransactionRejected::new_err((index, rejection.rule, values.unbind()))
                }
                Err(error) => error,
            }),
        }
    }
}

impl From<ReadFault> for Stop {
    fn from(fault: ReadFault) -> Self {
        Self::Fault(fault.to_string())
    }
}

/// Name of a class in `chain/transactions.py` and its values.
pub struct Rejection {
    pub rule: &'static str,
    values: Vec<U256>,
}

impl Rejection {
    pub fn new(rule: &'static str, values: &[U256]) -> Self {
        Self {
            rule,
            values: values.to_vec(),
        }
    }

    pub fn small(rule: &'static str, values: &[u128]) -> Self {
        Self {
            rule,
            values: values.iter().map(|value| U256::from(*value)).collect(),
        }
    }

    pub fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let values: PyResult<Vec<_>> = self
            .values
            .iter()
            .map(|value| python_integer(py, value))
            .collect();
        PyTuple::new(py, values?)
    }

    pub fn from_revm(
        error: &InvalidTransaction,
        transaction: &TxEnv,
        environment: &Environment,
    ) -> Self {
        use InvalidTransaction as Invalid;
        let price = transaction.gas_price;
        match error {
            Invalid::PriorityFeeGreaterThanMaxFee => Self::small(
                "TipAboveFeeCap",
                &[transaction.gas_priority_fee.unwrap_or_default(), price],
            ),
            Invalid::GasPriceLessThanBasefee => {
                Self::small("FeeCapBelowBaseFee", &[price, environment.base_fee.into()])
            }
            Invalid::CallerGasLimitMoreThanBlock => Self::small(
                "BlockGasLimitReached",
                &[transaction.gas_limit.into(), environment.gas_limit.into()],
            ),
            Invalid::CallGasCostMoreThanGasLimit {
                initial_gas,
                gas_limit,
            } => Self::small(
                "IntrinsicGasTooLow",
                &[(*gas_limit).into(), (*initial_gas).into()],
            ),
            Invalid::GasFloorMoreThanGasLimit {
                gas_floor,
                gas_limit,
            } => Self::small(
                "FloorDataGasTooLow",
                &[(*gas_limit).into(), (*gas_floor).into()],
            ),
            Invalid::RejectCallerWithCode => Self::small("SenderNotEOA", &[]),
            Invalid::LackOfFundForMaxFee { fee, balance } => {
                Self::new("InsufficientFunds", &[**balance, **fee])
            }
            Invalid::OverflowPaymentInTransaction => Self::small("PaymentOverflow", &[]),
            Invalid::NonceOverflowInTransaction => Self::small("NonceOverflow", &[]),
            Invalid::NonceTooHigh { tx, state } => {
                Self::small("NonceTooHigh", &[(*tx).into(), (*state).into()])
            }
            Invalid::NonceTooLow { tx, state } => {
                Self::small("NonceTooLow", &[(*tx).into(), (*state).into()])
            }
            Invalid::CreateInitCodeSizeLimit => {
                Self::small("InitcodeTooLarge", &[transaction.data.len() as u128])
            }
            Invalid::InvalidChainId | Invalid::MissingChainId => {
                let got = transaction.chain_id.unwrap_or_default();
                Self::small("WrongChainId", &[got.into(), environment.chain_id.into()])
            }
            Invalid::TxGasLimitGreaterThanCap { gas_limit, cap } => {
                Self::small("GasLimitTooHigh", &[(*gas_limit).into(), (*cap).into()])
            }
            Invalid::BlobGasPriceGreaterThanMax {
                block_blob_gas_price,
                tx_max_fee_per_blob_gas,
            } => Self::small(
                "BlobFeeCapTooLow",
                &[*tx_max_fee_per_blob_gas, *block_blob_gas_price],
            ),
            Invalid::EmptyBlobs => Self::small("MissingBlobHashes", &[]),
            Invalid::BlobCreateTransaction => Self::small("BlobCreate", &[]),
            Invalid::TooManyBlobs { max, have } => {
                Self::small("TooManyBlobs", &[*have as u128, *max as u128])
            }
            Invalid::BlobVersionNotSupported => Self::small("BlobVersion", &[]),
            Invalid::EmptyAuthorizationList => Self::small("EmptyAuthorizationList", &[]),
            _ => Self::small("TypeNotSupported", &[transaction.tx_type.into()]),
        }
    }
}

/// Why a call stopped, in geth's words.
pub fn halt_text(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(_) => "out of gas",
        HaltReason::OpcodeNotFound | HaltReason::NotActivated => "invalid opcode",
        HaltReason::InvalidFEOpcode => "invalid opcode: INVALID",
        HaltReason::InvalidJump => "invalid jump destination",
        HaltReason::StackUnderflow => "stack underflow",
        HaltReason::StackOverflow => "stack limit reached 1024 (1023)",
        HaltReason::OutOfOffset => "return data out of bounds",
        HaltReason::CreateCollision => "contract address collision",
        HaltReason::NonceOverflow => "nonce uint64 overflow",
        HaltReason::CreateContractSizeLimit => "max code size exceeded",
        HaltReason::CreateContractStartingWithEF => "invalid code: must not begin with 0xef",
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded",
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => {
            "write protection"
        }
        HaltReason::OutOfFunds => "insufficient balance for transfer",
        HaltReason::CallTooDeep => "max call depth exceeded",
        HaltReason::PrecompileErrorWithContext(text) => text,
        HaltReason::PrecompileError | HaltReason::OverflowPayment => "precompile failed",
    }
    .to_owned()
}

/// What a machine does beside running transactions.
pub trait Steps {
    /// A call by the system: no fees, no nonce; what it did is committed.
    fn system_call(&mut self, to: Address, data: Bytes) -> Result<ExecutionResult, Stop>;
}

impl Steps for Machine<'_, ()> {
    fn system_call(&mut self, to: Address, data: Bytes) -> Result<ExecutionResult, Stop> {
        self.ctx.tx = TxEnv {
            caller: SYSTEM_ADDRESS,
            kind: TxKind::Call(to),
            data,
            gas_limit: SYSTEM_GAS,
            ..TxEnv::default()
        };
        let result = MainnetHandler::<_, Fault, _>::default().run_system_call(self);
        let state = self.finalize();
        let result = result.map_err(|error| Stop::Fault(error.to_string()))?;
        self.ctx.journaled_state.database.commit(state);
        Ok(result)
    }
}

/// A system call that must not fail: its output.
pub fn checked_system_call(
    machine: &mut Machine<'_, ()>,
    to: Address,
    data: Bytes,
) -> Result<Bytes, Stop> {
    match machine.system_call(to, data)? {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(Stop::Fault(format!(
            "system call to {to} reverted with {output}"
        ))),
        ExecutionResult::Halt { reason, .. } => Err(Stop::Fault(format!(
            "system call to {to} failed: {}",
            halt_text(&reason)
        ))),
    }
}

/// sha256 of the sha256 of each request (EIP-7685).
pub fn requests_hash(requests: &[Bytes]) -> B256 {
    alloy_eips::eip7685::Requests::new(requests.to_vec()).requests_hash()
}

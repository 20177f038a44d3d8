//! The chain's own precompiles beside Ethereum's: native kernels and Python functions.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::{Address, Bytes, map::AddressSet};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use revm::context::Cfg;
use revm::context_interface::ContextTr;
use revm::handler::{EthPrecompiles, PrecompileProvider};
use revm::interpreter::{CallInputs, Gas, InstructionResult, InterpreterResult};
use revm::primitives::hardfork::SpecId;

use super::convert::{address_of, python_bytes};
use super::reader::Reader;
#[cfg(feature = "pouw")]
use crate::pouw::elements::{CALLS, Call, Plan};

/// A native implementation: output, or None for a malformed input.
pub type Kernel = fn(&[u8]) -> Option<Vec<u8>>;

/// Kernels by the name that `precompiles/registry.py` uses; those of `pouw` stand in its own table.
const KERNELS: &[(&str, Kernel)] = &[("blake3", |input| {
    Some(blake3::hash(input).as_bytes().to_vec())
})];

enum Implementation {
    Native(Kernel),
    #[cfg(feature = "pouw")]
    Planned(for<'a> fn(&'a [u8]) -> Option<Plan<'a>>),
    Python(Py<PyAny>),
    /// One of Ethereum's that is taken away: the account's own code runs.
    Absent,
}

impl Implementation {
    fn native(name: &str) -> Option<Self> {
        if name == "absent" {
            return Some(Self::Absent);
        }
        #[cfg(feature = "pouw")]
        if let Some((_, call)) = CALLS.iter().find(|(known, _)| *known == name) {
            return Some(match call {
                Call::Plain(kernel) => Self::Native(*kernel),
                Call::Planned(plan) => Self::Planned(*plan),
            });
        }
        let found = KERNELS.iter().find(|(known, _)| *known == name)?;
        Some(Self::Native(found.1))
    }
}

/// A planned call's units are so many to the gas of a rate.
#[cfg(feature = "pouw")]
const UNITS: u64 = 1024;

struct Custom {
    implementation: Implementation,
    base_gas: u64,
    /// Gas per word of input; then, by kind, gas per 1,024 units of the work that a call plans.
    rates: Vec<u64>,
}

impl Custom {
    /// A kind without a rate is never done.
    #[cfg(feature = "pouw")]
    fn price(&self, work: &[(usize, u64)]) -> u64 {
        work.iter().fold(0u64, |all, &(kind, units)| {
            let rate = self.rates.get(kind).copied().filter(|&rate| rate > 0);
            let gas = rate.map_or(u64::MAX, |rate| units.saturating_mul(rate).div_ceil(UNITS));
            all.saturating_add(gas)
        })
    }
}

/// What the caller registered; shared by all calls of one execution.
#[derive(Default)]
pub struct Registry {
    by_address: HashMap<Address, Custom>,
}

impl Registry {
    /// From a sequence of (address, kernel name or function, base gas, gas per word or a tuple of rates).
    pub fn from_python(entries: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let mut by_address = HashMap::new();
        for entry in entries.try_iter()? {
            let (address, implementation, base_gas, rates): (
                Bound<'_, PyAny>,
                Bound<'_, PyAny>,
                u64,
                Bound<'_, PyAny>,
            ) = entry?.extract()?;
            let rates = match rates.extract::<u64>() {
                Ok(gas_per_word) => vec![gas_per_word],
                Err(_) => rates.extract()?,
            };
            let implementation = match implementation.extract::<String>() {
                Ok(name) => Implementation::native(&name)
                    .ok_or_else(|| PyValueError::new_err(format!("no native kernel {name:?}")))?,
                Err(_) => Implementation::Python(implementation.unbind()),
            };
            by_address.insert(
                address_of(&address)?,
                Custom {
                    implementation,
                    base_gas,
                    rates,
                },
            );
        }
        Ok(Arc::new(Self { by_address }))
    }
}

#[derive(Clone)]
pub struct Precompiles<'a> {
    ethereum: EthPrecompiles,
    registry: Arc<Registry>,
    warm: AddressSet,
    reader: &'a Reader,
}

impl<'a> Precompiles<'a> {
    pub fn new(spec: SpecId, registry: Arc<Registry>, reader: &'a Reader) -> Self {
        let ethereum = EthPrecompiles::new(spec);
        let mut warm = AddressSet::default();
        warm.clone_from(ethereum.warm_addresses());
        // A function stands where the caller put it for one call; the chain does not know that address as warm.
        let known = |(address, custom): (&Address, &Custom)| {
            (!matches!(custom.implementation, Implementation::Python(_))).then_some(*address)
        };
        warm.extend(registry.by_address.iter().filter_map(known));
        Self {
            ethereum,
            registry,
            warm,
            reader,
        }
    }
}

impl<CTX: ContextTr<Cfg: Cfg<Spec = SpecId>>> PrecompileProvider<CTX> for Precompiles<'_> {
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: SpecId) -> bool {
        // One execution has one fork.
        debug_assert_eq!(spec, self.ethereum.spec);
        false
    }

    fn run(
        &mut self,
        context: &mut CTX,
        inputs: &CallInputs,
    ) -> Result<Option<InterpreterResult>, String> {
        let Some(custom) = self.registry.by_address.get(&inputs.bytecode_address) else {
            return self.ethereum.run(context, inputs);
        };
        let input = inputs.input.as_bytes(context);
        let words = input.len().div_ceil(32) as u64;
        let gas_per_word = custom.rates.first().copied().unwrap_or(0);
        let cost = gas_per_word
            .saturating_mul(words)
            .saturating_add(custom.base_gas);
        let mut gas = Gas::new(inputs.gas_limit);
        if !gas.record_regular_cost(cost) {
            return Ok(Some(out_of_gas(gas)));
        }
        let output = match &custom.implementation {
            Implementation::Absent => return Ok(None),
            Implementation::Native(kernel) => kernel(&input),
            // What reading costs is paid above; the work is paid before it is done.
            #[cfg(feature = "pouw")]
            Implementation::Planned(plan) => match plan(&input) {
                Some(plan) if !gas.record_regular_cost(custom.price(&plan.work)) => {
                    return Ok(Some(out_of_gas(gas)));
                }
                Some(plan) => (plan.run)(),
                None => None,
            },
            // A Python exception is our own fault, not the caller's: it ends the execution.
            Implementation::Python(function) => call_python(function, &input)
                .map_err(|error| self.reader.fail(error).to_string())?,
        };
        Ok(Some(match output {
            Some(output) => InterpreterResult::new(InstructionResult::Return, output.into(), gas),
            None => {
                gas.spend_all();
                InterpreterResult::new(InstructionResult::PrecompileError, Bytes::new(), gas)
            }
        }))
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.warm
    }
}

fn out_of_gas(mut gas: Gas) -> InterpreterResult {
    gas.spend_all();
    InterpreterResult::new(InstructionResult::PrecompileOOG, Bytes::new(), gas)
}

fn call_python(function: &Py<PyAny>, input: &[u8]) -> PyResult<Option<Vec<u8>>> {
    Python::attach(|py| {
        let output = function.bind(py).call1((python_bytes(py, input),))?;
        let output: Option<Bound<'_, PyBytes>> = output.extract()?;
        Ok(output.map(|bytes| bytes.as_bytes().to_vec()))
    })
}

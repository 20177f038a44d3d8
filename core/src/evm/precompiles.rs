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

/// A native implementation: output, or None for a malformed input.
pub type Kernel = fn(&[u8]) -> Option<Vec<u8>>;

/// Kernels by the name that `precompiles/registry.py` uses. Those of `pouw` are added here.
const KERNELS: &[(&str, Kernel)] = &[("blake3", |input| {
    Some(blake3::hash(input).as_bytes().to_vec())
})];

enum Implementation {
    Native(Kernel),
    Python(Py<PyAny>),
}

struct Custom {
    implementation: Implementation,
    base_gas: u64,
    gas_per_word: u64,
}

/// What the caller registered; shared by all calls of one execution.
#[derive(Default)]
pub struct Registry {
    by_address: HashMap<Address, Custom>,
}

impl Registry {
    /// From a sequence of (address, kernel name or function, base gas, gas per word).
    pub fn from_python(entries: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let mut by_address = HashMap::new();
        for entry in entries.try_iter()? {
            let (address, implementation, base_gas, gas_per_word): (
                Bound<'_, PyAny>,
                Bound<'_, PyAny>,
                u64,
                u64,
            ) = entry?.extract()?;
            let implementation = match implementation.extract::<String>() {
                Ok(name) => Implementation::Native(
                    KERNELS
                        .iter()
                        .find(|(known, _)| *known == name)
                        .map(|(_, kernel)| *kernel)
                        .ok_or_else(|| {
                            PyValueError::new_err(format!("no native kernel {name:?}"))
                        })?,
                ),
                Err(_) => Implementation::Python(implementation.unbind()),
            };
            by_address.insert(
                address_of(&address)?,
                Custom {
                    implementation,
                    base_gas,
                    gas_per_word,
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
        warm.extend(registry.by_address.keys().copied());
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
        let cost = custom
            .gas_per_word
            .saturating_mul(words)
            .saturating_add(custom.base_gas);
        let mut gas = Gas::new(inputs.gas_limit);
        if !gas.record_regular_cost(cost) {
            gas.spend_all();
            return Ok(Some(InterpreterResult::new(
                InstructionResult::PrecompileOOG,
                Bytes::new(),
                gas,
            )));
        }
        let output = match &custom.implementation {
            Implementation::Native(kernel) => kernel(&input),
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

fn call_python(function: &Py<PyAny>, input: &[u8]) -> PyResult<Option<Vec<u8>>> {
    Python::attach(|py| {
        let output = function.bind(py).call1((python_bytes(py, input),))?;
        let output: Option<Bound<'_, PyBytes>> = output.extract()?;
        Ok(output.map(|bytes| bytes.as_bytes().to_vec()))
    })
}

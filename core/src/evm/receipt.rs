//! Receipts: fields, encoding, roots.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bloom, Log as EvmLog, logs_bloom};
use alloy_rlp::{BufMut, Encodable, Header};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::convert::{python_bytes, python_hashes};

/// What the first field of a receipt says.
pub enum Outcome {
    Status(bool),
    /// Before Byzantium: the state root after the transaction.
    Root(B256),
}

pub struct Fields {
    pub r#type: u8,
    pub outcome: Outcome,
    pub success: bool,
    pub cumulative_gas_used: u64,
    pub gas_used: u64,
    pub effective_gas_price: u128,
    pub logs: Vec<EvmLog>,
    pub bloom: Bloom,
    pub contract_address: Option<Address>,
}

impl Fields {
    pub fn encode(&self) -> Vec<u8> {
        let outcome: &dyn Encodable = match &self.outcome {
            Outcome::Status(status) => status,
            Outcome::Root(root) => root,
        };
        let payload_length = outcome.length()
            + self.cumulative_gas_used.length()
            + self.bloom.length()
            + self.logs.length();
        let mut out = Vec::with_capacity(payload_length + 8);
        if self.r#type != 0 {
            out.put_u8(self.r#type);
        }
        Header {
            list: true,
            payload_length,
        }
        .encode(&mut out);
        outcome.encode(&mut out);
        self.cumulative_gas_used.encode(&mut out);
        self.bloom.encode(&mut out);
        self.logs.encode(&mut out);
        out
    }

    pub fn bloom_of(logs: &[EvmLog]) -> Bloom {
        if logs.is_empty() {
            Bloom::ZERO
        } else {
            logs_bloom(logs.iter())
        }
    }
}

/// What one transaction did. Fields become Python objects when they are asked for.
#[pyclass(frozen, module = "hyperdust_core")]
pub struct Receipt {
    pub inner: Arc<Fields>,
}

/// One event.
#[pyclass(frozen, get_all, module = "hyperdust_core")]
pub struct Log {
    address: Py<PyBytes>,
    topics: Py<PyTuple>,
    data: Py<PyBytes>,
}

pub fn python_logs<'py>(py: Python<'py>, logs: &[EvmLog]) -> PyResult<Bound<'py, PyTuple>> {
    let logs: PyResult<Vec<Log>> = logs
        .iter()
        .map(|log| {
            Ok(Log {
                address: python_bytes(py, log.address).unbind(),
                topics: python_hashes(py, log.topics())?.unbind(),
                data: python_bytes(py, &log.data.data).unbind(),
            })
        })
        .collect();
    PyTuple::new(py, logs?)
}

#[pymethods]
impl Receipt {
    #[getter]
    fn r#type(&self) -> u8 {
        self.inner.r#type
    }

    /// 1 or 0.
    #[getter]
    fn status(&self) -> u8 {
        u8::from(self.inner.success)
    }

    /// The state root after the transaction, before Byzantium only.
    #[getter]
    fn root<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        match &self.inner.outcome {
            Outcome::Status(_) => None,
            Outcome::Root(root) => Some(python_bytes(py, root)),
        }
    }

    #[getter]
    fn cumulative_gas_used(&self) -> u64 {
        self.inner.cumulative_gas_used
    }

    #[getter]
    fn gas_used(&self) -> u64 {
        self.inner.gas_used
    }

    #[getter]
    fn effective_gas_price(&self) -> u128 {
        self.inner.effective_gas_price
    }

    #[getter]
    fn logs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        python_logs(py, &self.inner.logs)
    }

    #[getter]
    fn bloom<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        python_bytes(py, self.inner.bloom)
    }

    #[getter]
    fn contract_address<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.inner
            .contract_address
            .map(|address| python_bytes(py, address))
    }

    /// EIP-2718 bytes.
    fn encode<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        python_bytes(py, self.inner.encode())
    }
}

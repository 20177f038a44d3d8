//! Transactions: decoding, signature recovery on all cores, what the engine makes of them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{EthereumTxEnvelope, Transaction as _, TxEip4844, Typed2718};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use rayon::prelude::*;
use revm::context::TxEnv;
use revm::context_interface::either::Either;

use super::convert::{python_bytes, python_hashes, python_integer};

create_exception!(
    hyperdust_core,
    TransactionRejected,
    PyException,
    "A transaction breaks a rule: (index, name of the rule, values)."
);

type Envelope = EthereumTxEnvelope<TxEip4844>;

pub struct Decoded {
    pub raw: Bytes,
    pub envelope: Envelope,
    pub hash: B256,
    pub environment: TxEnv,
}

/// One signed transaction with its recovered sender. Fields become Python objects when they are asked for.
#[pyclass(frozen, module = "hyperdust_core")]
#[derive(Clone)]
pub struct Transaction {
    pub inner: Arc<Decoded>,
}

/// Why bytes are no transaction.
enum Refused {
    Malformed(String),
    BadSignature,
}

fn decode(raw: Bytes) -> Result<Decoded, Refused> {
    let envelope =
        Envelope::decode_2718_exact(&raw).map_err(|error| Refused::Malformed(error.to_string()))?;
    // Rejects a high s (EIP-2).
    let sender = envelope
        .recover_signer()
        .map_err(|_| Refused::BadSignature)?;
    let authorizations = envelope.authorization_list().unwrap_or_default();
    let environment = TxEnv {
        tx_type: envelope.ty(),
        caller: sender,
        gas_limit: envelope.gas_limit(),
        gas_price: envelope.max_fee_per_gas(),
        kind: envelope.kind(),
        value: envelope.value(),
        data: envelope.input().clone(),
        nonce: envelope.nonce(),
        chain_id: envelope.chain_id(),
        access_list: envelope.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: envelope.max_priority_fee_per_gas(),
        blob_hashes: envelope
            .blob_versioned_hashes()
            .unwrap_or_default()
            .to_vec(),
        max_fee_per_blob_gas: envelope.max_fee_per_blob_gas().unwrap_or_default(),
        authorization_list: authorizations
            .iter()
            .map(|signed| Either::Right(signed.clone().into_recovered()))
            .collect(),
    };
    let hash = keccak256(&raw);
    Ok(Decoded {
        raw,
        envelope,
        hash,
        environment,
    })
}

/// Decodes raw EIP-2718 transactions and recovers their senders, in parallel.
#[pyfunction]
pub fn decode_transactions(py: Python<'_>, raws: &Bound<'_, PyAny>) -> PyResult<Py<PyList>> {
    let mut bytes = Vec::new();
    for raw in raws.try_iter()? {
        bytes.push(Bytes::copy_from_slice(raw?.cast::<PyBytes>()?.as_bytes()));
    }
    let decoded: Vec<Result<Decoded, Refused>> =
        py.detach(|| bytes.into_par_iter().map(decode).collect());
    let mut transactions = Vec::with_capacity(decoded.len());
    for (index, result) in decoded.into_iter().enumerate() {
        match result {
            Ok(inner) => transactions.push(Transaction {
                inner: Arc::new(inner),
            }),
            Err(Refused::Malformed(text)) => {
                return Err(TransactionRejected::new_err((index, "Malformed", (text,))));
            }
            Err(Refused::BadSignature) => {
                return Err(TransactionRejected::new_err((index, "BadSignature", ())));
            }
        }
    }
    Ok(PyList::new(py, transactions)?.unbind())
}

#[pymethods]
impl Transaction {
    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        python_bytes(py, &self.inner.raw)
    }

    #[getter]
    fn hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        python_bytes(py, self.inner.hash)
    }

    #[getter]
    fn r#type(&self) -> u8 {
        self.inner.environment.tx_type
    }

    #[getter]
    fn sender<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        python_bytes(py, self.inner.environment.caller)
    }

    #[getter]
    fn nonce(&self) -> u64 {
        self.inner.environment.nonce
    }

    #[getter]
    fn to<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.inner
            .environment
            .kind
            .to()
            .map(|to| python_bytes(py, to))
    }

    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        python_integer(py, &self.inner.environment.value)
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        python_bytes(py, &self.inner.environment.data)
    }

    #[getter]
    fn gas_limit(&self) -> u64 {
        self.inner.environment.gas_limit
    }

    #[getter]
    fn max_fee_per_gas(&self) -> u128 {
        self.inner.environment.gas_price
    }

    #[getter]
    fn max_priority_fee_per_gas(&self) -> u128 {
        self.inner
            .environment
            .gas_priority_fee
            .unwrap_or(self.inner.environment.gas_price)
    }

    #[getter]
    fn access_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let items: PyResult<Vec<_>> = self
            .inner
            .environment
            .access_list
            .0
            .iter()
            .map(|item| {
                Ok((
                    python_bytes(py, item.address),
                    python_hashes(py, &item.storage_keys)?,
                ))
            })
            .collect();
        PyTuple::new(py, items?)
    }

    /// (chain id, address, nonce, y parity, r, s) of each authorization.
    #[getter]
    fn authorization_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let signed = self.inner.envelope.authorization_list().unwrap_or_default();
        let items: PyResult<Vec<_>> = signed
            .iter()
            .map(|item| {
                Ok((
                    python_integer(py, &item.chain_id)?,
                    python_bytes(py, item.address),
                    item.nonce,
                    item.y_parity(),
                    python_integer(py, &item.r())?,
                    python_integer(py, &item.s())?,
                ))
            })
            .collect();
        PyTuple::new(py, items?)
    }

    #[getter]
    fn blob_hashes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        python_hashes(py, &self.inner.environment.blob_hashes)
    }

    #[getter]
    fn max_fee_per_blob_gas(&self) -> u128 {
        self.inner.environment.max_fee_per_blob_gas
    }

    #[getter]
    fn chain_id(&self) -> Option<u64> {
        self.inner.environment.chain_id
    }

    #[getter]
    fn y_parity(&self) -> u8 {
        u8::from(self.inner.envelope.signature().v())
    }

    #[getter]
    fn v<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let parity = U256::from(self.y_parity());
        let v = match (
            self.inner.envelope.is_legacy(),
            self.inner.environment.chain_id,
        ) {
            (false, _) => parity,
            (true, None) => parity + U256::from(27),
            (true, Some(chain_id)) => {
                parity + U256::from(chain_id) * U256::from(2) + U256::from(35)
            }
        };
        python_integer(py, &v)
    }

    #[getter]
    fn r<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        python_integer(py, &self.inner.envelope.signature().r())
    }

    #[getter]
    fn s<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        python_integer(py, &self.inner.envelope.signature().s())
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.inner.raw == other.inner.raw
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.inner.hash.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!("Transaction({})", self.inner.hash)
    }
}

impl Transaction {
    pub fn sender_address(&self) -> Address {
        self.inner.environment.caller
    }
}

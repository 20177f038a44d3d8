//! Python values to Rust ones and back.

use alloy_primitives::{Address, B256, Bytes, U256};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

pub fn bytes_of(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    Ok(Bytes::copy_from_slice(value.cast::<PyBytes>()?.as_bytes()))
}

fn fixed<const N: usize>(value: &Bound<'_, PyAny>) -> PyResult<[u8; N]> {
    let bytes = value.cast::<PyBytes>()?.as_bytes();
    bytes
        .try_into()
        .map_err(|_| PyValueError::new_err(format!("{} bytes, not {N}", bytes.len())))
}

pub fn address_of(value: &Bound<'_, PyAny>) -> PyResult<Address> {
    fixed(value).map(Address::new)
}

pub fn hash_of(value: &Bound<'_, PyAny>) -> PyResult<B256> {
    fixed(value).map(B256::new)
}

pub fn integer_of(value: &Bound<'_, PyAny>) -> PyResult<U256> {
    if let Ok(small) = value.extract::<u64>() {
        return Ok(U256::from(small));
    }
    let bytes = value.call_method1("to_bytes", (32, "big"))?;
    fixed::<32>(&bytes).map(U256::from_be_bytes)
}

pub fn u128_of(value: &Bound<'_, PyAny>) -> PyResult<u128> {
    integer_of(value)?
        .try_into()
        .map_err(|_| PyOverflowError::new_err("above 2^128 - 1"))
}

/// An attribute that may be None.
pub fn optional<'py, T>(
    object: &Bound<'py, PyAny>,
    name: &str,
    convert: impl Fn(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    let value = object.getattr(name)?;
    if value.is_none() {
        Ok(None)
    } else {
        convert(&value).map(Some)
    }
}

pub fn python_bytes<'py>(py: Python<'py>, bytes: impl AsRef<[u8]>) -> Bound<'py, PyBytes> {
    PyBytes::new(py, bytes.as_ref())
}

pub fn python_integer<'py>(py: Python<'py>, value: &U256) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(small) = u64::try_from(*value) {
        return Ok(small.into_pyobject(py)?.into_any());
    }
    let bytes = python_bytes(py, value.to_be_bytes::<32>());
    py.get_type::<pyo3::types::PyInt>()
        .call_method1("from_bytes", (bytes, "big"))
}

pub fn python_hashes<'py>(py: Python<'py>, hashes: &[B256]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, hashes.iter().map(|hash| python_bytes(py, hash)))
}

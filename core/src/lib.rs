//! The inner loops of a Hyperdust node. Every function is pure; protocol decisions stay in Python.

use pyo3::prelude::*;

#[cfg(feature = "evm")]
mod evm;
#[cfg(feature = "pouw")]
mod pouw;

#[pymodule]
fn hyperdust_core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    #[cfg(feature = "evm")]
    evm::register(module)?;
    #[cfg(feature = "pouw")]
    pouw::register(module)?;
    Ok(())
}

//! Exact integer kernels, tensor commitments, tickets.

use pyo3::prelude::*;

mod blake3_tree;
mod kernel;
mod matmul;
mod noise;
mod ticket;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    blake3_tree::register(module)?;
    matmul::register(module)?;
    ticket::register(module)?;
    Ok(())
}

//! Exact integer kernels, tensor commitments, tickets.

use pyo3::prelude::*;

mod blake3_tree;
pub mod elements;
mod gather;
mod kernel;
mod matmul;
mod noise;
mod operators;
mod raster;
mod ticket;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    blake3_tree::register(module)?;
    elements::register(module)?;
    matmul::register(module)?;
    operators::register(module)?;
    raster::register(module)?;
    ticket::register(module)?;
    Ok(())
}

//! Exact integer kernels, tensor commitments, tickets.

use pyo3::prelude::*;

mod blake3_tree;
mod crew;
pub mod elements;
mod gather;
mod kernel;
mod matmul;
mod noise;
#[macro_use]
mod operators;
mod decoder;
mod moves;
mod raster;
mod sampling;
mod ticket;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    blake3_tree::register(module)?;
    elements::register(module)?;
    matmul::register(module)?;
    operators::register(module)?;
    decoder::register(module)?;
    moves::register(module)?;
    sampling::register(module)?;
    raster::register(module)?;
    ticket::register(module)?;
    Ok(())
}

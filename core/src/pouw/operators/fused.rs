//! A linear layer in one pass: quantised rows, product, rescaled while the sums are in cache, and what follows it.
//!
//! The same values as `row_maximum`, `quantize`, `matmul`, `rescale`, then `lookup`, or `add` and `layer_norm`.

// Indices name rows, columns, panels: an enumerate would hide which.
#![allow(clippy::needless_range_loop)]

use super::{
    Table, add_row, check_factors, clamp16, layer_norm_row, quantize_row, round_shift,
    row_maximum_row, same, unset2, within,
};
use crate::pouw::crew::each;
use crate::pouw::kernel::{self, Fold, Ints16, PANELS, ROWS, TILE, ZERO_INTS};
use crate::pouw::matmul::{Packed, PackedWeights, Pool, SERIAL_MACS, Shared, Tasks, each_block};
use numpy::{PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

struct Norm {
    gamma: Vec<i32>,
    beta: Vec<i32>,
    scaled_root: i64,
}

/// Buffers of a call.
#[derive(Default)]
struct Buffers {
    rows: Vec<u8>,
    maxima: Vec<i32>,
}

/// The constants of one layer.
#[pyclass(frozen)]
pub struct Linear {
    packed: Py<PackedWeights>,
    factors: Vec<i16>,
    q_max: i64,
    multipliers: Vec<Ints16>,
    bias: Vec<Ints16>,
    shift: u32,
    limit: i64,
    table: Option<Table>,
    norm: Option<Norm>,
    buffers: Pool<Buffers>,
}

versions! {
    /// Rescale one line of sums.
    fn rescale_lines(
        sums: &[[Ints16; PANELS]], maxima: &[i32], multipliers: &[Ints16], bias: &[Ints16], how: (u32, i64),
        out: &mut [[[i16; TILE]; PANELS]],
    ) {
        let (shift, limit) = how;
        for ((sums, &maximum), out) in sums.iter().zip(maxima).zip(out) {
            let constants = multipliers.iter().zip(bias);
            for ((sums, (multipliers, bias)), out) in sums.iter().zip(constants).zip(out) {
                for column in 0..TILE {
                    let wide = (i64::from(sums.0[column]) * i64::from(maximum))
                        .wrapping_mul(i64::from(multipliers.0[column]));
                    let y = round_shift(wide, shift).wrapping_add(i64::from(bias.0[column]));
                    out[column] = clamp16(y, limit);
                }
            }
        }
    }
}

/// One number for each column, in the panels' layout.
fn in_panels(row: &[i32]) -> Vec<Ints16> {
    let mut lines = vec![ZERO_INTS; row.len().div_ceil(TILE)];
    for (line, part) in lines.iter_mut().zip(row.chunks(TILE)) {
        line.0[..part.len()].copy_from_slice(part);
    }
    lines
}

impl Linear {
    /// Rows of A as the kernel reads them, and their maxima.
    fn quantize(&self, x: &[i16], packed: &Packed, parallel: bool, buffers: &mut Buffers) {
        let (k, width) = (packed.k, 4 * packed.groups);
        let m = x.len() / k;
        buffers.rows.resize(m * width, 0);
        buffers.maxima.resize(m, 0);
        let rows = Shared::new(&mut buffers.rows);
        let maxima = Shared::new(&mut buffers.maxima);
        each(parallel, m.div_ceil(16), |task| {
            for row in task * 16..m.min(task * 16 + 16) {
                // SAFETY: each row belongs to one task.
                let (to, maximum) = unsafe { (rows.part(row * width, k), maxima.part(row, 1)) };
                let x = &x[row * k..][..k];
                row_maximum_row(x, &self.factors, &mut maximum[0]);
                quantize_row(x, &self.factors, maximum[0], self.q_max, 0x80, to);
            }
        });
    }

    /// `out[m][n]`: the product rescaled, looked up where there is a table.
    fn multiply(&self, packed: &Packed, buffers: &Buffers, parallel: bool, out: &mut [i16]) {
        let (n, m) = (packed.n, buffers.maxima.len());
        let path = kernel::detect();
        let shared = Shared::new(out);
        let tasks = Tasks::new(m, packed);
        each(parallel, tasks.count(), |task| {
            let mut sums = [[ZERO_INTS; PANELS]; ROWS];
            let mut scaled = [[[0i16; TILE]; PANELS]; ROWS];
            let part = tasks.part(task);
            each_block(part, (&buffers.rows, packed), |row, first, block| {
                let (count, panels) = (block.rows.len(), block.panels.len());
                let columns = (panels * TILE).min(n - first * TILE);
                kernel::run(path, block, None::<&mut Fold<'_>>, &mut sums);
                rescale_lines(
                    &sums[..count],
                    &buffers.maxima[row..row + count],
                    &self.multipliers[first..first + panels],
                    &self.bias[first..first + panels],
                    (self.shift, self.limit),
                    &mut scaled,
                );
                for (index, scaled) in scaled.iter().enumerate().take(count) {
                    // SAFETY: tasks differ in rows or panels.
                    let to = unsafe { shared.part((row + index) * n + first * TILE, columns) };
                    match <&mut [i16; PANELS * TILE]>::try_from(&mut *to) {
                        Ok(to) => to.copy_from_slice(scaled.as_flattened()),
                        Err(_) => to.copy_from_slice(&scaled.as_flattened()[..columns]),
                    }
                    if let Some(table) = &self.table {
                        table.look_up(to);
                    }
                }
            });
        });
    }

    /// `out = layer_norm(residual + out)`, row by row.
    fn normalize(&self, norm: &Norm, residual: &[i16], n: usize, parallel: bool, out: &mut [i16]) {
        let m = out.len() / n;
        let shared = Shared::new(out);
        each(parallel, m.div_ceil(16), |task| {
            let mut sums = vec![0; n];
            for row in task * 16..m.min(task * 16 + 16) {
                // SAFETY: each row belongs to one task.
                let to = unsafe { shared.part(row * n, n) };
                add_row(&residual[row * n..][..n], to, &mut sums);
                layer_norm_row(&sums, &norm.gamma, &norm.beta, norm.scaled_root, to);
            }
        });
    }
}

#[pymethods]
impl Linear {
    /// `table`: what follows the product. `norm`: gamma, beta and the scaled root, after `add` of a residual.
    #[new]
    #[pyo3(signature = (packed, factors, q_max, multipliers, bias, shift, limit, table=None, norm=None))]
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn new(
        packed: Bound<'_, PackedWeights>,
        factors: PyReadonlyArray1<'_, i16>,
        q_max: i64,
        multipliers: PyReadonlyArray1<'_, i32>,
        bias: PyReadonlyArray1<'_, i32>,
        shift: u32,
        limit: i64,
        table: Option<PyReadonlyArray1<'_, i16>>,
        norm: Option<(PyReadonlyArray1<'_, i32>, PyReadonlyArray1<'_, i32>, i64)>,
    ) -> PyResult<Self> {
        let (n, k) = (packed.get().packed.n, packed.get().packed.k);
        let factors = factors.as_slice()?.to_vec();
        let (multipliers, bias) = (multipliers.as_slice()?, bias.as_slice()?);
        same("factors", factors.len(), k)?;
        check_factors(&factors)?;
        within("q_max", (1..=127).contains(&q_max))?;
        within("shift", (1..=62).contains(&shift))?;
        within("limit", (1..=32_767).contains(&limit))?;
        within("shape", n >= 1 && k >= 1)?;
        same("multipliers", multipliers.len(), n)?;
        same("bias", bias.len(), n)?;
        let table = match table {
            Some(table) => {
                same("table", table.as_slice()?.len(), 16_384)?;
                Some(Table::new(table.as_slice()?))
            }
            None => None,
        };
        let norm = match norm {
            Some((gamma, beta, scaled_root)) => {
                let (gamma, beta) = (gamma.as_slice()?.to_vec(), beta.as_slice()?.to_vec());
                within("width", n <= 1024)?;
                same("gamma", gamma.len(), n)?;
                same("beta", beta.len(), n)?;
                Some(Norm {
                    gamma,
                    beta,
                    scaled_root,
                })
            }
            None => None,
        };
        Ok(Linear {
            packed: packed.unbind(),
            factors,
            q_max,
            multipliers: in_panels(multipliers),
            bias: in_panels(bias),
            shift,
            limit,
            table,
            norm,
            buffers: Pool::new(),
        })
    }

    /// `x: int16[m, k] -> int16[m, n]`.
    #[pyo3(signature = (x, residual=None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<'py, i16>,
        residual: Option<PyReadonlyArray2<'py, i16>>,
    ) -> PyResult<Bound<'py, PyArray2<i16>>> {
        let width = self.width();
        let rows = x.shape()[0];
        let out = unset2::<i16>(py, [rows, width]);
        {
            let residual = match &residual {
                Some(residual) => Some((residual.as_slice()?, residual.shape()[1])),
                None => None,
            };
            self.check(
                (rows, x.shape()[1]),
                residual.map(|(held, width)| (held.len() / width.max(1), width)),
            )?;
            let (x, residual) = (x.as_slice()?, residual.map(|(held, _)| held));
            let mut writable = out.readwrite();
            let to = writable.as_slice_mut()?;
            py.detach(|| self.apply(x, residual, to));
        }
        Ok(out)
    }
}

impl Linear {
    /// Columns of the output.
    pub fn width(&self) -> usize {
        self.packed.get().packed.n
    }

    /// Refuse what `apply` does not take: shapes of x and of the residual.
    pub fn check(&self, (m, k): (usize, usize), residual: Option<(usize, usize)>) -> PyResult<()> {
        same("k", k, self.packed.get().packed.k)?;
        within("rows", m >= 1)?;
        match (residual, &self.norm) {
            (Some((rows, width)), Some(_)) => {
                same("residual rows", rows, m)?;
                same("residual columns", width, self.width())
            }
            (None, None) => Ok(()),
            _ => Err(PyValueError::new_err("a residual goes with a norm")),
        }
    }

    /// `out[m][n]` from `x[m][k]`, both checked.
    pub fn apply(&self, x: &[i16], residual: Option<&[i16]>, out: &mut [i16]) {
        let packed = &self.packed.get().packed;
        let parallel = out.len() * packed.k >= SERIAL_MACS;
        self.buffers.with(|buffers| {
            self.quantize(x, packed, parallel, buffers);
            self.multiply(packed, buffers, parallel, out);
            if let (Some(norm), Some(residual)) = (&self.norm, residual) {
                self.normalize(norm, residual, packed.n, parallel, out);
            }
        });
    }
}

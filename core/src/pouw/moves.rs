//! Operators that only move int16: rows by number (`pouw/operators/embedding.py`), columns as rows
//! (`pouw/operators/decoder.py`). What they take and give does not stay in cache, so lines are read and written once.

use super::crew::{self, each};
use super::matmul::Shared;
use numpy::{PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Below this many entries an operator stays on the calling thread.
const SERIAL: usize = 1 << 16;
/// Rows and columns turned at a time: some lines of each row, all of which stay in L1 until they are used up.
const TILE: usize = 64;
/// Rows and columns that are turned in registers.
const SQUARE: usize = 8;

fn within(what: &str, fits: bool) -> PyResult<()> {
    if fits {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{what} out of range")))
}

#[pyfunction]
fn embedding<'py>(
    py: Python<'py>,
    ids: PyReadonlyArray1<'py, i32>,
    table: PyReadonlyArray2<'py, i16>,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let [rows, n] = [table.shape()[0], table.shape()[1]];
    let (ids, table) = (ids.as_slice()?, table.as_slice()?);
    let known = ids
        .iter()
        .all(|&id| usize::try_from(id).is_ok_and(|id| id < rows));
    within("id", known && n > 0)?;
    // SAFETY: every entry is written below before anyone sees it.
    let out = unsafe { PyArray2::<i16>::new(py, [ids.len(), n], false) };
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let parallel = to.len() >= SERIAL;
        let per_task = match parallel {
            true => ids.len().div_ceil(4 * crew::threads()),
            false => ids.len().max(1),
        };
        let shared = Shared::new(to);
        each(parallel, ids.len().div_ceil(per_task), |task| {
            let first = task * per_task;
            let ids = &ids[first..ids.len().min(first + per_task)];
            // SAFETY: tasks differ in rows.
            let to = unsafe { shared.part(first * n, ids.len() * n) };
            for (&id, to) in ids.iter().zip(to.chunks_exact_mut(n)) {
                to.copy_from_slice(&table[id as usize * n..][..n]);
            }
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn transpose_columns<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, i16>,
    offset: usize,
    count: usize,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let [m, n] = [x.shape()[0], x.shape()[1]];
    let end = offset.checked_add(count);
    within("columns", m > 0 && end.is_some_and(|end| end <= n))?;
    let x = x.as_slice()?;
    // SAFETY: every entry is written below before anyone sees it.
    let out = unsafe { PyArray2::<i16>::new(py, [count, m], false) };
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let shared = Shared::new(to);
        let [down, across] = [m, count].map(|side| side.div_ceil(TILE));
        each(m * count >= SERIAL, down * across, |task| {
            let [rows, columns] = [(task % down, m), (task / down, count)]
                .map(|(tile, side)| tile * TILE..side.min(tile * TILE + TILE));
            let from = |row: usize, column: usize| &x[row * n + offset + column..];
            for column in columns.clone().step_by(SQUARE) {
                for row in rows.clone().step_by(SQUARE) {
                    let [high, wide] = [rows.end - row, columns.end - column];
                    // SAFETY: squares differ in what they write: `high.min(8)` entries of `wide.min(8)` rows.
                    let part =
                        |j: usize, size| unsafe { shared.part((column + j) * m + row, size) };
                    if high >= SQUARE && wide >= SQUARE {
                        let square = std::array::from_fn(|i| {
                            let given: &[i16] = from(row + i, column);
                            std::array::from_fn(|j| given[..SQUARE][j])
                        });
                        for (j, line) in turn(square).iter().enumerate() {
                            part(j, SQUARE).copy_from_slice(line);
                        }
                        continue;
                    }
                    for j in 0..wide.min(SQUARE) {
                        for (i, to) in part(j, high.min(SQUARE)).iter_mut().enumerate() {
                            *to = from(row + i, column + j)[0];
                        }
                    }
                }
            }
        });
    });
    drop(writable);
    Ok(out)
}

type Square = [[i16; SQUARE]; SQUARE];

#[cfg(not(target_arch = "x86_64"))]
fn turn(rows: Square) -> Square {
    std::array::from_fn(|j| rows.map(|row| row[j]))
}

/// Interleave neighbours, pairs of them, then halves.
#[cfg(target_arch = "x86_64")]
fn turn(rows: Square) -> Square {
    use std::arch::x86_64::{
        __m128i, _mm_unpackhi_epi16 as high16, _mm_unpackhi_epi32 as high32,
        _mm_unpackhi_epi64 as high64, _mm_unpacklo_epi16 as low16, _mm_unpacklo_epi32 as low32,
        _mm_unpacklo_epi64 as low64,
    };
    // SAFETY: both are 128 bits, any of which are valid.
    let r: [__m128i; SQUARE] = unsafe { std::mem::transmute(rows) };
    // SAFETY: SSE2 is part of x86-64.
    let turned = unsafe {
        let pairs = [0, 2, 4, 6].map(|i| [low16(r[i], r[i + 1]), high16(r[i], r[i + 1])]);
        let fours = [0, 1].map(|half| {
            // rows 0 .. 4 or 4 .. 8, columns 0 1, 2 3, 4 5, 6 7
            let [p, q] = [pairs[2 * half], pairs[2 * half + 1]];
            [
                low32(p[0], q[0]),
                high32(p[0], q[0]),
                low32(p[1], q[1]),
                high32(p[1], q[1]),
            ]
        });
        let [top, bottom] = fours;
        let both = |i: usize| [low64(top[i], bottom[i]), high64(top[i], bottom[i])];
        [both(0), both(1), both(2), both(3)]
    };
    // SAFETY: as above.
    unsafe { std::mem::transmute(turned) }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let found = module.getattr("operators")?;
    let operators = found.cast::<PyModule>()?;
    operators.add_function(wrap_pyfunction!(embedding, operators)?)?;
    operators.add_function(wrap_pyfunction!(transpose_columns, operators)?)?;
    Ok(())
}

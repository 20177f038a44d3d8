//! Sampling from long rows, bit-equal to `candidates` and `draw` of `pouw/operators/sampling.py`, which define them.
//!
//! The functions on slices serve the native calls too (`elements/sampling.rs`).

use numpy::{
    PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;

use super::elements::tagged_hash;

pub const VOCABULARY_MAX: usize = 1 << INDEX_BITS;
pub const TEMPERATURE_MAX: i64 = 1 << 24;
pub const SHARE_MAX: i64 = 1 << 16;
const INDEX_BITS: u32 = 20;
const LAST_INDEX: i64 = (1 << INDEX_BITS) - 1;
/// Below this many entries all segments stay on the calling thread.
const SERIAL: usize = 1 << 15;

/// Keys of the most likely entries of one segment, the largest first; `first` is the index of its first entry.
pub fn largest(
    logits: impl Iterator<Item = i64>,
    first: usize,
    temperature: i64,
    count: usize,
) -> Vec<i64> {
    let mut keys: Vec<i64> = logits
        .zip(first as i64..)
        .map(|(logit, index)| {
            let t = logit.wrapping_mul(temperature).wrapping_add(1 << 15) >> 16;
            (t << INDEX_BITS) + (LAST_INDEX - index)
        })
        .collect();
    keep_largest(&mut keys, count);
    keys
}

/// Leave the first `count` in descending order.
fn keep_largest(keys: &mut Vec<i64>, count: usize) {
    if count < keys.len() {
        keys.select_nth_unstable_by(count - 1, |left, right| right.cmp(left));
        keys.truncate(count);
    }
    keys.sort_unstable_by(|left, right| right.cmp(left));
}

/// The index that is drawn from one row of keys.
pub fn draw_row(
    keys: &[i64],
    seed: i32,
    position: u32,
    table: impl Fn(usize) -> i64,
    top_k: usize,
    top_p: i64,
) -> i64 {
    let mut order = keys.to_vec();
    keep_largest(&mut order, top_k);
    let first = order[0] >> INDEX_BITS;
    let mut sum = 0i64;
    let sums: Vec<i64> = order
        .iter()
        .map(|key| {
            let below = first - (key >> INDEX_BITS);
            sum += table((below & 1023) as usize) >> (below >> 10).min(31);
            sum
        })
        .collect();
    let enough = sum * top_p;
    let kept = sums.iter().position(|&part| part << 16 >= enough);
    let kept = &sums[..=kept.unwrap_or(0)];
    let digest = tagged_hash("sample", &[&seed.to_le_bytes(), &position.to_le_bytes()]);
    let drawn = u64::from_le_bytes(std::array::from_fn(|place| digest[place]));
    let target = (i128::from(drawn) * i128::from(kept[kept.len() - 1])) >> 64;
    let place = kept.iter().position(|&part| i128::from(part) > target);
    LAST_INDEX - (order[place.unwrap_or(0)] & LAST_INDEX)
}

fn within(what: &str, fits: bool) -> PyResult<()> {
    if fits {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{what} out of range")))
}

#[pyfunction]
fn candidates<'py>(
    py: Python<'py>,
    logits: PyReadonlyArray2<'py, i32>,
    temperature: i64,
    segment: usize,
    count: usize,
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let [m, n] = [logits.shape()[0], logits.shape()[1]];
    within("width", (1..=VOCABULARY_MAX).contains(&n))?;
    within("temperature", (1..=TEMPERATURE_MAX).contains(&temperature))?;
    within("segment", (1..=n).contains(&segment))?;
    within("count", (1..=smallest_segment(n, segment)).contains(&count))?;
    let logits = logits.as_slice()?;
    let segments = n.div_ceil(segment);
    let out = PyArray2::<i64>::zeros(py, [m, segments * count], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let task = |(place, to): (usize, &mut [i64])| {
            let (row, first) = (place / segments, place % segments * segment);
            let part = &logits[row * n..][first..n.min(first + segment)];
            let values = part.iter().map(|&logit| i64::from(logit));
            to.copy_from_slice(&largest(values, first, temperature, count));
        };
        if m * n < SERIAL {
            to.chunks_exact_mut(count).enumerate().for_each(task);
        } else {
            to.par_chunks_exact_mut(count).enumerate().for_each(task);
        }
    });
    drop(writable);
    Ok(out)
}

/// Entries of the last segment of a row.
pub fn smallest_segment(n: usize, segment: usize) -> usize {
    match n % segment {
        0 => segment,
        rest => rest,
    }
}

#[pyfunction]
fn draw<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray2<'py, i64>,
    seed: PyReadonlyArray1<'py, i32>,
    so_far: PyReadonlyArray1<'py, i32>,
    table: PyReadonlyArray1<'py, i16>,
    top_k: usize,
    top_p: i64,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let [m, c] = [keys.shape()[0], keys.shape()[1]];
    let (keys, table) = (keys.as_slice()?, table.as_slice()?);
    within("table", table.len() == 1024)?;
    within("candidates", (1..=VOCABULARY_MAX).contains(&c))?;
    within("seed", seed.shape()[0] == 1)?;
    within("top_k", (1..=c).contains(&top_k))?;
    within("top_p", (1..=SHARE_MAX).contains(&top_p))?;
    let seed = seed.as_slice()?[0];
    let first = (so_far.shape()[0] as u32).wrapping_sub(m as u32);
    let tokens: Vec<i32> = keys
        .chunks_exact(c)
        .enumerate()
        .map(|(row, keys)| {
            let position = first.wrapping_add(row as u32);
            let weight = |place: usize| i64::from(table[place]);
            draw_row(keys, seed, position, weight, top_k, top_p) as i32
        })
        .collect();
    Ok(PyArray1::from_vec(py, tokens))
}

/// Adds to the module `operators`, which `operators.rs` has made.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let found = module.getattr("operators")?;
    let operators = found.cast::<PyModule>()?;
    operators.add_function(wrap_pyfunction!(candidates, operators)?)?;
    operators.add_function(wrap_pyfunction!(draw, operators)?)?;
    Ok(())
}

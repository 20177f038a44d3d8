//! The exact operators that are not products, bit-equal to `pouw/operators/*.py`, which define them.
//!
//! Integers wrap at 64 bits as numpy's do. Sums of products of 16-bit integers are taken in f64: each term and each
//! partial sum is an integer below 2^53, so the result does not depend on the order and no bit is lost.

use numpy::{
    PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyReadonlyArray3, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;

/// Below this many elements an operator stays on the calling thread.
const SERIAL: usize = 1 << 15;
const FACTOR_MAX: i16 = 256;
const NORM_INPUT_MAX: i64 = 1 << 16;

/// One row's loop, compiled for the vector units that the machine may have.
macro_rules! versions {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $type),*) {
            #[inline(always)]
            fn portable($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn wide($($arg: $type),*) { portable($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn middle($($arg: $type),*) { portable($($arg),*) }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the features were found.
                    return unsafe { wide($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the feature was found.
                    return unsafe { middle($($arg),*) };
                }
            }
            portable($($arg),*)
        }
    };
}

#[inline(always)]
fn round_shift(x: i64, n: u32) -> i64 {
    x.wrapping_add(1 << (n - 1)) >> n
}

#[inline(always)]
fn clamp16(x: i64, limit: i64) -> i16 {
    x.clamp(-limit, limit) as i16
}

/// The largest r with r * r <= x; a negative x (a sum that wrapped) is refused by the caller.
fn floor_root(x: i64) -> i64 {
    let mut root = (x as f64).sqrt() as i64;
    while root.checked_mul(root).is_none_or(|square| square > x) {
        root -= 1;
    }
    while (root + 1)
        .checked_mul(root + 1)
        .is_some_and(|square| square <= x)
    {
        root += 1;
    }
    root
}

versions! {
    fn row_maximum_row(x: &[i16], factors: &[i16], out: &mut i32) {
        let mut most = 1;
        for (&value, &factor) in x.iter().zip(factors) {
            most = most.max((i32::from(value) * i32::from(factor)).abs());
        }
        *out = most;
    }
}

versions! {
    fn quantize_row(x: &[i16], factors: &[i16], reciprocal: i64, q_max: i64, out: &mut [i8]) {
        for ((&value, &factor), to) in x.iter().zip(factors).zip(out) {
            let wide = i64::from(i32::from(value) * i32::from(factor));
            let q = round_shift(wide.wrapping_mul(reciprocal), 30);
            *to = q.clamp(-q_max, q_max) as i8;
        }
    }
}

versions! {
    fn rescale_row(
        product: &[i32], maximum: i64, multipliers: &[i32], bias: &[i32], shift: u32, limit: i64, out: &mut [i16],
    ) {
        for (((&value, &multiplier), &bias), to) in product.iter().zip(multipliers).zip(bias).zip(out) {
            let wide = i64::from(value).wrapping_mul(maximum).wrapping_mul(i64::from(multiplier));
            *to = clamp16(round_shift(wide, shift).wrapping_add(i64::from(bias)), limit);
        }
    }
}

versions! {
    fn add_row(x: &[i16], y: &[i16], out: &mut [i32]) {
        for ((&x, &y), to) in x.iter().zip(y).zip(out) {
            *to = i32::from(x) + i32::from(y);
        }
    }
}

versions! {
    fn layer_norm_row(v: &[i32], gamma: &[i32], beta: &[i32], scaled_root: i64, out: &mut [i16]) {
        let n = v.len() as i64;
        let mut sum = 0i64;
        for &value in v {
            sum += i64::from(value).clamp(-NORM_INPUT_MAX, NORM_INPUT_MAX);
        }
        let mut squares = 0i64;
        for &value in v {
            let centered = n * i64::from(value).clamp(-NORM_INPUT_MAX, NORM_INPUT_MAX) - sum;
            squares += centered * centered;
        }
        let reciprocal = scaled_root / floor_root(squares).max(1);
        for (((&value, &gamma), &beta), to) in v.iter().zip(gamma).zip(beta).zip(out) {
            let centered = n * i64::from(value).clamp(-NORM_INPUT_MAX, NORM_INPUT_MAX) - sum;
            let y = round_shift(centered.wrapping_mul(reciprocal), 26);
            let wide = y.wrapping_mul(i64::from(gamma)).wrapping_add(i64::from(beta));
            *to = clamp16(round_shift(wide, 16), 32_767);
        }
    }
}

/// Columns that are summed in registers.
const BLOCK: usize = 32;

/// `sums[n] = row[k] @ matrix[k][n]`, every number an integer and every partial sum below 2^53.
#[inline(always)]
fn row_times_matrix(row: &[f64], matrix: &[f64], sums: &mut [f64]) {
    let n = sums.len();
    let whole = n - n % BLOCK;
    for start in (0..whole).step_by(BLOCK) {
        let mut block = [0f64; BLOCK];
        for (&factor, line) in row.iter().zip(matrix.chunks_exact(n)) {
            for (sum, &value) in block.iter_mut().zip(&line[start..start + BLOCK]) {
                *sum += factor * value;
            }
        }
        sums[start..start + BLOCK].copy_from_slice(&block);
    }
    let rest = &mut sums[whole..];
    rest.fill(0.0);
    if rest.is_empty() {
        return;
    }
    for (&factor, line) in row.iter().zip(matrix.chunks_exact(n)) {
        for (sum, &value) in rest.iter_mut().zip(&line[whole..]) {
            *sum += factor * value;
        }
    }
}

versions! {
    /// One query against all keys of a head, `keys[d][n]`.
    fn scores_row(query: &[f64], keys: &[f64], shift: u32, sums: &mut [f64], out: &mut [i32]) {
        row_times_matrix(query, keys, sums);
        for (&sum, to) in sums.iter().zip(out) {
            let score = round_shift(sum as i64, shift);
            *to = score.clamp(-i64::from(i32::MAX), i64::from(i32::MAX)) as i32;
        }
    }
}

versions! {
    fn softmax_row(scores: &[i32], table: &[i16], out: &mut [i16]) {
        let mut most = i32::MIN;
        for &score in scores {
            most = most.max(score);
        }
        for (&score, to) in scores.iter().zip(out) {
            let below = (most as u32).wrapping_sub(score as u32);
            let entry = i32::from(table[(below & 1023) as usize]);
            *to = (entry >> (below >> 10).min(31)) as i16;
        }
    }
}

versions! {
    /// One query's weights against a head's values, `values[n][d]`.
    fn mix_row(weights: &[i16], values: &[f64], row: &mut [f64], sums: &mut [f64], out: &mut [i16]) {
        let mut total = 0i64;
        for (&weight, to) in weights.iter().zip(row.iter_mut()) {
            total += i64::from(weight);
            *to = f64::from(weight);
        }
        row_times_matrix(row, values, sums);
        let reciprocal = (1i64 << 40) / total.max(1);
        for (&sum, to) in sums.iter().zip(out) {
            *to = clamp16(round_shift((sum as i64).wrapping_mul(reciprocal), 40), 32_767);
        }
    }
}

versions! {
    fn lookup_row(x: &[i16], table: &[i16], out: &mut [i16]) {
        for (&value, to) in x.iter().zip(out) {
            let inside = table[(i32::from(value) + 8192).clamp(0, 16_383) as usize];
            *to = if value < -8192 { 0 } else if value >= 8192 { value } else { inside };
        }
    }
}

/// Run a task for each row of `out`, in parallel where it pays.
fn each_row<T: Send>(
    out: &mut [T],
    width: usize,
    work: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) {
    if work < SERIAL {
        out.chunks_mut(width)
            .enumerate()
            .for_each(|(row, out)| task(row, out));
    } else {
        let rows = (out.len() / width)
            .div_ceil(4 * rayon::current_num_threads())
            .max(1);
        out.par_chunks_mut(rows * width)
            .enumerate()
            .for_each(|(part, out)| {
                for (row, out) in out.chunks_mut(width).enumerate() {
                    task(part * rows + row, out);
                }
            });
    }
}

fn same(what: &str, got: usize, expected: usize) -> PyResult<()> {
    if got == expected {
        return Ok(());
    }
    Err(PyValueError::new_err(format!(
        "{what}: got {got}, expected {expected}"
    )))
}

fn within(what: &str, fits: bool) -> PyResult<()> {
    if fits {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{what} out of range")))
}

fn check_factors(factors: &[i16]) -> PyResult<()> {
    within(
        "factors",
        factors
            .iter()
            .all(|&factor| (1..=FACTOR_MAX).contains(&factor)),
    )
}

#[pyfunction]
fn row_maximum<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, i16>,
    factors: PyReadonlyArray1<'py, i16>,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let [m, n] = [x.shape()[0], x.shape()[1]];
    let (x, factors) = (x.as_slice()?, factors.as_slice()?);
    same("factors", factors.len(), n)?;
    check_factors(factors)?;
    let out = PyArray1::<i32>::zeros(py, [m], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, 1, m * n, |row, to| {
            row_maximum_row(&x[row * n..][..n], factors, &mut to[0])
        })
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn quantize<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, i16>,
    maximum: PyReadonlyArray1<'py, i32>,
    factors: PyReadonlyArray1<'py, i16>,
    q_max: i64,
) -> PyResult<Bound<'py, PyArray2<i8>>> {
    let [m, n] = [x.shape()[0], x.shape()[1]];
    let (x, maximum, factors) = (x.as_slice()?, maximum.as_slice()?, factors.as_slice()?);
    same("maximum", maximum.len(), m)?;
    same("factors", factors.len(), n)?;
    check_factors(factors)?;
    within("maximum", maximum.iter().all(|&maximum| maximum >= 1))?;
    within("q_max", (1..=127).contains(&q_max))?;
    let out = PyArray2::<i8>::zeros(py, [m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, m * n, |row, to| {
            let reciprocal = (q_max << 30) / i64::from(maximum[row]);
            quantize_row(&x[row * n..][..n], factors, reciprocal, q_max, to);
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn rescale<'py>(
    py: Python<'py>,
    product: PyReadonlyArray2<'py, i32>,
    maximum: PyReadonlyArray1<'py, i32>,
    multipliers: PyReadonlyArray1<'py, i32>,
    bias: PyReadonlyArray1<'py, i32>,
    shift: u32,
    limit: i64,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let [m, n] = [product.shape()[0], product.shape()[1]];
    let (product, maximum) = (product.as_slice()?, maximum.as_slice()?);
    let (multipliers, bias) = (multipliers.as_slice()?, bias.as_slice()?);
    same("maximum", maximum.len(), m)?;
    same("multipliers", multipliers.len(), n)?;
    same("bias", bias.len(), n)?;
    within("shift", (1..=62).contains(&shift))?;
    within("limit", (1..=32_767).contains(&limit))?;
    let out = PyArray2::<i16>::zeros(py, [m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, m * n, |row, to| {
            let maximum = i64::from(maximum[row]);
            rescale_row(
                &product[row * n..][..n],
                maximum,
                multipliers,
                bias,
                shift,
                limit,
                to,
            );
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn add<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, i16>,
    y: PyReadonlyArray2<'py, i16>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let [m, n] = [x.shape()[0], x.shape()[1]];
    same("rows", y.shape()[0], m)?;
    same("columns", y.shape()[1], n)?;
    let (x, y) = (x.as_slice()?, y.as_slice()?);
    let out = PyArray2::<i32>::zeros(py, [m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, m * n, |row, to| {
            add_row(&x[row * n..][..n], &y[row * n..][..n], to)
        })
    });
    drop(writable);
    Ok(out)
}

/// `scaled_root` is round(sqrt(n) * 2^40), made by the caller in exact integers.
#[pyfunction]
fn layer_norm<'py>(
    py: Python<'py>,
    v: PyReadonlyArray2<'py, i32>,
    gamma: PyReadonlyArray1<'py, i32>,
    beta: PyReadonlyArray1<'py, i32>,
    scaled_root: i64,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let [m, n] = [v.shape()[0], v.shape()[1]];
    let (v, gamma, beta) = (v.as_slice()?, gamma.as_slice()?, beta.as_slice()?);
    same("gamma", gamma.len(), n)?;
    same("beta", beta.len(), n)?;
    within("width", (1..=1024).contains(&n))?;
    let out = PyArray2::<i16>::zeros(py, [m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, m * n, |row, to| {
            layer_norm_row(&v[row * n..][..n], gamma, beta, scaled_root, to)
        })
    });
    drop(writable);
    Ok(out)
}

fn check_heads(width: usize, heads: usize, head_size: usize, offset: usize) -> PyResult<()> {
    let end = heads
        .checked_mul(head_size)
        .and_then(|columns| columns.checked_add(offset));
    within(
        "heads",
        heads >= 1 && (1..=8192).contains(&head_size) && end.is_some_and(|end| end <= width),
    )
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn attention_scores<'py>(
    py: Python<'py>,
    queries: PyReadonlyArray2<'py, i16>,
    keys: PyReadonlyArray2<'py, i16>,
    heads: usize,
    head_size: usize,
    query_offset: usize,
    key_offset: usize,
    shift: u32,
) -> PyResult<Bound<'py, PyArray3<i32>>> {
    let [m, query_width] = [queries.shape()[0], queries.shape()[1]];
    let [n, key_width] = [keys.shape()[0], keys.shape()[1]];
    check_heads(query_width, heads, head_size, query_offset)?;
    check_heads(key_width, heads, head_size, key_offset)?;
    within("shift", (1..=40).contains(&shift))?;
    let (queries, keys) = (queries.as_slice()?, keys.as_slice()?);
    let out = PyArray3::<i32>::zeros(py, [heads, m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, m * n, heads * m * n * 8, |head, to| {
            let column = key_offset + head * head_size;
            let mut by_size = vec![0f64; head_size * n];
            for (j, key) in keys.chunks_exact(key_width).enumerate() {
                for (d, &value) in key[column..][..head_size].iter().enumerate() {
                    by_size[d * n + j] = f64::from(value);
                }
            }
            let mut sums = vec![0f64; n];
            let mut query = vec![0f64; head_size];
            for (i, to) in to.chunks_mut(n).enumerate() {
                let from =
                    &queries[i * query_width + query_offset + head * head_size..][..head_size];
                for (to, &value) in query.iter_mut().zip(from) {
                    *to = f64::from(value);
                }
                scores_row(&query, &by_size, shift, &mut sums, to);
            }
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn softmax_weights<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray3<'py, i32>,
    table: PyReadonlyArray1<'py, i16>,
) -> PyResult<Bound<'py, PyArray3<i16>>> {
    let [heads, m, n] = [scores.shape()[0], scores.shape()[1], scores.shape()[2]];
    let (scores, table) = (scores.as_slice()?, table.as_slice()?);
    same("table", table.len(), 1024)?;
    let out = PyArray3::<i16>::zeros(py, [heads, m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, heads * m * n, |row, to| {
            softmax_row(&scores[row * n..][..n], table, to)
        })
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn attention_mix<'py>(
    py: Python<'py>,
    weights: PyReadonlyArray3<'py, i16>,
    values: PyReadonlyArray2<'py, i16>,
    head_size: usize,
    value_offset: usize,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let [heads, m, n] = [weights.shape()[0], weights.shape()[1], weights.shape()[2]];
    let value_width = values.shape()[1];
    same("values", values.shape()[0], n)?;
    within("rows", n < 1 << 23)?;
    check_heads(value_width, heads, head_size, value_offset)?;
    let (weights, values) = (weights.as_slice()?, values.as_slice()?);
    let out = PyArray2::<i16>::zeros(py, [m, heads * head_size], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let by_head: Vec<Vec<f64>> = (0..heads)
            .map(|head| {
                let column = value_offset + head * head_size;
                let mut by_row = Vec::with_capacity(n * head_size);
                for row in values.chunks_exact(value_width) {
                    by_row.extend(
                        row[column..][..head_size]
                            .iter()
                            .map(|&value| f64::from(value)),
                    );
                }
                by_row
            })
            .collect();
        each_row(to, heads * head_size, heads * m * n * 8, |i, to| {
            let mut sums = vec![0f64; head_size];
            let mut row = vec![0f64; n];
            for (head, to) in to.chunks_mut(head_size).enumerate() {
                mix_row(
                    &weights[(head * m + i) * n..][..n],
                    &by_head[head],
                    &mut row,
                    &mut sums,
                    to,
                );
            }
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn lookup<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, i16>,
    table: PyReadonlyArray1<'py, i16>,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let [m, n] = [x.shape()[0], x.shape()[1]];
    let (x, table) = (x.as_slice()?, table.as_slice()?);
    same("table", table.len(), 16_384)?;
    let out = PyArray2::<i16>::zeros(py, [m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, m * n, |row, to| {
            lookup_row(&x[row * n..][..n], table, to)
        })
    });
    drop(writable);
    Ok(out)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let operators = PyModule::new(module.py(), "operators")?;
    operators.add_function(wrap_pyfunction!(row_maximum, &operators)?)?;
    operators.add_function(wrap_pyfunction!(quantize, &operators)?)?;
    operators.add_function(wrap_pyfunction!(rescale, &operators)?)?;
    operators.add_function(wrap_pyfunction!(add, &operators)?)?;
    operators.add_function(wrap_pyfunction!(layer_norm, &operators)?)?;
    operators.add_function(wrap_pyfunction!(attention_scores, &operators)?)?;
    operators.add_function(wrap_pyfunction!(softmax_weights, &operators)?)?;
    operators.add_function(wrap_pyfunction!(attention_mix, &operators)?)?;
    operators.add_function(wrap_pyfunction!(lookup, &operators)?)?;
    module.add_submodule(&operators)
}

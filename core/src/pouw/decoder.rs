//! The operators of a decoder, bit-equal to `pouw/operators/decoder.py`, `causal.py` and `sampling.py`, which define them.
//!
//! Integers wrap at 64 bits as numpy's do. A tensor that the definition refuses is an error here too; the caller asks
//! the definition for its name.

use numpy::{
    PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyReadonlyArray3, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;

/// Below this many multiplications an operator stays on the calling thread.
const SERIAL: usize = 1 << 17;
const STREAM_MAX: i64 = 1 << 24;
const LIMIT: i64 = i32::MAX as i64;

#[inline(always)]
fn round_shift(x: i64, n: u32) -> i64 {
    x.wrapping_add(1 << (n - 1)) >> n
}

#[inline(always)]
fn clamp16(x: i64) -> i16 {
    x.clamp(-32_767, 32_767) as i16
}

fn within(what: &str, fits: bool) -> PyResult<()> {
    if fits {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{what} out of range")))
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
        out.par_chunks_mut(width)
            .enumerate()
            .for_each(|(row, out)| task(row, out));
    }
}

versions! {
    fn rescale_wide_row(
        product: &[i32], maximum: i64, multipliers: &[i32], bias: &[i32], shift: u32, out: &mut [i32],
    ) {
        for (((&value, &multiplier), &bias), to) in product.iter().zip(multipliers).zip(bias).zip(out) {
            let wide = i64::from(value).wrapping_mul(maximum).wrapping_mul(i64::from(multiplier));
            let y = round_shift(wide, shift).wrapping_add(i64::from(bias));
            *to = y.clamp(-LIMIT, LIMIT) as i32;
        }
    }
}

versions! {
    fn rms_norm_row(v: &[i32], gamma: &[i32], scaled_root: i64, epsilon: i64, shift: u32, out: &mut [i16]) {
        let mut squares = 0i64;
        for &value in v {
            let value = i64::from(value).clamp(-STREAM_MAX, STREAM_MAX);
            squares += value * value;
        }
        let root = ((squares + epsilon) as u64).isqrt().max(1) as i64;
        let reciprocal = scaled_root / root;
        for ((&value, &gamma), to) in v.iter().zip(gamma).zip(out) {
            let value = i64::from(value).clamp(-STREAM_MAX, STREAM_MAX);
            let y = round_shift(value.wrapping_mul(reciprocal), 26);
            *to = clamp16(round_shift(y.wrapping_mul(i64::from(gamma)), shift));
        }
    }
}

versions! {
    fn gated_row(x: &[i16], y: &[i16], shift: u32, out: &mut [i16]) {
        for ((&x, &y), to) in x.iter().zip(y).zip(out) {
            *to = clamp16(round_shift(i64::from(i32::from(x) * i32::from(y)), shift));
        }
    }
}

versions! {
    /// `sums[r] = left . rows[r]`, rows of the same length one after the other, `stride` apart.
    fn dots(left: &[i16], rows: &[i16], stride: usize, sums: &mut [i64]) {
        for (r, sum) in sums.iter_mut().enumerate() {
            let right = &rows[r * stride..][..left.len()];
            let mut total = 0i64;
            for (&x, &y) in left.iter().zip(right) {
                total += i64::from(i32::from(x) * i32::from(y));
            }
            *sum = total;
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

#[pyfunction]
fn widen<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, i16>,
    shift: u32,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    within("shift", shift <= 9)?;
    let out = PyArray2::<i32>::zeros(py, [x.shape()[0], x.shape()[1]], false);
    let mut writable = out.readwrite();
    for (&value, to) in x.as_slice()?.iter().zip(writable.as_slice_mut()?) {
        *to = i32::from(value) << shift;
    }
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn rescale_wide<'py>(
    py: Python<'py>,
    product: PyReadonlyArray2<'py, i32>,
    maximum: PyReadonlyArray1<'py, i32>,
    multipliers: PyReadonlyArray1<'py, i32>,
    bias: PyReadonlyArray1<'py, i32>,
    shift: u32,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let [m, n] = [product.shape()[0], product.shape()[1]];
    let (product, maximum) = (product.as_slice()?, maximum.as_slice()?);
    let (multipliers, bias) = (multipliers.as_slice()?, bias.as_slice()?);
    within(
        "sizes",
        n > 0 && maximum.len() == m && multipliers.len() == n && bias.len() == n,
    )?;
    within("shift", (1..=62).contains(&shift))?;
    let out = PyArray2::<i32>::zeros(py, [m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, m * n, |row, to| {
            let product = &product[row * n..][..n];
            rescale_wide_row(
                product,
                i64::from(maximum[row]),
                multipliers,
                bias,
                shift,
                to,
            );
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn accumulate<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, i32>,
    y: PyReadonlyArray2<'py, i32>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    within("sizes", x.shape() == y.shape())?;
    let out = PyArray2::<i32>::zeros(py, [x.shape()[0], x.shape()[1]], false);
    let mut writable = out.readwrite();
    let (x, y) = (x.as_slice()?, y.as_slice()?);
    for ((&x, &y), to) in x.iter().zip(y).zip(writable.as_slice_mut()?) {
        *to = (i64::from(x) + i64::from(y)).clamp(-STREAM_MAX, STREAM_MAX) as i32;
    }
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn rms_norm<'py>(
    py: Python<'py>,
    v: PyReadonlyArray2<'py, i32>,
    gamma: PyReadonlyArray1<'py, i32>,
    epsilon: i64,
    shift: u32,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let [m, n] = [v.shape()[0], v.shape()[1]];
    let (v, gamma) = (v.as_slice()?, gamma.as_slice()?);
    within("width", (1..=1 << 13).contains(&n) && gamma.len() == n)?;
    within("epsilon", (0..=1 << 60).contains(&epsilon))?;
    within("shift", (1..=40).contains(&shift))?;
    // round(sqrt(n) * 2^40), exactly
    let scaled_root = (((n as u128) << 82).isqrt() as i64 + 1) >> 1;
    let out = PyArray2::<i16>::zeros(py, [m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, m * n, |row, to| {
            rms_norm_row(&v[row * n..][..n], gamma, scaled_root, epsilon, shift, to)
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn rope<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, i16>,
    so_far: PyReadonlyArray1<'py, i32>,
    table: PyReadonlyArray2<'py, i16>,
    heads: usize,
    head_size: usize,
    offset: usize,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let [m, width] = [x.shape()[0], x.shape()[1]];
    let n = so_far.shape()[0];
    within("rows so far", m <= n && n <= table.shape()[0])?;
    within(
        "heads",
        (1..=1024).contains(&heads)
            && (2..=8192).contains(&head_size)
            && head_size.is_multiple_of(2),
    )?;
    within(
        "columns",
        offset <= width && heads * head_size <= width - offset,
    )?;
    within("table", table.shape()[1] == head_size)?;
    let (x, table) = (x.as_slice()?, table.as_slice()?);
    let (columns, half) = (heads * head_size, head_size / 2);
    let out = PyArray2::<i16>::zeros(py, [m, columns], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, columns, m * columns * 4, |row, to| {
            let angles = &table[(n - m + row) * head_size..][..head_size];
            let from = &x[row * width + offset..][..columns];
            for (pairs, to) in from
                .chunks_exact(head_size)
                .zip(to.chunks_exact_mut(head_size))
            {
                let (firsts, seconds) = pairs.split_at(half);
                let (cosines, sines) = angles.split_at(half);
                let (turned_firsts, turned_seconds) = to.split_at_mut(half);
                let from = firsts.iter().zip(seconds).zip(cosines.iter().zip(sines));
                let into = turned_firsts.iter_mut().zip(turned_seconds);
                for (((&first, &second), (&cosine, &sine)), (to_first, to_second)) in from.zip(into)
                {
                    let (first, second) = (i64::from(first), i64::from(second));
                    let (cosine, sine) = (i64::from(cosine), i64::from(sine));
                    *to_first = clamp16(round_shift(first * cosine - second * sine, 14));
                    *to_second = clamp16(round_shift(second * cosine + first * sine, 14));
                }
            }
        });
    });
    drop(writable);
    Ok(out)
}

fn check_groups(heads: usize, kv_heads: usize) -> PyResult<()> {
    within(
        "heads",
        (1..=1024).contains(&heads)
            && (1..=heads).contains(&kv_heads)
            && heads.is_multiple_of(kv_heads),
    )
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn causal_scores<'py>(
    py: Python<'py>,
    queries: PyReadonlyArray2<'py, i16>,
    keys: PyReadonlyArray2<'py, i16>,
    heads: usize,
    kv_heads: usize,
    head_size: usize,
    shift: u32,
) -> PyResult<Bound<'py, PyArray3<i32>>> {
    let [m, n] = [queries.shape()[0], keys.shape()[0]];
    check_groups(heads, kv_heads)?;
    within("head_size", (1..=8192).contains(&head_size))?;
    within("queries", queries.shape()[1] == heads * head_size)?;
    within("keys", keys.shape()[1] == kv_heads * head_size)?;
    within("rows so far", 0 < m && m <= n)?;
    within("shift", (1..=40).contains(&shift))?;
    let (queries, keys) = (queries.as_slice()?, keys.as_slice()?);
    let out = PyArray3::<i32>::zeros(py, [heads, m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, heads * m * n * head_size, |row, to| {
            let (head, i) = (row / m, row % m);
            let query = &queries[(i * heads + head) * head_size..][..head_size];
            let rows = &keys[head * kv_heads / heads * head_size..];
            let mut sums = vec![0i64; n - m + i + 1];
            dots(query, rows, kv_heads * head_size, &mut sums);
            for (&sum, to) in sums.iter().zip(to) {
                *to = round_shift(sum, shift).clamp(-LIMIT, LIMIT) as i32;
            }
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn causal_softmax<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray3<'py, i32>,
    table: PyReadonlyArray1<'py, i16>,
) -> PyResult<Bound<'py, PyArray3<i16>>> {
    let [heads, m, n] = [scores.shape()[0], scores.shape()[1], scores.shape()[2]];
    let (scores, table) = (scores.as_slice()?, table.as_slice()?);
    within("table", table.len() == 1024)?;
    within("rows so far", 0 < m && m <= n)?;
    let out = PyArray3::<i16>::zeros(py, [heads, m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, heads * m * n, |row, to| {
            let seen = n - m + row % m + 1;
            softmax_row(&scores[row * n..][..seen], table, &mut to[..seen]);
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn grouped_mix<'py>(
    py: Python<'py>,
    weights: PyReadonlyArray3<'py, i16>,
    values_transposed: PyReadonlyArray2<'py, i16>,
    kv_heads: usize,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let [heads, m, n] = [weights.shape()[0], weights.shape()[1], weights.shape()[2]];
    let rows = values_transposed.shape()[0];
    check_groups(heads, kv_heads)?;
    within("values", values_transposed.shape()[1] == n && n > 0)?;
    within("values", rows >= kv_heads && rows.is_multiple_of(kv_heads))?;
    let head_size = rows / kv_heads;
    let (weights, values) = (weights.as_slice()?, values_transposed.as_slice()?);
    let out = PyArray2::<i16>::zeros(py, [m, heads * head_size], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, head_size, heads * m * n * head_size, |part, to| {
            let (i, head) = (part / heads, part % heads);
            let row = &weights[(head * m + i) * n..][..n];
            let total: i64 = row.iter().map(|&weight| i64::from(weight)).sum();
            let reciprocal = (1i64 << 40) / total.max(1);
            let mut sums = vec![0i64; head_size];
            dots(
                row,
                &values[head * kv_heads / heads * head_size * n..],
                n,
                &mut sums,
            );
            for (&sum, to) in sums.iter().zip(to) {
                *to = clamp16(round_shift(sum.wrapping_mul(reciprocal), 40));
            }
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn gated_product<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, i16>,
    y: PyReadonlyArray2<'py, i16>,
    shift: u32,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let [m, n] = [x.shape()[0], x.shape()[1]];
    within("sizes", x.shape() == y.shape() && n > 0)?;
    within("shift", (1..=30).contains(&shift))?;
    let (x, y) = (x.as_slice()?, y.as_slice()?);
    let out = PyArray2::<i16>::zeros(py, [m, n], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, m * n, |row, to| {
            gated_row(&x[row * n..][..n], &y[row * n..][..n], shift, to)
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn argmax<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, i32>,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let n = x.shape()[1];
    within("width", n > 0)?;
    let largest = x.as_slice()?.chunks_exact(n).map(|row| {
        let mut best = 0;
        for (index, &value) in row.iter().enumerate() {
            if value > row[best] {
                best = index;
            }
        }
        best as i32
    });
    Ok(PyArray1::from_iter(py, largest))
}

/// H("sample", seed, position), first 8 bytes.
fn draw(seed: i32, position: u32) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"\x06sample");
    for part in [seed.to_le_bytes(), position.to_le_bytes()] {
        hasher.update(&4u32.to_le_bytes());
        hasher.update(&part);
    }
    let digest = hasher.finalize();
    u64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("32 bytes"))
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn sample<'py>(
    py: Python<'py>,
    logits: PyReadonlyArray2<'py, i32>,
    seed: PyReadonlyArray1<'py, i32>,
    so_far: PyReadonlyArray1<'py, i32>,
    table: PyReadonlyArray1<'py, i16>,
    temperature: i64,
    top_k: usize,
    top_p: i64,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let [m, n] = [logits.shape()[0], logits.shape()[1]];
    let (logits, table) = (logits.as_slice()?, table.as_slice()?);
    within("table", table.len() == 1024)?;
    within("width", (1..=1 << 20).contains(&n))?;
    within("seed", seed.shape()[0] == 1)?;
    within("temperature", (1..=1 << 24).contains(&temperature))?;
    within("top_k", (1..=n).contains(&top_k))?;
    within("top_p", (1..=1 << 16).contains(&top_p))?;
    let seed = seed.as_slice()?[0];
    let first = (so_far.shape()[0] as u32).wrapping_sub(m as u32);
    let tokens: Vec<i32> = (0..m)
        .map(|row| {
            let mut order: Vec<(i64, u32)> = logits[row * n..][..n]
                .iter()
                .zip(0u32..)
                .map(|(&logit, index)| (-round_shift(i64::from(logit) * temperature, 16), index))
                .collect();
            if top_k < n {
                order.select_nth_unstable(top_k - 1);
                order.truncate(top_k);
            }
            order.sort_unstable();
            let weight = |entry: &(i64, u32)| {
                let below = entry.0 - order[0].0;
                i64::from(table[(below & 1023) as usize]) >> (below >> 10).min(31)
            };
            let mut sum = 0i64;
            let sums: Vec<i64> = order
                .iter()
                .map(|entry| {
                    sum += weight(entry);
                    sum
                })
                .collect();
            let enough = sum * top_p;
            let kept = sums
                .iter()
                .position(|&part| part << 16 >= enough)
                .unwrap_or(0);
            let total = i128::from(sums[kept]);
            let target =
                ((i128::from(draw(seed, first.wrapping_add(row as u32))) * total) >> 64) as i64;
            let chosen = sums[..=kept]
                .iter()
                .position(|&part| part > target)
                .unwrap_or(0);
            order[chosen].1 as i32
        })
        .collect();
    Ok(PyArray1::from_vec(py, tokens))
}

/// Adds to the module `operators`, which `operators.rs` has made.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let found = module.getattr("operators")?;
    let operators = found.cast::<PyModule>()?;
    operators.add_function(wrap_pyfunction!(widen, operators)?)?;
    operators.add_function(wrap_pyfunction!(rescale_wide, operators)?)?;
    operators.add_function(wrap_pyfunction!(accumulate, operators)?)?;
    operators.add_function(wrap_pyfunction!(rms_norm, operators)?)?;
    operators.add_function(wrap_pyfunction!(rope, operators)?)?;
    operators.add_function(wrap_pyfunction!(causal_scores, operators)?)?;
    operators.add_function(wrap_pyfunction!(causal_softmax, operators)?)?;
    operators.add_function(wrap_pyfunction!(grouped_mix, operators)?)?;
    operators.add_function(wrap_pyfunction!(gated_product, operators)?)?;
    operators.add_function(wrap_pyfunction!(argmax, operators)?)?;
    operators.add_function(wrap_pyfunction!(sample, operators)?)?;
    Ok(())
}

//! The exact operators that are not products, bit-equal to `pouw/operators/*.py`, which define them.
//!
//! Integers wrap at 64 bits as numpy's do. Sums of products of 16-bit integers are taken in f64: each term and each
//! partial sum is an integer below 2^53, so the result does not depend on the order and no bit is lost.

use super::crew::{self, each};
use super::matmul::Shared;
use attention::{Columns, KEYS_MAX, Keys, Powers, Scratch, Values};
use numpy::{
    Element, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyReadonlyArray3, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Below this many elements an operator stays on the calling thread.
const SERIAL: usize = 1 << 15;
/// A cache line of scores of each head.
const ROWS_OF_FEW: usize = 16;
const FACTOR_MAX: i16 = 256;
const NORM_INPUT_MAX: i32 = 1 << 16;

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

mod attention;
mod fused;
mod steps;

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
    /// `out = clamp(rsh(x * factor * reciprocal, 30)) ^ flip`.
    fn quantize_any(x: &[i16], factors: &[i16], reciprocal: i64, q_max: i64, flip: u8, out: &mut [u8]) {
        for ((&value, &factor), to) in x.iter().zip(factors).zip(out) {
            let wide = i64::from(i32::from(value) * i32::from(factor));
            let q = round_shift(wide.wrapping_mul(reciprocal), 30);
            *to = q.clamp(-q_max, q_max) as u8 ^ flip;
        }
    }
}

versions! {
    /// The same where the reciprocal fits 32 bits: one multiplication of 32 by 32.
    fn quantize_narrow(x: &[i16], factors: &[i16], reciprocal: i32, q_max: i64, flip: u8, out: &mut [u8]) {
        for ((&value, &factor), to) in x.iter().zip(factors).zip(out) {
            let wide = i64::from(i32::from(value) * i32::from(factor)) * i64::from(reciprocal);
            let q = (round_shift(wide, 30) as i32).clamp(-(q_max as i32), q_max as i32);
            *to = q as u8 ^ flip;
        }
    }
}

/// # Safety
/// Needs the features. Factors are in 1 ..= 256, and the three slices as long as each other.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn quantize_wide(
    x: &[i16],
    factors: &[i16],
    reciprocal: i32,
    q_max: i64,
    flip: u8,
    out: &mut [u8],
) {
    use std::arch::x86_64::*;
    let n = x.len();
    assert!(factors.len() == n && out.len() == n);
    let reciprocal = _mm512_set1_epi32(reciprocal);
    let half = _mm512_set1_epi64(1 << 29);
    let (most, least) = (
        _mm512_set1_epi32(q_max as i32),
        _mm512_set1_epi32(-q_max as i32),
    );
    let flip = _mm512_set1_epi32(i32::from(flip));
    for start in (0..n).step_by(16) {
        let mask = attention::mask_of(n - start);
        // SAFETY: the mask keeps within the slices.
        let (values, factors) = unsafe {
            (
                _mm256_maskz_loadu_epi16(mask, x.as_ptr().add(start)),
                _mm256_maskz_loadu_epi16(mask, factors.as_ptr().add(start)),
            )
        };
        // pairs (x, its sign) times (factor, 0)
        let wide = _mm512_madd_epi16(
            _mm512_cvtepi16_epi32(values),
            _mm512_cvtepu16_epi32(factors),
        );
        let even = _mm512_mul_epi32(wide, reciprocal);
        let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(wide), reciprocal);
        // bits 30 to 61 of each sum, which hold all of it: see `quantize_row`
        let even = _mm512_srli_epi64::<30>(_mm512_add_epi64(even, half));
        let odd = _mm512_slli_epi64::<2>(_mm512_add_epi64(odd, half));
        let q = _mm512_mask_mov_epi32(even, 0xaaaa, odd);
        let q = _mm512_max_epi32(_mm512_min_epi32(q, most), least);
        // SAFETY: as above.
        unsafe {
            let to = out.as_mut_ptr().add(start).cast();
            _mm512_mask_cvtepi32_storeu_epi8(to, mask, _mm512_xor_si512(q, flip));
        }
    }
}

/// One row in int8, each with `flip` turned: 0x80 makes it the product's offset operand.
fn quantize_row(x: &[i16], factors: &[i16], maximum: i32, q_max: i64, flip: u8, out: &mut [u8]) {
    let reciprocal = (q_max << 30) / i64::from(maximum);
    // |x * factor| <= 2^23 and a reciprocal below 2^31: the shifted product is below 2^24
    match i32::try_from(reciprocal) {
        #[cfg(target_arch = "x86_64")]
        Ok(reciprocal)
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl") =>
        {
            // SAFETY: the features were found; callers pass rows of one length and checked factors.
            unsafe { quantize_wide(x, factors, reciprocal, q_max, flip, out) }
        }
        Ok(reciprocal) => quantize_narrow(x, factors, reciprocal, q_max, flip, out),
        Err(_) => quantize_any(x, factors, reciprocal, q_max, flip, out),
    }
}

versions! {
    fn rescale_row(
        product: &[i32], maximum: i32, multipliers: &[i32], bias: &[i32], shift: u32, limit: i64, out: &mut [i16],
    ) {
        for (((&value, &multiplier), &bias), to) in product.iter().zip(multipliers).zip(bias).zip(out) {
            let wide = (i64::from(value) * i64::from(maximum)).wrapping_mul(i64::from(multiplier));
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
    /// Width 1,024 at most: centered values fit int32, and so does y (|y| <= 2^20 whatever v is).
    fn layer_norm_row(v: &[i32], gamma: &[i32], beta: &[i32], scaled_root: i64, out: &mut [i16]) {
        let (n, most) = (v.len() as i32, NORM_INPUT_MAX);
        let mut sum = 0i32;
        for &value in v {
            sum += value.clamp(-most, most);
        }
        let mut squares = 0i64;
        for &value in v {
            let centered = n * value.clamp(-most, most) - sum;
            squares += i64::from(centered) * i64::from(centered);
        }
        let reciprocal = scaled_root / floor_root(squares).max(1);
        for (((&value, &gamma), &beta), to) in v.iter().zip(gamma).zip(beta).zip(out) {
            let centered = i64::from(n * value.clamp(-most, most) - sum);
            let y = round_shift(centered.wrapping_mul(reciprocal), 26) as i32;
            let wide = i64::from(y) * i64::from(gamma) + i64::from(beta);
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

/// A table of an activation; two bytes more, since it is read by four.
struct Table(Vec<i16>);

impl Table {
    /// `table`: 16,384 entries.
    fn new(table: &[i16]) -> Self {
        assert!(table.len() == 16_384);
        let mut held = table.to_vec();
        held.push(0);
        Table(held)
    }

    fn look_up(&self, x: &mut [i16]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            // SAFETY: the features were found; the table has one entry more than indices reach.
            unsafe { look_up_wide(&self.0, x) };
            return;
        }
        for value in x {
            let inside = self.0[(i32::from(*value) + 8192).clamp(0, 16_383) as usize];
            *value = if *value < -8192 {
                0
            } else if *value >= 8192 {
                *value
            } else {
                inside
            };
        }
    }
}

/// # Safety
/// Needs the features, and 16,385 entries.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn look_up_wide(table: &[i16], x: &mut [i16]) {
    use std::arch::x86_64::*;
    assert!(table.len() == 16_385);
    let n = x.len();
    // SAFETY: masks keep within x, the clamp within the table.
    unsafe {
        for start in (0..n).step_by(16) {
            let mask = attention::mask_of(n - start);
            let at: *mut i32 = x.as_mut_ptr().add(start).cast();
            let packed = if mask == u16::MAX {
                _mm256_loadu_si256(at.cast())
            } else {
                let mut held = [0i16; 16];
                held[..n - start].copy_from_slice(&x[start..]);
                _mm256_loadu_si256(held.as_ptr().cast())
            };
            let value = _mm512_cvtepi16_epi32(packed);
            let index = _mm512_add_epi32(value, _mm512_set1_epi32(8192));
            let index = _mm512_max_epi32(index, _mm512_setzero_si512());
            let index = _mm512_min_epi32(index, _mm512_set1_epi32(16_383));
            let entry = _mm512_i32gather_epi32::<2>(index, table.as_ptr().cast());
            let above = _mm512_cmpge_epi32_mask(value, _mm512_set1_epi32(8192));
            let entry = _mm512_mask_mov_epi32(entry, above, value);
            let within = _mm512_cmpge_epi32_mask(value, _mm512_set1_epi32(-8192));
            let entry = _mm512_maskz_mov_epi32(within, entry);
            // the low 16 bits are the entry, the high ones the next
            _mm512_mask_cvtepi32_storeu_epi16(at.cast(), mask, entry);
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
    let rows = out.len() / width;
    let per_task = match work < SERIAL {
        true => rows,
        false => rows.div_ceil(4 * crew::threads()),
    };
    let shared = Shared::new(out);
    each(work >= SERIAL, rows.div_ceil(per_task.max(1)), |part| {
        for row in part * per_task..rows.min((part + 1) * per_task) {
            // SAFETY: each row belongs to one part.
            task(row, unsafe { shared.part(row * width, width) });
        }
    });
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
    let out = unset2::<i8>(py, [m, n]);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, m * n, |row, to| {
            // SAFETY: int8 and u8 have one layout.
            let to = unsafe { std::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), n) };
            quantize_row(&x[row * n..][..n], factors, maximum[row], q_max, 0, to);
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
    let out = unset2::<i16>(py, [m, n]);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, n, m * n, |row, to| {
            rescale_row(
                &product[row * n..][..n],
                maximum[row],
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
    let out = unset2::<i32>(py, [m, n]);
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
    let out = unset2::<i16>(py, [m, n]);
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
    within("rows", m >= 1 && n >= 1)?;
    let (queries, keys) = (queries.as_slice()?, keys.as_slice()?);
    let out = unset3::<i32>(py, [heads, m, n]);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let parallel = heads * m * n * 8 >= SERIAL;
        if n <= attention::FEW {
            let size = heads * head_size;
            let keys = columns(keys, key_width, key_offset, size);
            let shared = Shared::new(to);
            each(parallel, m.div_ceil(ROWS_OF_FEW), |task| {
                let mut scores = vec![0; n * heads];
                for row in task * ROWS_OF_FEW..m.min((task + 1) * ROWS_OF_FEW) {
                    let query = &queries[row * query_width + query_offset..][..size];
                    attention::few_scores(query, keys, head_size, shift, &mut scores);
                    for head in 0..heads {
                        // SAFETY: tasks differ in rows.
                        let out = unsafe { shared.part((head * m + row) * n, n) };
                        for (key, to) in out.iter_mut().enumerate() {
                            *to = scores[key * heads + head];
                        }
                    }
                }
            });
            return;
        }
        let by_head = collect(parallel, heads, |head| {
            let column = key_offset + head * head_size;
            Keys::new(columns(keys, key_width, column, head_size), n, shift)
        });
        let parts = m.div_ceil(attention::ROWS);
        let shared = Shared::new(to);
        each(parallel, heads * parts, |task| {
            let (head, first) = (task / parts, task % parts * attention::ROWS);
            let at = [first, attention::ROWS.min(m - first)];
            let column = query_offset + head * head_size;
            let queries = columns(queries, query_width, column, head_size);
            // SAFETY: tasks differ in heads or rows.
            let out = unsafe { shared.part((head * m + first) * n, at[1] * n) };
            by_head[head].scores(queries, at, &mut Scratch::default(), out);
        });
    });
    drop(writable);
    Ok(out)
}

/// `attention_scores` of one key, of queries that are rows of a table: entry `[row][column * taps + tap]` is
/// `table[ids[tap * rows + row]][column]`. First columns: of the table, and of the key (in entries).
#[pyfunction]
fn tap_scores<'py>(
    py: Python<'py>,
    table: PyReadonlyArray2<'py, i16>,
    ids: PyReadonlyArray1<'py, i32>,
    key: PyReadonlyArray2<'py, i16>,
    sizes: [usize; 2],
    offsets: [usize; 2],
    shift: u32,
) -> PyResult<Bound<'py, PyArray3<i32>>> {
    let [table_rows, width] = [table.shape()[0], table.shape()[1]];
    let ([columns_of, taps], [table_column, key_offset]) = (sizes, offsets);
    check_heads(key.shape()[1], columns_of, taps, key_offset)?;
    check_heads(width, columns_of, 1, table_column)?;
    same("keys", key.shape()[0], 1)?;
    within("shift", (1..=40).contains(&shift))?;
    let (table, ids, key) = (table.as_slice()?, ids.as_slice()?, key.as_slice()?);
    within("ids", !ids.is_empty() && ids.len().is_multiple_of(taps))?;
    let known = |&id: &i32| usize::try_from(id).is_ok_and(|id| id < table_rows);
    within("id", ids.iter().all(known))?;
    let rows = ids.len() / taps;
    let out = unset3::<i32>(py, [columns_of, rows, 1]);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let key = &key[key_offset..];
        let mut weights = vec![0; taps * columns_of];
        for (place, weight) in weights.iter_mut().enumerate() {
            *weight = key[place % columns_of * taps + place / columns_of];
        }
        let table = columns(table, width, table_column, columns_of);
        let shared = Shared::new(to);
        let parallel = ids.len() * columns_of >= SERIAL;
        each(parallel, rows.div_ceil(ROWS_OF_FEW), |task| {
            let (mut sums, mut scores) = (vec![0; columns_of], vec![0; columns_of]);
            for row in task * ROWS_OF_FEW..rows.min((task + 1) * ROWS_OF_FEW) {
                let row_of = |tap: usize| ids[tap * rows + row] as usize;
                attention::tap_scores(table, row_of, &weights, shift, &mut sums, &mut scores);
                for (column, &score) in scores.iter().enumerate() {
                    // SAFETY: tasks differ in rows.
                    let to = unsafe { shared.part(column * rows + row, 1) };
                    to[0] = score;
                }
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
    within("keys", n >= 1)?;
    let out = unset3::<i16>(py, [heads, m, n]);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let powers = Powers::new(table);
        each_row(to, n, heads * m * n, |row, to| {
            powers.weights(&scores[row * n..][..n], to)
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
    within("rows", m >= 1 && (1..KEYS_MAX).contains(&n))?;
    check_heads(value_width, heads, head_size, value_offset)?;
    let (weights, values) = (weights.as_slice()?, values.as_slice()?);
    let width = heads * head_size;
    let out = unset2::<i16>(py, [m, width]);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let parallel = heads * m * n * 8 >= SERIAL;
        let by_head = collect(parallel, heads, |head| {
            let column = value_offset + head * head_size;
            Values::new(columns(values, value_width, column, head_size), n)
        });
        each_part(parallel, to, width, |first, rows, out| {
            let mut scratch = Scratch::default();
            for (head, values) in by_head.iter().enumerate() {
                let parts = out.chunks_mut(attention::ROWS * width).enumerate();
                for (part, out) in parts {
                    let row = head * m + first + part * attention::ROWS;
                    let count = attention::ROWS.min(rows - part * attention::ROWS);
                    let weights = &weights[row * n..][..count * n];
                    values.mix(weights, &mut scratch, &mut out[head * head_size..], width);
                }
            }
        });
    });
    drop(writable);
    Ok(out)
}

/// Scores, weights and means in one pass: `attention_mix(softmax_weights(attention_scores(..)))`.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn attend<'py>(
    py: Python<'py>,
    queries: PyReadonlyArray2<'py, i16>,
    keys: PyReadonlyArray2<'py, i16>,
    values: PyReadonlyArray2<'py, i16>,
    table: PyReadonlyArray1<'py, i16>,
    heads: usize,
    head_size: usize,
    offsets: [usize; 3],
    shift: u32,
) -> PyResult<Bound<'py, PyArray2<i16>>> {
    let attention = steps::Attention::new(table.as_slice()?, heads, head_size, offsets, shift)?;
    let shapes = [&queries, &keys, &values].map(|given| [given.shape()[0], given.shape()[1]]);
    attention.check(shapes)?;
    let out = unset2::<i16>(py, [shapes[0][0], attention.width()]);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    let given = [queries.as_slice()?, keys.as_slice()?, values.as_slice()?];
    py.detach(|| attention.apply(given, shapes, to));
    drop(writable);
    Ok(out)
}

fn columns(data: &[i16], width: usize, column: usize, size: usize) -> Columns<'_> {
    Columns {
        data,
        width,
        column,
        size,
    }
}

/// What is made for each head, on all cores or on this one.
fn collect<T: Send>(
    parallel: bool,
    count: usize,
    make: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    let mut made: Vec<Option<T>> = (0..count).map(|_| None).collect();
    let shared = Shared::new(&mut made);
    each(parallel, count, |index| {
        // SAFETY: each place belongs to one task.
        let place = unsafe { shared.part(index, 1) };
        place[0] = Some(make(index));
    });
    made.into_iter().flatten().collect()
}

/// Run a task for parts of the rows of `out`: first row, number of rows, the rows.
fn each_part<T: Send>(
    parallel: bool,
    out: &mut [T],
    width: usize,
    task: impl Fn(usize, usize, &mut [T]) + Sync,
) {
    let rows = out.len() / width;
    let parts = if parallel { 4 * crew::threads() } else { 1 };
    let per_task = rows.div_ceil(parts).next_multiple_of(attention::ROWS);
    let shared = Shared::new(out);
    each(parallel, rows.div_ceil(per_task), |part| {
        let first = part * per_task;
        let count = per_task.min(rows - first);
        // SAFETY: parts differ in rows.
        task(first, count, unsafe {
            shared.part(first * width, count * width)
        });
    });
}

/// An array that the caller fills before anyone sees it: zeroing it costs as much as a cheap operator.
fn unset2<'py, T: Element + Copy>(py: Python<'py>, shape: [usize; 2]) -> Bound<'py, PyArray2<T>> {
    // SAFETY: T is an integer; every use below writes every element.
    unsafe { PyArray2::<T>::new(py, shape, false) }
}

/// As `unset2`.
fn unset3<'py, T: Element + Copy>(py: Python<'py>, shape: [usize; 3]) -> Bound<'py, PyArray3<T>> {
    // SAFETY: as `unset2`.
    unsafe { PyArray3::<T>::new(py, shape, false) }
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
    let out = unset2::<i16>(py, [m, n]);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let table = Table::new(table);
        each_row(to, n, m * n, |row, to| {
            to.copy_from_slice(&x[row * n..][..n]);
            table.look_up(to);
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
    operators.add_function(wrap_pyfunction!(tap_scores, &operators)?)?;
    operators.add_function(wrap_pyfunction!(softmax_weights, &operators)?)?;
    operators.add_function(wrap_pyfunction!(attention_mix, &operators)?)?;
    operators.add_function(wrap_pyfunction!(attend, &operators)?)?;
    operators.add_function(wrap_pyfunction!(lookup, &operators)?)?;
    operators.add_class::<fused::Linear>()?;
    operators.add_class::<steps::Attention>()?;
    operators.add_class::<steps::Steps>()?;
    module.add_submodule(&operators)
}

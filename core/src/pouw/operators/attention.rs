//! Attention: scores, weights, weighted means; one at a time or all in one pass.
//!
//! Products of 16-bit integers are summed in int32 where the largest operands show that the sum fits (an int32 that
//! wraps on the way is right in the end), else in f64, which holds every integer below 2^53.

// Indices name rows, columns, panels: an enumerate would hide which.
#![allow(clippy::needless_range_loop)]

use super::{clamp16, round_shift, row_times_matrix};
use crate::pouw::kernel::{self, Path};

/// Rows of queries that are taken at a time.
pub const ROWS: usize = 8;
/// Up to so many keys are taken one by one.
pub const FEW: usize = 3;
const LANES: usize = 16;
/// Below this many keys values times weights are exact in f64.
pub const KEYS_MAX: usize = 1 << 23;

/// 16 columns by one pair of the depth.
type Pairs = [[i16; 2]; LANES];

/// A matrix `[n][width]` of int16, of which columns `[column, column + size)` matter.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    pub data: &'a [i16],
    pub width: usize,
    pub column: usize,
    pub size: usize,
}

impl<'a> Columns<'a> {
    fn rows(&self) -> impl Iterator<Item = &'a [i16]> + use<'a> {
        let (column, size) = (self.column, self.size);
        let rows = self.data.chunks_exact(self.width);
        rows.map(move |row| &row[column..column + size])
    }

    /// Width, first column, number of columns.
    fn place(&self) -> [usize; 3] {
        [self.width, self.column, self.size]
    }

    fn row(&self, row: usize) -> &'a [i16] {
        &self.data[row * self.width + self.column..][..self.size]
    }
}

versions! {
    /// The largest absolute value of `[column, column + size)` of the rows, and of what `most` held.
    fn widen_most(data: &[i16], place: [usize; 3], most: &mut i32) {
        let [width, column, size] = place;
        let (mut low, mut high) = (0i16, 0i16);
        for row in data.chunks_exact(width) {
            for &value in &row[column..column + size] {
                low = low.min(value);
                high = high.max(value);
            }
        }
        *most = (*most).max(i32::from(high)).max(-i32::from(low));
    }
}

versions! {
    /// Lines of pairs `[panel][pair]` from rows that the pairs run along.
    fn lines_of_rows(data: &[i16], place: [usize; 3], lines: &mut [Pairs]) {
        let [width, column, size] = place;
        let panels = data.chunks(width * LANES).zip(lines.chunks_exact_mut(size.div_ceil(2)));
        for (rows, lines) in panels {
            for (lane, row) in rows.chunks_exact(width).enumerate() {
                let (pairs, rest) = row[column..column + size].as_chunks::<2>();
                for (line, pair) in lines.iter_mut().zip(pairs) {
                    line[lane] = *pair;
                }
                if let [last] = rest {
                    lines[size / 2][lane] = [*last, 0];
                }
            }
        }
    }
}

versions! {
    /// Lines of pairs `[panel][pair]` from rows that the pairs run across.
    fn lines_of_columns(data: &[i16], place: [usize; 3], lines: &mut [Pairs]) {
        let [width, column, size] = place;
        let pairs = data.len() / width;
        let pairs = pairs.div_ceil(2);
        for (pair, two) in data.chunks(2 * width).enumerate() {
            let first = &two[column..column + size];
            let second = two.get(width + column..width + column + size);
            for panel in 0..size.div_ceil(LANES) {
                let line = &mut lines[panel * pairs + pair];
                let columns = panel * LANES..size.min(panel * LANES + LANES);
                let firsts = &first[columns.clone()];
                match second {
                    Some(second) => {
                        for ((to, &x), &y) in line.iter_mut().zip(firsts).zip(&second[columns]) {
                            *to = [x, y];
                        }
                    }
                    None => {
                        for (to, &x) in line.iter_mut().zip(firsts) {
                            *to = [x, 0];
                        }
                    }
                }
            }
        }
    }
}

versions! {
    /// Sum of a row, and the bits of its signs.
    fn sum_row(row: &[i16], sum: &mut i64, signs: &mut i16) {
        for part in row.chunks(1 << 15) {
            let mut partial = 0i32;
            for &value in part {
                partial += i32::from(value);
                *signs |= value;
            }
            *sum += i64::from(partial);
        }
    }
}

versions! {
    /// `floor((sum + 2^(shift-1)) / 2^shift)` without leaving int32.
    fn shift_sums(sums: &mut [i32], shift: u32) {
        for sum in sums {
            *sum = (*sum >> shift) + (*sum >> (shift - 1) & 1);
        }
    }
}

versions! {
    /// Scores of one query and one key, each with its heads side by side: a sum of 2^13 products is below 2^44.
    fn dots(query: &[i16], key: &[i16], size: usize, shift: u32, out: &mut [i32]) {
        let heads = query.chunks_exact(size).zip(key.chunks_exact(size));
        for ((query, key), to) in heads.zip(out) {
            let products = query.iter().zip(key).map(|(&x, &y)| i32::from(x) * i32::from(y));
            let score = round_shift(products.map(i64::from).sum(), shift);
            *to = score.clamp(-i64::from(i32::MAX), i64::from(i32::MAX)) as i32;
        }
    }
}

versions! {
    /// Adds a tap to the sums of some columns: 2^13 products are below 2^44.
    fn add_tap(x: &[i16], weights: &[i16], sums: &mut [i64]) {
        for ((&x, &weight), sum) in x.iter().zip(weights).zip(sums) {
            *sum += i64::from(i32::from(x) * i32::from(weight));
        }
    }
}

versions! {
    fn scores_of(sums: &[i64], shift: u32, out: &mut [i32]) {
        for (&sum, to) in sums.iter().zip(out) {
            *to = round_shift(sum, shift).clamp(-i64::from(i32::MAX), i64::from(i32::MAX)) as i32;
        }
    }
}

/// Scores of rows that are gathered tap by tap: `table[row_of(tap)][column] * weights[tap][column]`, summed over taps.
pub fn tap_scores(
    table: Columns<'_>,
    row_of: impl Fn(usize) -> usize,
    weights: &[i16],
    shift: u32,
    sums: &mut [i64],
    out: &mut [i32],
) {
    sums.fill(0);
    for (tap, weights) in weights.chunks_exact(table.size).enumerate() {
        add_tap(table.row(row_of(tap)), weights, sums);
    }
    scores_of(sums, shift, out);
}

versions! {
    fn means(sums: &[i32], reciprocal: i64, out: &mut [i16]) {
        for (&sum, to) in sums.iter().zip(out) {
            *to = clamp16(round_shift(i64::from(sum).wrapping_mul(reciprocal), 40), 32_767);
        }
    }
}

versions! {
    fn split_means(high: &[i32], low: &[i32], reciprocal: i64, out: &mut [i16]) {
        for ((&high, &low), to) in high.iter().zip(low).zip(out) {
            let sum = (i64::from(high) << 8) + i64::from(low);
            *to = clamp16(round_shift(sum.wrapping_mul(reciprocal), 40), 32_767);
        }
    }
}

versions! {
    fn times(row: &[f64], matrix: &[f64], sums: &mut [f64]) {
        row_times_matrix(row, matrix, sums);
    }
}

/// A right operand `int16[depth][n]`, as lines `[panel][pair]` or as f64.
#[derive(Default)]
struct Right {
    n: usize,
    depth: usize,
    most: i64,
    lines: Vec<Pairs>,
    wide: Vec<f64>,
}

impl Right {
    fn new(n: usize, depth: usize, lines: bool) -> Self {
        let mut made = Right {
            n,
            depth,
            ..Right::default()
        };
        if lines {
            made.lines = vec![[[0; 2]; LANES]; n.div_ceil(LANES) * made.pairs()];
        } else {
            made.wide = vec![0.0; n * depth];
        }
        made
    }

    fn pairs(&self) -> usize {
        self.depth.div_ceil(2)
    }

    /// The depth runs along the `n` rows of the matrix: keys.
    fn from_rows(matrix: Columns<'_>, n: usize, lines: bool) -> Self {
        let mut made = Right::new(n, matrix.size, lines);
        made.most = most_of(matrix, 0..n);
        let data = &matrix.data[..n * matrix.width];
        if lines {
            lines_of_rows(data, matrix.place(), &mut made.lines);
        } else {
            for (column, row) in matrix.rows().enumerate().take(n) {
                for (d, &value) in row.iter().enumerate() {
                    made.wide[d * n + column] = f64::from(value);
                }
            }
        }
        made
    }

    /// The depth runs down the matrix: values.
    fn from_columns(matrix: Columns<'_>, depth: usize, lines: bool) -> Self {
        let mut made = Right::new(matrix.size, depth, lines);
        made.most = most_of(matrix, 0..depth);
        let data = &matrix.data[..depth * matrix.width];
        if lines {
            lines_of_columns(data, matrix.place(), &mut made.lines);
        } else {
            let rows = made.wide.chunks_exact_mut(matrix.size).zip(matrix.rows());
            for (to, row) in rows {
                for (to, &value) in to.iter_mut().zip(row) {
                    *to = f64::from(value);
                }
            }
        }
        made
    }

    /// As f64 `[depth][n]`, made from the lines where an operand is too large for them.
    fn as_f64(&self) -> std::borrow::Cow<'_, [f64]> {
        if !self.wide.is_empty() {
            return (&self.wide).into();
        }
        let mut wide = vec![0.0; self.n * self.depth];
        for (d, row) in wide.chunks_exact_mut(self.n).enumerate() {
            for (column, to) in row.iter_mut().enumerate() {
                let line = &self.lines[column / LANES * self.pairs() + d / 2];
                *to = f64::from(line[column % LANES][d % 2]);
            }
        }
        wide.into()
    }
}

/// The largest absolute value of some rows.
fn most_of(matrix: Columns<'_>, rows: std::ops::Range<usize>) -> i64 {
    let mut most = 0;
    let data = &matrix.data[rows.start * matrix.width..rows.end * matrix.width];
    widen_most(data, matrix.place(), &mut most);
    i64::from(most)
}

/// Buffers of one task.
#[derive(Default)]
pub struct Scratch {
    left: Vec<[i16; 2]>,
    high: Vec<[i16; 2]>,
    low: Vec<[i16; 2]>,
    sums: Vec<i32>,
    more: Vec<i32>,
    scores: Vec<i32>,
    weights: Vec<i16>,
}

/// Rows of int16 as pairs, the last padded with zero.
fn pair_up<'a>(rows: impl Iterator<Item = &'a [i16]>, left: &mut Vec<[i16; 2]>) {
    left.clear();
    for row in rows {
        let (pairs, rest) = row.as_chunks::<2>();
        left.extend_from_slice(pairs);
        left.extend(rest.iter().map(|&value| [value, 0]));
    }
}

/// `row @ right` in f64, one row.
fn in_f64(row: &[i16], right: &Right, wide: &[f64]) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
    let mut sums = vec![0.0; right.n];
    times(&row, wide, &mut sums);
    sums
}

/// Keys of one head.
pub struct Keys(Right, u32);

impl Keys {
    pub fn new(keys: Columns<'_>, n: usize, shift: u32) -> Self {
        Keys(Right::from_rows(keys, n, lanes32() && shift < 32), shift)
    }

    /// Scores of `rows` queries from `first` on, `out[rows][n]`.
    pub fn scores(
        &self,
        queries: Columns<'_>,
        [first, rows]: [usize; 2],
        scratch: &mut Scratch,
        out: &mut [i32],
    ) {
        let Keys(keys, shift) = self;
        let most = most_of(queries, first..first + rows);
        let bound = most * keys.most * queries.size as i64;
        if !keys.lines.is_empty() && bound < 1 << 31 {
            let rows_of = (first..first + rows).map(|row| queries.row(row));
            pair_up(rows_of, &mut scratch.left);
            multiply(&scratch.left, rows, keys, out);
            shift_sums(out, *shift);
            return;
        }
        let wide = keys.as_f64();
        for (row, out) in out.chunks_exact_mut(keys.n).enumerate().take(rows) {
            let sums = in_f64(queries.row(first + row), keys, &wide);
            for (&sum, to) in sums.iter().zip(out) {
                let score = round_shift(sum as i64, *shift);
                *to = score.clamp(-i64::from(i32::MAX), i64::from(i32::MAX)) as i32;
            }
        }
    }
}

/// Scores of one query and a few keys, `out[head][key]`, row by row: a panel of lanes would be nearly empty.
pub fn few_scores(query: &[i16], keys: Columns<'_>, head_size: usize, shift: u32, out: &mut [i32]) {
    let heads = keys.size / head_size;
    for (key, out) in keys.rows().zip(out.chunks_exact_mut(heads)) {
        dots(query, key, head_size, shift, out);
    }
}

/// Values of one head.
pub struct Values(Right);

impl Values {
    pub fn new(values: Columns<'_>, n: usize) -> Self {
        Values(Right::from_columns(values, n, lanes32()))
    }

    /// Means under `weights[rows][n]`; row r of the result is `out[r * stride..][..size]`.
    pub fn mix(&self, weights: &[i16], scratch: &mut Scratch, out: &mut [i16], stride: usize) {
        let Values(values) = self;
        let (size, depth) = (values.n, values.depth);
        let rows = weights.len() / depth;
        let (mut reciprocals, mut largest, mut signs) = ([0i64; ROWS], 0, 0);
        for (reciprocal, row) in reciprocals.iter_mut().zip(weights.chunks_exact(depth)) {
            let mut total = 0;
            sum_row(row, &mut total, &mut signs);
            largest = largest.max(total);
            *reciprocal = (1i64 << 40) / total.max(1);
        }
        // weights that are not negative: no sum exceeds the largest value times their total
        let whole = signs >= 0 && largest * values.most < 1 << 31;
        let split = depth as i64 * values.most * 256 < 1 << 31;
        let to_rows = out.chunks_mut(stride).map(|row| &mut row[..size]);
        if values.lines.is_empty() || !(whole || split) {
            let wide = values.as_f64();
            for ((row, to), reciprocal) in weights.chunks_exact(depth).zip(to_rows).zip(reciprocals)
            {
                let sums = in_f64(row, values, &wide);
                for (&sum, to) in sums.iter().zip(to) {
                    let mean = round_shift((sum as i64).wrapping_mul(reciprocal), 40);
                    *to = clamp16(mean, 32_767);
                }
            }
            return;
        }
        let Scratch {
            left,
            high,
            low,
            sums,
            more,
            ..
        } = scratch;
        pair_up(weights.chunks_exact(depth), left);
        sums.resize(rows * size, 0);
        if whole {
            multiply(left, rows, values, sums);
            for ((sums, to), reciprocal) in sums.chunks_exact(size).zip(to_rows).zip(reciprocals) {
                means(sums, reciprocal, to);
            }
            return;
        }
        // weight = 256 * high + low, low in 0 .. 255
        high.clear();
        high.extend(left.iter().map(|pair| pair.map(|weight| weight >> 8)));
        low.clear();
        low.extend(left.iter().map(|pair| pair.map(|weight| weight & 255)));
        more.resize(rows * size, 0);
        multiply(high, rows, values, more);
        multiply(low, rows, values, sums);
        let parts = more.chunks_exact(size).zip(sums.chunks_exact(size));
        for (((high, low), to), reciprocal) in parts.zip(to_rows).zip(reciprocals) {
            split_means(high, low, reciprocal, to);
        }
    }
}

/// Weights from scores, by the table of powers.
pub struct Powers(Vec<i32>);

impl Powers {
    /// `table`: 1,024 entries.
    pub fn new(table: &[i16]) -> Self {
        assert!(table.len() == 1024);
        Powers(table.iter().map(|&entry| i32::from(entry)).collect())
    }

    /// One row.
    pub fn weights(&self, scores: &[i32], out: &mut [i16]) {
        #[cfg(target_arch = "x86_64")]
        if lanes32() {
            // SAFETY: the features were found; the table has 1,024 entries.
            unsafe { wide::weights(&self.0, scores, out) };
            return;
        }
        weights_of(&self.0, scores, out);
    }
}

fn weights_of(table: &[i32], scores: &[i32], out: &mut [i16]) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for (&score, to) in scores.iter().zip(out) {
        let below = (most as u32).wrapping_sub(score as u32);
        *to = (table[(below & 1023) as usize] >> (below >> 10).min(31)) as i16;
    }
}

/// Scores, weights and means of `rows` queries of a head.
pub fn attend(
    (keys, values, powers): (&Keys, &Values, &Powers),
    queries: Columns<'_>,
    at: [usize; 2],
    scratch: &mut Scratch,
    (out, stride): (&mut [i16], usize),
) {
    let n = keys.0.n;
    let mut scores = std::mem::take(&mut scratch.scores);
    let mut weights = std::mem::take(&mut scratch.weights);
    scores.resize(at[1] * n, 0);
    weights.resize(at[1] * n, 0);
    keys.scores(queries, at, scratch, &mut scores);
    for (scores, weights) in scores.chunks_exact(n).zip(weights.chunks_exact_mut(n)) {
        powers.weights(scores, weights);
    }
    values.mix(&weights, scratch, out, stride);
    scratch.scores = scores;
    scratch.weights = weights;
}

/// Whether 16-bit products can be summed in 16 lanes of int32 here.
pub fn lanes32() -> bool {
    kernel::detect() == Path::Vnni512
}

/// `out[rows][n] = left[rows][depth] @ right`, modulo 2^32. Only where `lanes32`.
fn multiply(left: &[[i16; 2]], rows: usize, right: &Right, out: &mut [i32]) {
    let pairs = right.pairs();
    assert!((1..=ROWS).contains(&rows) && left.len() == rows * pairs);
    assert!(out.len() == rows * right.n);
    assert!(right.lines.len() == right.n.div_ceil(LANES) * pairs);
    #[cfg(target_arch = "x86_64")]
    {
        assert!(lanes32());
        let chosen = wide::TABLE[rows - 1];
        // SAFETY: the features were found, the lengths checked.
        unsafe { chosen(left, pairs, &right.lines, right.n, out) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("no lanes here");
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{LANES, Pairs};
    use std::arch::x86_64::*;

    type Multiply = unsafe fn(&[[i16; 2]], usize, &[Pairs], usize, &mut [i32]);

    pub const TABLE: [Multiply; super::ROWS] = [
        rows::<1>, rows::<2>, rows::<3>, rows::<4>, rows::<5>, rows::<6>, rows::<7>, rows::<8>,
    ];

    /// # Safety
    /// Needs the features; `left[R][pairs]`, `lines[panels][pairs]`, `out[R][n]`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn rows<const R: usize>(
        left: &[[i16; 2]],
        pairs: usize,
        lines: &[Pairs],
        n: usize,
        out: &mut [i32],
    ) {
        let panels = n.div_ceil(LANES);
        let mut panel = 0;
        // SAFETY: the caller's.
        unsafe {
            while panel + 2 <= panels {
                block::<R, 2>(left, pairs, lines, panel, n, out);
                panel += 2;
            }
            if panel < panels {
                block::<R, 1>(left, pairs, lines, panel, n, out);
            }
        }
    }

    /// # Safety
    /// As `rows`, for panels `first` to `first + P`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn block<const R: usize, const P: usize>(
        left: &[[i16; 2]],
        pairs: usize,
        lines: &[Pairs],
        first: usize,
        n: usize,
        out: &mut [i32],
    ) {
        // SAFETY: the caller's; the last panel is stored under a mask of the columns there are.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); P]; R];
            for pair in 0..pairs {
                let columns: [__m512i; P] = std::array::from_fn(|panel| {
                    let line = lines.as_ptr().add((first + panel) * pairs + pair);
                    _mm512_loadu_si512(line.cast())
                });
                for row in 0..R {
                    let two = left.as_ptr().add(row * pairs + pair).cast::<i32>();
                    let two = _mm512_set1_epi32(two.read_unaligned());
                    for panel in 0..P {
                        sums[row][panel] =
                            _mm512_dpwssd_epi32(sums[row][panel], two, columns[panel]);
                    }
                }
            }
            for row in 0..R {
                for panel in 0..P {
                    let column = (first + panel) * LANES;
                    let mask = super::mask_of(n - column);
                    let to = out.as_mut_ptr().add(row * n + column);
                    _mm512_mask_storeu_epi32(to, mask, sums[row][panel]);
                }
            }
        }
    }

    /// # Safety
    /// Needs the features; the table has 1,024 entries.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub unsafe fn weights(table: &[i32], scores: &[i32], out: &mut [i16]) {
        assert!(scores.len() == out.len());
        let n = scores.len();
        // SAFETY: masks keep within the slices; indices are below 1,024.
        unsafe {
            let mut most = _mm512_set1_epi32(i32::MIN);
            for start in (0..n).step_by(LANES) {
                let mask = super::mask_of(n - start);
                let line = _mm512_maskz_loadu_epi32(mask, scores.as_ptr().add(start));
                most = _mm512_mask_max_epi32(most, mask, most, line);
            }
            let most = _mm512_set1_epi32(_mm512_reduce_max_epi32(most));
            for start in (0..n).step_by(LANES) {
                let mask = super::mask_of(n - start);
                let line = _mm512_maskz_loadu_epi32(mask, scores.as_ptr().add(start));
                let below = _mm512_sub_epi32(most, line);
                let index = _mm512_and_si512(below, _mm512_set1_epi32(1023));
                let entry = _mm512_i32gather_epi32::<4>(index, table.as_ptr());
                let octaves = _mm512_srli_epi32::<10>(below);
                let octaves = _mm512_min_epu32(octaves, _mm512_set1_epi32(31));
                let weight = _mm512_srav_epi32(entry, octaves);
                _mm512_mask_cvtepi32_storeu_epi16(out.as_mut_ptr().add(start).cast(), mask, weight);
            }
        }
    }
}

/// One bit for each of the lanes that hold something.
#[cfg(target_arch = "x86_64")]
pub fn mask_of(left: usize) -> u16 {
    if left >= LANES {
        u16::MAX
    } else {
        (1 << left) - 1
    }
}

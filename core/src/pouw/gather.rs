//! `E_R @ B`: every row of B, minus the one before it in its slice's cycle, is added where its permutation says.

use super::kernel::{Bytes64, Line, Path, TILE, Words32};
use rayon::prelude::*;

/// Panels of 16 columns that are gathered together.
pub const WIDE: usize = 4;
const COLUMNS: usize = WIDE * TILE;
const MAX_R: usize = 128;

/// B transposed, `int8[n][k]`, as `[64 columns][k]` lines; missing columns are zero.
pub fn transpose(b_transposed: &[i8], n: usize, k: usize) -> Vec<Bytes64> {
    let mut out = vec![Line([0i8; 64]); n.div_ceil(COLUMNS) * k];
    out.par_chunks_mut(k).enumerate().for_each(|(wide, lines)| {
        let first = wide * COLUMNS;
        for column in (0..COLUMNS.min(n - first)).step_by(8) {
            for depth in (0..k).step_by(8) {
                let count = 8.min(k - depth);
                let rows = std::array::from_fn(|row| {
                    let mut eight = [0u8; 8];
                    if first + column + row < n {
                        let at = (first + column + row) * k + depth;
                        for (to, from) in eight.iter_mut().zip(&b_transposed[at..at + count]) {
                            *to = *from as u8;
                        }
                    }
                    u64::from_le_bytes(eight)
                });
                for (line, eight) in lines[depth..depth + count]
                    .iter_mut()
                    .zip(transpose_8(rows))
                {
                    let eight = eight.to_le_bytes().map(|byte| byte as i8);
                    line.0[column..column + 8].copy_from_slice(&eight);
                }
            }
        }
    });
    out
}

/// Transpose 8 rows of 8 bytes: swap halves, then quarters, then single bytes.
fn transpose_8(mut rows: [u64; 8]) -> [u64; 8] {
    const STEPS: [(usize, u32, u64); 3] = [
        (4, 32, 0x0000_0000_ffff_ffff),
        (2, 16, 0x0000_ffff_0000_ffff),
        (1, 8, 0x00ff_00ff_00ff_00ff),
    ];
    for (distance, shift, mask) in STEPS {
        for row in 0..8 {
            if row & distance == 0 {
                let (upper, lower) = (rows[row], rows[row + distance]);
                rows[row] = (upper & mask) | ((lower & mask) << shift);
                rows[row + distance] = ((upper >> shift) & mask) | (lower & !mask);
            }
        }
    }
    rows
}

/// Writes the second half of each panel's r lines of `out`: pairs of rows of `E_R @ B`, at most
/// 128 slices * 2 * 64 in absolute value.
pub fn run(path: Path, lines: &[Bytes64], permutations: &[u8], r: usize, out: &mut [Words32]) {
    assert!([32, 64, 128].contains(&r) && permutations.len() <= lines.len());
    assert!(permutations.len().is_multiple_of(r));
    assert!(permutations.iter().all(|&row| usize::from(row) < r));
    let mut sums = [Line([[0i16; 32]; 2]); MAX_R];
    match path {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the path was detected with AVX-512 BW; the lengths and indices were checked above.
        Path::Vnni512 => unsafe { add_avx512(lines, permutations, r, &mut sums) },
        _ => add_portable(lines, permutations, r, &mut sums),
    }
    for (panel, out) in out.chunks_exact_mut(r).enumerate() {
        for (pair, line) in out[r / 2..].iter_mut().enumerate() {
            for column in 0..TILE {
                let at = panel * TILE + column;
                line.0[2 * column] = sums[2 * pair].0[at / 32][at % 32];
                line.0[2 * column + 1] = sums[2 * pair + 1].0[at / 32][at % 32];
            }
        }
    }
}

type Sums = [Line<[i16; 32], 2>; MAX_R];

fn add_portable(lines: &[Bytes64], permutations: &[u8], r: usize, sums: &mut Sums) {
    for (permutation, lines) in permutations.chunks_exact(r).zip(lines.chunks_exact(r)) {
        let mut before = &lines[r - 1];
        for (row, now) in permutation.iter().zip(lines) {
            let sum = &mut sums[usize::from(*row)].0;
            for column in 0..COLUMNS {
                sum[column / 32][column % 32] +=
                    i16::from(now.0[column]) - i16::from(before.0[column]);
            }
            before = now;
        }
    }
}

/// # Safety
/// Needs AVX-512 BW, entries of `permutations` below 128, and at least as many lines as entries.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn add_avx512(lines: &[Bytes64], permutations: &[u8], r: usize, sums: &mut Sums) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's.
    unsafe {
        let load = |at: usize| -> [__m512i; 2] {
            let line: *const __m256i = lines.as_ptr().add(at).cast();
            [
                _mm512_cvtepi8_epi16(_mm256_load_si256(line)),
                _mm512_cvtepi8_epi16(_mm256_load_si256(line.add(1))),
            ]
        };
        for slice in 0..permutations.len() / r {
            let mut before = load(slice * r + r - 1);
            for at in slice * r..(slice + 1) * r {
                let now = load(at);
                let row = usize::from(*permutations.get_unchecked(at));
                let sum: *mut __m512i = sums.as_mut_ptr().add(row).cast();
                for half in 0..2 {
                    let difference = _mm512_sub_epi16(now[half], before[half]);
                    let total = _mm512_add_epi16(_mm512_load_si512(sum.add(half)), difference);
                    _mm512_store_si512(sum.add(half), total);
                }
                before = now;
            }
        }
    }
}

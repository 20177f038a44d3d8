//! The noise of a ticket: uniform low-rank factors and cyclic permutations, from keyed BLAKE3 streams.
//!
//! Both operands are treated alike: rows of A, and rows of B transposed. Bytes: docs/spec/ticket.md.

use super::kernel::Path;
use blake3::{Hasher, OutputReader};

/// Slice t's permutation is drawn from this many bytes times t on.
const PERMUTATION_STRIDE: u64 = 1 << 16;

/// `H(tag, key)`: the protocol's tagged hash with one part.
fn tagged(tag: &str, part: &[u8; 32]) -> [u8; 32] {
    let mut hasher = Hasher::new();
    hasher.update(&[tag.len() as u8]).update(tag.as_bytes());
    hasher.update(&32u32.to_le_bytes()).update(part);
    *hasher.finalize().as_bytes()
}

fn stream(tag: &str, key: &[u8; 32]) -> OutputReader {
    Hasher::new_keyed(&tagged(tag, key)).finalize_xof()
}

/// Rows of the uniform factor, `i8[rows][r]` in [-32, 31].
pub fn uniform(tag: &str, key: &[u8; 32], first_row: usize, rows: usize, r: usize) -> Vec<i8> {
    let mut reader = stream(tag, key);
    reader.set_position((first_row * r) as u64);
    let mut bytes = vec![0u8; rows * r];
    reader.fill(&mut bytes);
    bytes
        .into_iter()
        .map(|byte| (byte & 63) as i8 - 32)
        .collect()
}

/// One permutation of r numbers per slice, `u8[slices][r]`, by Fisher and Yates with rejection.
pub fn permutations(tag: &str, key: &[u8; 32], slices: usize, r: usize) -> Vec<u8> {
    let mut reader = stream(tag, key);
    let mut out = Vec::with_capacity(slices * r);
    for slice in 0..slices {
        reader.set_position(slice as u64 * PERMUTATION_STRIDE);
        let mut buffer = [0u8; 64];
        let mut next = buffer.len();
        let mut permutation: Vec<u8> = (0..r).map(|number| number as u8).collect();
        for last in (1..r).rev() {
            let mask = ((last + 1).next_power_of_two() - 1) as u8;
            let chosen = loop {
                if next == buffer.len() {
                    reader.fill(&mut buffer);
                    next = 0;
                }
                let byte = buffer[next] & mask;
                next += 1;
                if usize::from(byte) <= last {
                    break usize::from(byte);
                }
            };
            permutation.swap(last, chosen);
        }
        out.extend_from_slice(&permutation);
    }
    out
}

/// Permutations followed by the same shifted by one along their cycle: what each k adds and takes.
pub struct Cycles {
    pub plus: Vec<u8>,
    pub minus: Vec<u8>,
}

impl Cycles {
    pub fn new(permutations: Vec<u8>, r: usize) -> Self {
        let mut minus = Vec::with_capacity(permutations.len());
        for permutation in permutations.chunks_exact(r) {
            minus.extend_from_slice(&permutation[1..]);
            minus.push(permutation[0]);
        }
        Cycles {
            plus: permutations,
            minus,
        }
    }
}

/// `out = row + noise`, over the whole slices; what follows them is copied. Every byte is XORed with `flip`.
pub fn add(path: Path, row: &[i8], low: &[i8], cycles: &Cycles, flip: u8, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if path == Path::Vnni512 && is_x86_feature_detected!("avx512vbmi") {
        // SAFETY: the features were seen, here and when the path was chosen; lengths are checked within.
        unsafe { add_vbmi(row, low, cycles, flip, out) };
        return;
    }
    add_portable(row, low, cycles, flip, out);
}

fn add_portable(row: &[i8], low: &[i8], cycles: &Cycles, flip: u8, out: &mut [u8]) {
    let covered = cycles.plus.len();
    let r = low.len();
    for (position, value) in row.iter().enumerate() {
        let mut sum = *value;
        if position < covered {
            // Indices stay below r: each is an entry of a permutation of r numbers.
            debug_assert!(usize::from(cycles.plus[position]) < r);
            sum = sum
                .wrapping_add(low[usize::from(cycles.plus[position])])
                .wrapping_sub(low[usize::from(cycles.minus[position])]);
        }
        out[position] = sum as u8 ^ flip;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn add_vbmi(row: &[i8], low: &[i8], cycles: &Cycles, flip: u8, out: &mut [u8]) {
    use std::arch::x86_64::*;
    assert!(out.len() >= row.len() && row.len() >= cycles.plus.len());
    assert!(cycles.plus.len() == cycles.minus.len());
    let mut table = [0i8; 128];
    table[..low.len()].copy_from_slice(low);
    let covered = cycles.plus.len();
    // SAFETY: every load and store is masked to the lengths asserted above; the table has 128 bytes.
    unsafe {
        let first = _mm512_loadu_epi8(table.as_ptr());
        let second = _mm512_loadu_epi8(table.as_ptr().add(64));
        let flips = _mm512_set1_epi8(flip as i8);
        let mut position = 0;
        while position < row.len() {
            let held = mask64(row.len() - position);
            let noisy = mask64(covered.saturating_sub(position));
            let value = _mm512_maskz_loadu_epi8(held, row.as_ptr().add(position));
            let mut sum = value;
            if noisy != 0 {
                let plus =
                    _mm512_maskz_loadu_epi8(noisy, cycles.plus.as_ptr().add(position).cast());
                let minus =
                    _mm512_maskz_loadu_epi8(noisy, cycles.minus.as_ptr().add(position).cast());
                let added = _mm512_permutex2var_epi8(first, plus, second);
                let taken = _mm512_permutex2var_epi8(first, minus, second);
                // Lanes beyond the last slice gather the same entry twice: they add nothing.
                sum = _mm512_add_epi8(value, _mm512_sub_epi8(added, taken));
            }
            _mm512_mask_storeu_epi8(
                out.as_mut_ptr().add(position).cast(),
                held,
                _mm512_xor_si512(sum, flips),
            );
            position += 64;
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn mask64(count: usize) -> u64 {
    if count >= 64 {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

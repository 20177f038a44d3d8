//! A ticket's proof, checked as `pouw/ticket.py` does: plainly, one tile, cheapest rule first.

use super::super::blake3_tree::{digest_of_range, sibling_count};
use super::super::kernel;
use super::super::noise::{self, Cycles};
use super::{DType, Reader, Type, tagged_hash};

const TILE: usize = 16;
const CHUNK: usize = 1024;
const MAX_ROWS: usize = 4096;
const MAX_COLUMNS: usize = 32_768;
const MAX_DEPTH: usize = 16_384;
const OPERAND_BOUND: i8 = 64;

type Words = [u64; 4];

/// parent hash, seal hash, nonce (8 bytes), difficulty (32), proof -> ticket; fails unless it wins.
pub fn verify(input: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(input);
    let parent_hash: [u8; 32] = reader.array()?;
    let seal_hash: [u8; 32] = reader.array()?;
    let nonce: [u8; 8] = reader.array()?;
    let difficulty: [u8; 32] = reader.array()?;
    let mut number = || Some(u32::from_le_bytes(reader.array()?) as usize);
    let [m, n, k] = [number()?, number()?, number()?];
    let [row_block, column_block] = [number()?, number()?];
    let r = match k {
        0..2048 => 32,
        2048..8192 => 64,
        _ => 128,
    };
    let tiles = |size: usize, most| (TILE..=most).contains(&size) && size.is_multiple_of(TILE);
    let shaped = tiles(m, MAX_ROWS) && tiles(n, MAX_COLUMNS) && (16 * r..=MAX_DEPTH).contains(&k);
    if !shaped || row_block >= m / TILE || column_block >= n / TILE {
        return None;
    }
    let limit = threshold(&difficulty, (TILE * TILE * (k - k % r)) as u64)?;
    let root_a: [u8; 32] = reader.array()?;
    let root_b: [u8; 32] = reader.array()?;
    let rows = read_block(&mut reader, m, k, row_block, &root_a)?;
    let columns = read_block(&mut reader, n, k, column_block, &root_b)?;
    reader.end()?;
    let key_b = tagged_hash("key-B", &[&parent_hash, &root_b]);
    let [m, n, depth] = [m, n, k].map(|size| (size as u32).to_le_bytes());
    let key_a = tagged_hash(
        "key-A",
        &[&key_b, &seal_hash, &nonce, &root_a, &root_b, &m, &n, &depth],
    );
    let rows = noisy(&rows, k, r, ("E_L", "E_R"), &key_a, row_block);
    let columns = noisy(&columns, k, r, ("F_R", "F_L"), &key_b, column_block);
    let ticket = *blake3::keyed_hash(&key_a, &lanes(&rows, &columns, k, r)).as_bytes();
    (ticket <= limit).then(|| ticket.to_vec())
}

/// Opened chunks and siblings of 16 rows of `int8[size, k]` -> those rows.
fn read_block(
    reader: &mut Reader,
    size: usize,
    k: usize,
    block: usize,
    root: &[u8; 32],
) -> Option<Vec<i8>> {
    let of = Type::new(DType::Int8, vec![size, k])?;
    let start = block * TILE * k;
    let first = start / CHUNK;
    let end = (start + TILE * k).next_multiple_of(CHUNK).min(size * k);
    let opened = reader.take(end - first * CHUNK)?;
    let chunks = opened.len().div_ceil(CHUNK) as u64;
    let total = (size * k) as u64;
    let siblings = reader.take(32 * sibling_count(total, first as u64, chunks)?)?;
    let rows: Vec<i8> = opened[start - first * CHUNK..][..TILE * k]
        .iter()
        .map(|&byte| byte as i8)
        .collect();
    let bound = -OPERAND_BOUND..=OPERAND_BOUND;
    if !rows.iter().all(|value| bound.contains(value)) {
        return None;
    }
    let digest = digest_of_range(total, first as u64, opened, siblings)?;
    (of.root(&digest) == *root).then_some(rows)
}

fn noisy(
    rows: &[i8],
    k: usize,
    r: usize,
    tags: (&str, &str),
    key: &[u8; 32],
    block: usize,
) -> Vec<i8> {
    let low = noise::uniform(tags.0, key, block * TILE, TILE, r);
    let cycles = Cycles::new(noise::permutations(tags.1, key, k / r, r), r);
    let mut out = vec![0u8; rows.len()];
    for (index, row) in rows.chunks_exact(k).enumerate() {
        let to = &mut out[index * k..][..k];
        noise::add(
            kernel::detect(),
            row,
            &low[index * r..][..r],
            &cycles,
            0,
            to,
        );
    }
    out.into_iter().map(|byte| byte as i8).collect()
}

fn lanes(rows: &[i8], columns: &[i8], k: usize, r: usize) -> [u8; 64] {
    let mut sums = [0i32; TILE * TILE];
    let mut lanes = [0u32; TILE];
    for slice in 0..k / r {
        for (row, sums) in rows.chunks_exact(k).zip(sums.chunks_exact_mut(TILE)) {
            let row = &row[slice * r..][..r];
            for (column, sum) in columns.chunks_exact(k).zip(sums) {
                let terms = row.iter().zip(&column[slice * r..][..r]);
                *sum += terms
                    .map(|(&a, &b)| i32::from(a) * i32::from(b))
                    .sum::<i32>();
            }
        }
        let all = sums.iter().fold(0, |all, sum| all ^ sum) as u32;
        let lane = &mut lanes[slice % TILE];
        *lane = lane.rotate_left(13) ^ all;
    }
    let mut bytes = [0; 64];
    for (to, lane) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(lanes) {
        *to = lane.to_le_bytes();
    }
    bytes
}

/// min(floor(2^256 / difficulty) * factor, 2^256 - 1), big-endian; None for difficulty 0.
fn threshold(difficulty: &[u8; 32], factor: u64) -> Option<[u8; 32]> {
    let divisor = words_of(difficulty);
    if divisor == [0; 4] {
        return None;
    }
    if divisor == [1, 0, 0, 0] {
        return Some([0xff; 32]);
    }
    // Long division of 2^256, bit by bit from the leading one; the remainder stays below the divisor.
    let (mut quotient, mut remainder): (Words, Words) = ([0; 4], [1, 0, 0, 0]);
    for _ in 0..256 {
        let carried = double(&mut remainder);
        double(&mut quotient);
        if carried || !less(&remainder, &divisor) {
            subtract(&mut remainder, &divisor);
            quotient[0] |= 1;
        }
    }
    let mut carry = 0u128;
    for word in &mut quotient {
        let wide = u128::from(*word) * u128::from(factor) + carry;
        *word = wide as u64;
        carry = wide >> 64;
    }
    if carry != 0 {
        return Some([0xff; 32]);
    }
    let mut bytes = [0; 32];
    for (to, word) in bytes
        .as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip(quotient.iter().rev())
    {
        *to = word.to_be_bytes();
    }
    Some(bytes)
}

fn words_of(bytes: &[u8; 32]) -> Words {
    let mut words = [0; 4];
    for (word, part) in words.iter_mut().rev().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_be_bytes(*part);
    }
    words
}

fn double(words: &mut Words) -> bool {
    let mut carry = 0;
    for word in words {
        let next = *word >> 63;
        *word = *word << 1 | carry;
        carry = next;
    }
    carry == 1
}

fn less(left: &Words, right: &Words) -> bool {
    left.iter().rev().lt(right.iter().rev())
}

fn subtract(from: &mut Words, words: &Words) {
    let mut borrow = false;
    for (to, word) in from.iter_mut().zip(words) {
        let (first, below) = to.overflowing_sub(*word);
        let (second, again) = first.overflowing_sub(u64::from(borrow));
        *to = second;
        borrow = below || again;
    }
}

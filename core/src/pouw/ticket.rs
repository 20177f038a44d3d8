//! NoisyGEMM: the product with a lottery in it, and the replay of one tile.
//!
//! The definition is `pouw/ticket.py`; shapes, widths and limits are its decisions. Here A and B carry
//! their noise, C is folded on the way, and the noise is peeled off while C is still in registers:
//! `A @ B = C - (A' @ F_L) @ F_R - E_L @ (E_R @ B)`.

// Indices name rows, columns, panels: an enumerate would hide which.
#![allow(clippy::needless_range_loop)]

use super::crew::each;
use super::gather::{self, WIDE};
use super::kernel::{
    self, Block, Bytes64, Fold, Ints16, Line, PANELS, Path, ROWS, TILE, Words32, ZERO_INTS,
};
use super::matmul::{How, Packed, Pool, SERIAL_MACS, Shared, choose, multiply, write_rows};
use super::noise::{self, Cycles};
use blake3::IncrementCounter;
use blake3::platform::Platform;
use numpy::{PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rayon::prelude::*;
use std::sync::Mutex;

type Key = [u8; 32];
type Lanes = [[Ints16; TILE]; PANELS];
type Winner = (usize, usize, [u8; 32]);

const NO_LANES: Lanes = [[ZERO_INTS; TILE]; PANELS];
/// Tiles below each other that one task takes: their columns stay in the cache.
const TILES_PER_TASK: usize = 8;

/// What slice width and depth say about a product.
#[derive(Clone, Copy)]
struct Depth {
    k: usize,
    r: usize,
}

impl Depth {
    fn new(k: usize, r: usize) -> PyResult<Self> {
        if ![32, 64, 128].contains(&r) || k < r || k > 1 << 14 {
            return Err(PyValueError::new_err(format!(
                "no slices of {r} in k = {k}"
            )));
        }
        Ok(Depth { k, r })
    }

    fn slices(self) -> usize {
        self.k / self.r
    }
}

/// Weights with the noise of one parent, in the kernel's layout.
struct Weights {
    depth: Depth,
    n: usize,
    /// B in `[64 columns][k]`: what E_R gathers from.
    by_depth: Vec<Bytes64>,
    noisy: Packed,
    /// F_L transposed, int8[r, k].
    factor: Packed,
    corrections: Vec<Ints16>,
    /// F_R as int16 pairs, `[panel][r / 2]`.
    uniform: Vec<Words32>,
}

impl Weights {
    fn new(b_transposed: &[i8], n: usize, depth: Depth, key: &Key) -> Self {
        let Depth { k, r } = depth;
        let low = noise::uniform("F_R", key, 0, n, r);
        let cycles = Cycles::new(noise::permutations("F_L", key, depth.slices(), r), r);
        let noisy = Packed::from_rows(n, k, |column, out| {
            let row = &b_transposed[column * k..(column + 1) * k];
            noise::add(
                kernel::detect(),
                row,
                &low[column * r..(column + 1) * r],
                &cycles,
                0,
                as_bytes(out),
            );
        });
        let mut factor = vec![0i8; r * k];
        for (position, (plus, minus)) in cycles.plus.iter().zip(&cycles.minus).enumerate() {
            factor[usize::from(*plus) * k + position] = 1;
            factor[usize::from(*minus) * k + position] = -1;
        }
        Weights {
            depth,
            n,
            by_depth: gather::transpose(b_transposed, n, k),
            factor: Packed::new(&factor, r, k),
            corrections: corrections(&noisy, depth),
            uniform: pairs_of_rows(&low, n, r),
            noisy,
        }
    }
}

fn as_bytes(slice: &mut [i8]) -> &mut [u8] {
    // SAFETY: i8 and u8 have the same layout and every value is valid for both.
    unsafe { std::slice::from_raw_parts_mut(slice.as_mut_ptr().cast(), slice.len()) }
}

/// 128 * (sum of each column up to the end of a slice - its whole sum), `[panel][slice]`.
fn corrections(packed: &Packed, depth: Depth) -> Vec<Ints16> {
    let slices = depth.slices();
    let mut out = vec![ZERO_INTS; packed.panels() * slices];
    out.par_chunks_mut(slices)
        .enumerate()
        .for_each(|(panel, out)| {
            let mut sums = packed.starts[panel].0;
            let lines = packed.panel(panel).chunks_exact(depth.r / 4);
            for (lines, correction) in lines.zip(out) {
                for line in lines {
                    for (column, sum) in sums.iter_mut().enumerate() {
                        let four = &line.0[4 * column..4 * column + 4];
                        *sum += 128 * four.iter().map(|&value| i32::from(value)).sum::<i32>();
                    }
                }
                correction.0 = sums;
            }
        });
    out
}

/// Rows of a uniform factor as the kernel's pairs of int16, `[panel][r / 2]`.
fn pairs_of_rows(low: &[i8], n: usize, r: usize) -> Vec<Words32> {
    let mut out = vec![Line([0i16; 32]); n.div_ceil(TILE) * r / 2];
    for (index, row) in low.chunks_exact(r).enumerate() {
        let lines = &mut out[index / TILE * r / 2..];
        for (pair, two) in row.chunks_exact(2).enumerate() {
            let column = 2 * (index % TILE);
            lines[pair].0[column] = i16::from(two[0]);
            lines[pair].0[column + 1] = i16::from(two[1]);
        }
    }
    out
}

/// Rows of A with their noise, and what peels it off; kept between calls.
#[derive(Default)]
struct Scratch {
    /// A' offset by 128, `u8[m][4 * groups]`.
    noisy: Vec<u8>,
    /// A' @ F_L, `i32[m][r]`.
    small: Vec<i32>,
    /// `-(A' @ F_L) | -E_L` as int16 pairs, `[m][r]`.
    left: Vec<[i16; 2]>,
    /// `F_R | E_R @ B` as int16 pairs, `[panel][r]`.
    right: Vec<Words32>,
}

fn prepare_rows(
    how: How,
    a: &[i8],
    weights: &Weights,
    key: &Key,
    cycles: &Cycles,
    scratch: &mut Scratch,
) {
    let Depth { k, r } = weights.depth;
    let m = a.len() / k;
    let width = 4 * weights.noisy.groups;
    let low = noise::uniform("E_L", key, 0, m, r);
    scratch.noisy.resize(m * width, 0);
    let rows = Shared::new(&mut scratch.noisy);
    each(how.parallel, m / TILE, |tile| {
        for row in tile * TILE..(tile + 1) * TILE {
            // SAFETY: `noisy` holds m rows; tasks differ in tiles.
            let out = unsafe { rows.part(row * width, width) };
            noise::add(
                how.path,
                &a[row * k..][..k],
                &low[row * r..][..r],
                cycles,
                0x80,
                out,
            );
        }
    });
    scratch.small.resize(m * r, 0);
    multiply(how, &scratch.noisy, m, &weights.factor, &mut scratch.small);
    scratch.left.clear();
    for (small, low) in scratch.small.chunks_exact(r).zip(low.chunks_exact(r)) {
        // |A' @ F_L| <= 128 slices * 2 * 127 fits int16.
        let left = &mut scratch.left;
        left.extend(
            small
                .chunks_exact(2)
                .map(|two| [-two[0] as i16, -two[1] as i16]),
        );
        left.extend(
            low.chunks_exact(2)
                .map(|two| [-i16::from(two[0]), -i16::from(two[1])]),
        );
    }
}

fn prepare_columns(how: How, weights: &Weights, permutations: &[u8], scratch: &mut Scratch) {
    let Depth { k, r } = weights.depth;
    let panels = weights.noisy.panels();
    scratch.right.resize(panels * r, Line([0i16; 32]));
    let lines = Shared::new(&mut scratch.right);
    each(how.parallel, panels.div_ceil(WIDE), |wide| {
        let first = wide * WIDE;
        let count = WIDE.min(panels - first);
        // SAFETY: `right` holds all panels; tasks differ in panels.
        let out = unsafe { lines.part(first * r, count * r) };
        let uniform = &weights.uniform[first * r / 2..];
        for (out, uniform) in out.chunks_exact_mut(r).zip(uniform.chunks_exact(r / 2)) {
            out[..r / 2].copy_from_slice(uniform);
        }
        gather::run(
            how.path,
            &weights.by_depth[wide * k..(wide + 1) * k],
            permutations,
            r,
            out,
        );
    });
}

fn mine_product(
    how: How,
    a: &[i8],
    weights: &Weights,
    key: &Key,
    limit: &[u8; 32],
    scratch: &mut Scratch,
    out: &mut [i32],
) -> Vec<Winner> {
    let m = a.len() / weights.depth.k;
    assert!(out.len() == m * weights.n && m.is_multiple_of(TILE) && weights.n.is_multiple_of(TILE));
    let r = weights.depth.r;
    let permutations = noise::permutations("E_R", key, weights.depth.slices(), r);
    let cycles = Cycles::new(permutations, r);
    prepare_rows(how, a, weights, key, &cycles, scratch);
    prepare_columns(how, weights, &cycles.plus, scratch);
    let scratch = &*scratch;
    let row_tasks = (m / TILE).div_ceil(TILES_PER_TASK);
    let tasks = weights.noisy.panels().div_ceil(PANELS) * row_tasks;
    let shared = Shared::new(out);
    let winners = Mutex::new(Vec::new());
    each(how.parallel, tasks, |task| {
        let first_panel = task / row_tasks * PANELS;
        let first_tile = task % row_tasks * TILES_PER_TASK;
        let panels = PANELS.min(weights.noisy.panels() - first_panel);
        let mut lanes = [[0u8; 64]; TILES_PER_TASK * PANELS];
        let mut count = 0;
        let mut desk = Desk {
            halves: [NO_LANES; TILE / ROWS],
            block: [[ZERO_INTS; PANELS]; ROWS],
        };
        for tile in first_tile..(first_tile + TILES_PER_TASK).min(m / TILE) {
            // SAFETY: `out` holds m * n, asserted above; tasks differ in tiles or panels.
            unsafe {
                mine_tiles(
                    how.path,
                    weights,
                    scratch,
                    tile,
                    first_panel,
                    shared,
                    &mut desk,
                );
            }
            for panel in 0..panels {
                lanes[count] = lanes_of([&desk.halves[0][panel], &desk.halves[1][panel]]);
                count += 1;
            }
        }
        let mut tickets = [[0u8; 32]; TILES_PER_TASK * PANELS];
        tickets_of(key, &lanes[..count], &mut tickets);
        for (index, ticket) in tickets[..count].iter().enumerate() {
            if ticket <= limit
                && let Ok(mut winners) = winners.lock()
            {
                winners.push((
                    first_tile + index / panels,
                    first_panel + index % panels,
                    *ticket,
                ));
            }
        }
    });
    let mut winners = winners.into_inner().unwrap_or_default();
    winners.sort_unstable();
    winners
}

/// What one thread writes, over and over.
struct Desk {
    /// Partial lanes of both halves of up to three tiles.
    halves: [Lanes; TILE / ROWS],
    block: [[Ints16; PANELS]; ROWS],
}

/// Up to three tiles beside each other: writes their part of the product and their partial lanes.
///
/// # Safety
/// `out` has room for the product and nobody else writes these tiles.
unsafe fn mine_tiles(
    path: Path,
    weights: &Weights,
    scratch: &Scratch,
    tile: usize,
    first_panel: usize,
    out: Shared<i32>,
    desk: &mut Desk,
) {
    let Depth { r, .. } = weights.depth;
    let slices = weights.depth.slices();
    let width = 4 * weights.noisy.groups;
    let panels = PANELS.min(weights.noisy.panels() - first_panel);
    let mut lines: [&[Bytes64]; PANELS] = [&[]; PANELS];
    let mut corrections: [&[Ints16]; PANELS] = [&[]; PANELS];
    let mut rights: [&[Words32]; PANELS] = [&[]; PANELS];
    for index in 0..panels {
        let panel = first_panel + index;
        lines[index] = weights.noisy.panel(panel);
        corrections[index] = &weights.corrections[panel * slices..(panel + 1) * slices];
        rights[index] = &scratch.right[panel * r..(panel + 1) * r];
    }
    for (half, lanes) in desk.halves.iter_mut().enumerate() {
        let first_row = tile * TILE + half * ROWS;
        let sources: [&[u8]; ROWS] = std::array::from_fn(|row| {
            &scratch.noisy[(first_row + row) * width..(first_row + row + 1) * width]
        });
        let lefts: [&[[i16; 2]]; ROWS] = std::array::from_fn(|row| {
            &scratch.left[(first_row + row) * r..(first_row + row + 1) * r]
        });
        let block = Block {
            rows: &sources,
            panels: &lines[..panels],
            starts: &weights.noisy.starts[first_panel..first_panel + panels],
            groups: weights.noisy.groups,
        };
        let mut fold = Fold {
            slices,
            groups_per_slice: r / 4,
            corrections: &corrections[..panels],
            lanes: &mut lanes[..panels],
            left: &lefts,
            right: &rights[..panels],
        };
        kernel::run(path, &block, Some(&mut fold), &mut desk.block);
        let at = [first_row, first_panel];
        // SAFETY: the caller's.
        unsafe { write_rows(out, weights.n, at, [ROWS, panels], &desk.block) };
    }
}

/// The 16 lanes of a tile from those of its halves, little-endian.
fn lanes_of(halves: [&[Ints16; TILE]; 2]) -> [u8; 64] {
    let mut bytes = [0u8; 64];
    for ((to, upper), lower) in bytes.chunks_exact_mut(4).zip(halves[0]).zip(halves[1]) {
        let parts = upper.0.iter().zip(&lower.0);
        let value = parts.fold(0, |all, (upper, lower)| all ^ upper ^ lower);
        to.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn ticket_of(key: &Key, lanes: &[u8; 64]) -> [u8; 32] {
    *blake3::keyed_hash(key, lanes).as_bytes()
}

/// The same for many tiles at once, side by side in the vector registers.
fn tickets_of(key: &Key, lanes: &[[u8; 64]], out: &mut [[u8; 32]]) {
    const MANY: usize = 16;
    let words = std::array::from_fn(|word| {
        u32::from_le_bytes([
            key[4 * word],
            key[4 * word + 1],
            key[4 * word + 2],
            key[4 * word + 3],
        ])
    });
    let platform = Platform::detect();
    for (lanes, out) in lanes.chunks(MANY).zip(out.chunks_mut(MANY)) {
        let inputs: [&[u8; 64]; MANY] =
            std::array::from_fn(|index| &lanes[index.min(lanes.len() - 1)]);
        let hashes = out.as_flattened_mut();
        let no = IncrementCounter::No;
        // One block, one chunk, the root: BLAKE3's flags KEYED_HASH; CHUNK_START; CHUNK_END | ROOT.
        platform.hash_many(&inputs[..lanes.len()], &words, 0, no, 16, 1, 2 | 8, hashes);
    }
}

/// Lanes of one tile from its rows of A and of B transposed, `int8[16][k]` each.
fn replay(
    path: Path,
    rows_a: &[i8],
    columns_b: &[i8],
    at: [usize; 2],
    keys: [&Key; 2],
    depth: Depth,
) -> [u8; 64] {
    let Depth { k, r } = depth;
    let slices = depth.slices();
    let width = 4 * k.div_ceil(4);
    let low = noise::uniform("E_L", keys[0], at[0] * TILE, TILE, r);
    let cycles = Cycles::new(noise::permutations("E_R", keys[0], slices, r), r);
    let mut rows = vec![0u8; TILE * width];
    for (row, out) in rows.chunks_exact_mut(width).enumerate() {
        noise::add(
            path,
            &rows_a[row * k..][..k],
            &low[row * r..][..r],
            &cycles,
            0x80,
            out,
        );
    }
    let low = noise::uniform("F_R", keys[1], at[1] * TILE, TILE, r);
    let cycles = Cycles::new(noise::permutations("F_L", keys[1], slices, r), r);
    let packed = Packed::from_rows(TILE, k, |column, out| {
        let row = &columns_b[column * k..][..k];
        noise::add(
            path,
            row,
            &low[column * r..][..r],
            &cycles,
            0,
            as_bytes(out),
        );
    });
    let corrections = corrections(&packed, depth);
    let undone: [&[[i16; 2]]; ROWS] = [&[]; ROWS];
    let mut lanes = [[[ZERO_INTS; TILE]]; TILE / ROWS];
    let mut block_out = [[ZERO_INTS; PANELS]; ROWS];
    for (half, lanes) in rows.chunks_exact(ROWS * width).zip(&mut lanes) {
        let sources: [&[u8]; ROWS] =
            std::array::from_fn(|row| &half[row * width..(row + 1) * width]);
        let mut fold = Fold {
            slices,
            groups_per_slice: r / 4,
            corrections: &[&corrections],
            lanes,
            left: &undone,
            right: &[&[] as &[Words32]],
        };
        let block = Block {
            rows: &sources,
            panels: &[packed.panel(0)],
            starts: &packed.starts,
            groups: packed.groups,
        };
        kernel::run(path, &block, Some(&mut fold), &mut block_out);
    }
    lanes_of([&lanes[0][0], &lanes[1][0]])
}

fn key_of(bytes: &[u8], name: &str) -> PyResult<Key> {
    bytes.try_into().map_err(|_| {
        PyValueError::new_err(format!("{name}: got {} bytes, expected 32", bytes.len()))
    })
}

/// Weights prepared once per parent: B' and what its noise needs, in the kernel's layout.
#[pyclass(frozen)]
struct PreparedWeights {
    weights: Weights,
    scratch: Pool<Scratch>,
}

#[pymethods]
impl PreparedWeights {
    #[new]
    fn new(
        py: Python<'_>,
        b_transposed: PyReadonlyArray2<'_, i8>,
        key_b: &[u8],
        r: usize,
    ) -> PyResult<Self> {
        let [n, k] = [b_transposed.shape()[0], b_transposed.shape()[1]];
        let depth = Depth::new(k, r)?;
        if n == 0 || !n.is_multiple_of(TILE) {
            return Err(PyValueError::new_err(format!(
                "n: got {n}, expected whole tiles"
            )));
        }
        let key = key_of(key_b, "key_B")?;
        let bytes = b_transposed.as_slice()?;
        let weights = py.detach(|| Weights::new(bytes, n, depth, &key));
        Ok(PreparedWeights {
            weights,
            scratch: Pool::new(),
        })
    }

    #[getter]
    fn n(&self) -> usize {
        self.weights.n
    }

    #[getter]
    fn k(&self) -> usize {
        self.weights.depth.k
    }

    #[getter]
    fn r(&self) -> usize {
        self.weights.depth.r
    }

    /// `a @ b` exactly, and the tiles whose ticket is at most `limit`.
    #[pyo3(signature = (a, key_a, limit, path=None))]
    #[allow(clippy::type_complexity)]
    fn mine<'py>(
        &self,
        py: Python<'py>,
        a: PyReadonlyArray2<'py, i8>,
        key_a: &[u8],
        limit: &[u8],
        path: Option<&str>,
    ) -> PyResult<(
        Bound<'py, PyArray2<i32>>,
        Vec<(usize, usize, Bound<'py, PyBytes>)>,
    )> {
        let [m, k] = [a.shape()[0], a.shape()[1]];
        if m == 0 || !m.is_multiple_of(TILE) || k != self.weights.depth.k {
            return Err(PyValueError::new_err(format!(
                "A: no whole tiles in [{m}, {k}]"
            )));
        }
        let path = choose(path)?;
        let key = key_of(key_a, "key_A")?;
        let limit = key_of(limit, "limit")?;
        let a = a.as_slice()?;
        // SAFETY: the product writes every element before anyone sees the array.
        let out = unsafe { PyArray2::<i32>::new(py, [m, self.weights.n], false) };
        let winners = {
            let mut writable = out.readwrite();
            let slice = writable.as_slice_mut()?;
            let weights = &self.weights;
            let parallel = m * weights.n * k >= SERIAL_MACS;
            let work = || {
                self.scratch.with(|scratch| {
                    mine_product(
                        How { path, parallel },
                        a,
                        weights,
                        &key,
                        &limit,
                        scratch,
                        slice,
                    )
                })
            };
            py.detach(work)
        };
        let winners = winners
            .into_iter()
            .map(|(row, column, ticket)| (row, column, PyBytes::new(py, &ticket)))
            .collect();
        Ok((out, winners))
    }
}

/// Lanes and ticket of one tile, from its 16 rows of A and of B transposed.
#[pyfunction]
#[pyo3(signature = (rows_a, columns_b, row_block, column_block, key_a, key_b, r, path=None))]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn replay_tile<'py>(
    py: Python<'py>,
    rows_a: PyReadonlyArray2<'py, i8>,
    columns_b: PyReadonlyArray2<'py, i8>,
    row_block: u32,
    column_block: u32,
    key_a: &[u8],
    key_b: &[u8],
    r: usize,
    path: Option<&str>,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let k = rows_a.shape()[1];
    if rows_a.shape() != [TILE, k] || columns_b.shape() != [TILE, k] {
        return Err(PyValueError::new_err(
            "a tile has 16 rows and 16 columns of equal depth",
        ));
    }
    let depth = Depth::new(k, r)?;
    let path = choose(path)?;
    let (key_a, key_b) = (key_of(key_a, "key_A")?, key_of(key_b, "key_B")?);
    let (rows, columns) = (rows_a.as_slice()?, columns_b.as_slice()?);
    let at = [row_block as usize, column_block as usize];
    let lanes = py.detach(|| replay(path, rows, columns, at, [&key_a, &key_b], depth));
    let ticket = ticket_of(&key_a, &lanes);
    Ok((PyBytes::new(py, &lanes), PyBytes::new(py, &ticket)))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PreparedWeights>()?;
    module.add_function(wrap_pyfunction!(replay_tile, module)?)?;
    Ok(())
}

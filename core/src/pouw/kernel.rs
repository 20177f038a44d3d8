//! The one inner loop: rows of A times packed columns of B, with or without the ticket's fold.
//!
//! A is stored offset by 128 as u8, B as i8 in panels of 16 columns by groups of 4 k, so that one
//! `vpdpbusd` does 64 exact multiply-accumulates. Each column starts at -128 * its sum, which takes the
//! offset back out. Nothing saturates on any path; sums fit int32 for k <= 133,144.

// Indices name rows, columns, panels: an enumerate would hide which.
#![allow(clippy::needless_range_loop)]

/// Columns of a panel, rows and columns of a tile, lanes of a fold.
pub const TILE: usize = 16;
/// Rows that one call takes at most.
pub const ROWS: usize = 8;
/// Panels that one call takes at most: 8 x 3 accumulators of 16 int32 fill the registers of AVX-512.
pub const PANELS: usize = 3;

/// 64 bytes on their own cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line<T: Copy, const N: usize>(pub [T; N]);

pub type Bytes64 = Line<i8, 64>;
pub type Words32 = Line<i16, 32>;
pub type Ints16 = Line<i32, 16>;

pub const ZERO_INTS: Ints16 = Line([0; 16]);

/// What the fold of a block needs beyond the product.
pub struct Fold<'a> {
    pub slices: usize,
    pub groups_per_slice: usize,
    /// 128 * (sum of the column's slices so far - its whole sum), `[panel][slice]`.
    pub corrections: &'a [&'a [Ints16]],
    /// Partial lanes, `[panel][lane]`, overwritten: XOR over rows and the 16 columns gives the lane.
    /// All are set, since there are at least 16 slices.
    pub lanes: &'a mut [[Ints16; TILE]],
    /// int16 pairs per row, `[row][pairs]`, and per column, `[panel][pairs]`: their product denoises.
    pub left: &'a [&'a [[i16; 2]]],
    pub right: &'a [&'a [Words32]],
}

/// One block: up to `ROWS` rows of A by up to `PANELS` panels of B.
pub struct Block<'a> {
    /// Rows of A, u8 offset by 128, `groups * 4` bytes each.
    pub rows: &'a [&'a [u8]],
    pub panels: &'a [&'a [Bytes64]],
    /// -128 * the sum of each column, `[panel]`.
    pub starts: &'a [Ints16],
    pub groups: usize,
}

/// What the machine can do; asked once per product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    Vnni512,
    Avx2,
    Portable,
}

pub fn detect() -> Path {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
        {
            return Path::Vnni512;
        }
        if is_x86_feature_detected!("avx2") {
            return Path::Avx2;
        }
    }
    Path::Portable
}

/// Run one block; `out[row][panel]` receives 16 int32.
pub fn run(
    path: Path,
    block: &Block<'_>,
    fold: Option<&mut Fold<'_>>,
    out: &mut [[Ints16; PANELS]; ROWS],
) {
    check(block, fold.as_deref());
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Vnni512 => {
            let into = Into {
                to: out.as_mut_ptr().cast(),
                stride: PANELS * TILE,
                columns: block.panels.len() * TILE,
            };
            // SAFETY: `detect` saw the features, `check` the lengths; a row of `out` holds every panel.
            unsafe { vnni::run(block, fold, into) }
        }
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => avx2::run(block, fold, out),
        _ => portable(block, fold, out),
    }
}

/// Where a block's sums go: row r begins at `to + r * stride`, and `columns` of it are written.
#[derive(Clone, Copy)]
pub struct Into {
    pub to: *mut i32,
    pub stride: usize,
    pub columns: usize,
}

/// Run one block without a fold, its sums going where they belong.
///
/// # Safety
/// Every row named has room, and no other thread writes there.
pub unsafe fn run_into(path: Path, block: &Block<'_>, into: Into) {
    let panels = block.panels.len();
    assert!(into.columns <= panels * TILE && into.columns + TILE > panels * TILE);
    #[cfg(target_arch = "x86_64")]
    if path == Path::Vnni512 {
        check(block, None);
        // SAFETY: `detect` saw the features, `check` the lengths; there is room, says the caller.
        unsafe { vnni::run(block, None, into) };
        return;
    }
    let mut sums = [[ZERO_INTS; PANELS]; ROWS];
    run(path, block, None, &mut sums);
    for (row, lines) in sums.iter().enumerate().take(block.rows.len()) {
        for (panel, line) in lines.iter().enumerate().take(panels) {
            let count = TILE.min(into.columns - panel * TILE);
            // SAFETY: the caller's.
            unsafe {
                let to = into.to.add(row * into.stride + panel * TILE);
                std::ptr::copy_nonoverlapping(line.0.as_ptr(), to, count);
            }
        }
    }
}

/// The lengths that the unsafe paths rely on.
fn check(block: &Block<'_>, fold: Option<&Fold<'_>>) {
    let (rows, panels) = (block.rows.len(), block.panels.len());
    assert!((1..=ROWS).contains(&rows) && (1..=PANELS).contains(&panels));
    assert!(block.starts.len() >= panels);
    assert!(block.rows.iter().all(|row| row.len() >= 4 * block.groups));
    assert!(block.panels.iter().all(|panel| panel.len() >= block.groups));
    if let Some(fold) = fold {
        assert!(fold.slices >= TILE && fold.slices * fold.groups_per_slice <= block.groups);
        assert!(fold.corrections.len() >= panels && fold.lanes.len() >= panels);
        assert!(
            fold.corrections
                .iter()
                .all(|lines| lines.len() >= fold.slices)
        );
        assert!(fold.left.len() >= rows && fold.right.len() >= panels);
        let pairs = fold.left[0].len();
        assert!(fold.left.iter().all(|row| row.len() == pairs));
        assert!(fold.right.iter().all(|panel| panel.len() == pairs));
    }
}

fn portable(
    block: &Block<'_>,
    mut fold: Option<&mut Fold<'_>>,
    out: &mut [[Ints16; PANELS]; ROWS],
) {
    let (slices, groups_per_slice) = match &fold {
        Some(fold) => (fold.slices, fold.groups_per_slice),
        None => (0, 0),
    };
    for (row, bytes) in block.rows.iter().enumerate() {
        for (panel, lines) in block.panels.iter().enumerate() {
            let mut sums = block.starts[panel].0;
            let mut lanes = [ZERO_INTS; TILE];
            for slice in 0..slices {
                let from = slice * groups_per_slice;
                add_groups(&mut sums, bytes, lines, from, from + groups_per_slice);
                if let Some(fold) = &fold {
                    turn(
                        &mut lanes[slice % TILE],
                        &sums,
                        &fold.corrections[panel][slice],
                    );
                }
            }
            add_groups(
                &mut sums,
                bytes,
                lines,
                slices * groups_per_slice,
                block.groups,
            );
            if let Some(fold) = &mut fold {
                join(&mut fold.lanes[panel], &lanes, row == 0);
                denoise(&mut sums, fold.left[row], fold.right[panel]);
            }
            out[row][panel] = Line(sums);
        }
    }
}

/// `lane = rotl32(lane, 13) ^ (sums - correction)`, 16 columns apart.
fn turn(lane: &mut Ints16, sums: &[i32; TILE], correction: &Ints16) {
    for column in 0..TILE {
        let value = sums[column].wrapping_sub(correction.0[column]);
        lane.0[column] = lane.0[column].rotate_left(13) ^ value;
    }
}

/// The fold is linear over XOR: rows of a tile fold alone and join here.
fn join(into: &mut [Ints16; TILE], from: &[Ints16; TILE], first: bool) {
    for (lane, part) in into.iter_mut().zip(from) {
        for (held, value) in lane.0.iter_mut().zip(part.0) {
            *held = if first { value } else { *held ^ value };
        }
    }
}

fn denoise(sums: &mut [i32; TILE], left: &[[i16; 2]], right: &[Words32]) {
    for (left, right) in left.iter().zip(right) {
        for (column, sum) in sums.iter_mut().enumerate() {
            let first = i32::from(left[0]) * i32::from(right.0[2 * column]);
            let second = i32::from(left[1]) * i32::from(right.0[2 * column + 1]);
            *sum = sum.wrapping_add(first).wrapping_add(second);
        }
    }
}

fn add_groups(sums: &mut [i32; TILE], row: &[u8], panel: &[Bytes64], from: usize, to: usize) {
    for (bytes, line) in row[4 * from..4 * to].chunks_exact(4).zip(&panel[from..to]) {
        for (column, sum) in sums.iter_mut().enumerate() {
            for step in 0..4 {
                let product = i32::from(bytes[step]) * i32::from(line.0[4 * column + step]);
                *sum = sum.wrapping_add(product);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use super::{Block, Fold, Into, PANELS, ROWS, TILE};
    use std::arch::x86_64::*;

    type Plain = unsafe fn(&Block<'_>, Into);
    type Folded = unsafe fn(&Block<'_>, &mut Fold<'_>, Into);

    /// Groups of k between two looks at the end: a short product ends without a wrong guess.
    const UNROLL: usize = 4;

    macro_rules! table {
        ($function:ident as $kind:ty) => {
            table!($function $kind: 1 2 3 4 5 6 7 8)
        };
        ($function:ident $kind:ty: $($rows:literal)*) => {
            [$([$function::<$rows, 1> as $kind, $function::<$rows, 2>, $function::<$rows, 3>]),*]
        };
    }

    /// # Safety
    /// Needs the features, the lengths that `super::check` asserts, and room for every row of `into`.
    pub unsafe fn run(block: &Block<'_>, fold: Option<&mut Fold<'_>>, into: Into) {
        const PLAIN: [[Plain; PANELS]; ROWS] = table!(plain as Plain);
        const FOLDED: [[Folded; PANELS]; ROWS] = table!(folded as Folded);
        let (row, panel) = (block.rows.len() - 1, block.panels.len() - 1);
        // SAFETY: the caller's.
        unsafe {
            match fold {
                None => PLAIN[row][panel](block, into),
                Some(fold) => FOLDED[row][panel](block, fold, into),
            }
        }
    }

    // Macros, since a function that is not inlined would keep the sums in memory.

    /// Sums that begin where the block says, and where its rows and panels lie.
    macro_rules! begin {
        ($block:ident, $sums:ident, $rows:ident, $panels:ident) => {
            let mut $sums = [[_mm512_setzero_si512(); P]; R];
            for row in &mut $sums {
                for (panel, sum) in row.iter_mut().enumerate() {
                    *sum = _mm512_load_si512($block.starts[panel].0.as_ptr().cast());
                }
            }
            let $rows: [*const u8; R] = std::array::from_fn(|row| $block.rows[row].as_ptr());
            let $panels: [*const i8; P] =
                std::array::from_fn(|panel| $block.panels[panel].as_ptr().cast());
        };
    }

    /// Add one group of k.
    macro_rules! add_group {
        ($sums:ident, $rows:ident, $panels:ident, $group:expr) => {
            let columns: [__m512i; P] = std::array::from_fn(|panel| {
                _mm512_load_si512($panels[panel].add(64 * $group).cast())
            });
            for row in 0..R {
                let four = $rows[row].add(4 * $group).cast::<i32>().read_unaligned();
                let four = _mm512_set1_epi32(four);
                for panel in 0..P {
                    $sums[row][panel] =
                        _mm512_dpbusd_epi32($sums[row][panel], four, columns[panel]);
                }
            }
        };
    }

    macro_rules! store {
        ($sums:ident, $into:ident) => {
            let last = u16::MAX >> (P * TILE - $into.columns);
            for row in 0..R {
                let to = $into.to.add(row * $into.stride);
                for panel in 0..P - 1 {
                    _mm512_storeu_si512(to.add(panel * TILE).cast(), $sums[row][panel]);
                }
                _mm512_mask_storeu_epi32(to.add((P - 1) * TILE), last, $sums[row][P - 1]);
            }
        };
    }

    /// # Safety
    /// As `run`, with R rows and P panels.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn plain<const R: usize, const P: usize>(block: &Block<'_>, into: Into) {
        // SAFETY: all pointers stay inside of what the caller checked; the last panel is stored under a mask.
        unsafe {
            begin!(block, sums, rows, panels);
            let whole = block.groups / UNROLL * UNROLL;
            let mut first = 0;
            while first < whole {
                for step in 0..UNROLL {
                    add_group!(sums, rows, panels, first + step);
                }
                first += UNROLL;
            }
            for group in whole..block.groups {
                add_group!(sums, rows, panels, group);
            }
            store!(sums, into);
        }
    }

    /// # Safety
    /// As `run`, with R rows and P panels.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn folded<const R: usize, const P: usize>(
        block: &Block<'_>,
        fold: &mut Fold<'_>,
        into: Into,
    ) {
        // SAFETY: as in `plain`.
        unsafe {
            begin!(block, sums, rows, panels);
            let per_slice = fold.groups_per_slice;
            for slice in 0..fold.slices {
                for group in slice * per_slice..(slice + 1) * per_slice {
                    add_group!(sums, rows, panels, group);
                }
                for panel in 0..P {
                    let correction = _mm512_load_si512(
                        fold.corrections
                            .get_unchecked(panel)
                            .as_ptr()
                            .add(slice)
                            .cast(),
                    );
                    let mut all = _mm512_setzero_si512();
                    for row in &sums {
                        all = _mm512_xor_si512(all, _mm512_sub_epi32(row[panel], correction));
                    }
                    let lane: *mut __m512i = fold
                        .lanes
                        .get_unchecked_mut(panel)
                        .as_mut_ptr()
                        .add(slice % TILE)
                        .cast();
                    let held = if slice < TILE {
                        _mm512_setzero_si512()
                    } else {
                        _mm512_rol_epi32::<13>(_mm512_load_si512(lane))
                    };
                    _mm512_store_si512(lane, _mm512_xor_si512(held, all));
                }
            }
            for group in fold.slices * per_slice..block.groups {
                add_group!(sums, rows, panels, group);
            }
            let pairs = fold.left[0].len();
            for pair in 0..pairs {
                let right: [__m512i; P] = std::array::from_fn(|panel| {
                    _mm512_load_si512(fold.right.get_unchecked(panel).as_ptr().add(pair).cast())
                });
                for row in 0..R {
                    let left = fold
                        .left
                        .get_unchecked(row)
                        .as_ptr()
                        .add(pair)
                        .cast::<i32>();
                    let left = _mm512_set1_epi32(left.read_unaligned());
                    for panel in 0..P {
                        sums[row][panel] =
                            _mm512_dpwssd_epi32(sums[row][panel], left, right[panel]);
                    }
                }
            }
            store!(sums, into);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Block, Fold, Ints16, PANELS, ROWS, TILE};
    use std::arch::x86_64::*;

    pub fn run(
        block: &Block<'_>,
        mut fold: Option<&mut Fold<'_>>,
        out: &mut [[Ints16; PANELS]; ROWS],
    ) {
        for row in 0..block.rows.len() {
            for panel in 0..block.panels.len() {
                // SAFETY: `detect` saw AVX2; `super::check` checked every length.
                unsafe { one(block, fold.as_deref_mut(), row, panel, &mut out[row][panel]) }
            }
        }
    }

    /// # Safety
    /// Needs AVX2 and the lengths that `super::check` asserts.
    #[target_feature(enable = "avx2")]
    unsafe fn one(
        block: &Block<'_>,
        fold: Option<&mut Fold<'_>>,
        row: usize,
        panel: usize,
        out: &mut Ints16,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [_mm256_setzero_si256(); 4];
            let bytes = block.rows[row];
            let lines = block.panels[panel];
            let mut done = 0;
            let mut lanes = [super::ZERO_INTS; TILE];
            if let Some(fold) = &fold {
                for slice in 0..fold.slices {
                    let to = (slice + 1) * fold.groups_per_slice;
                    multiply(&mut sums, bytes, lines, done, to);
                    done = to;
                    let now = columns(&sums, &block.starts[panel]);
                    super::turn(
                        &mut lanes[slice % TILE],
                        &now,
                        &fold.corrections[panel][slice],
                    );
                }
            }
            multiply(&mut sums, bytes, lines, done, block.groups);
            out.0 = columns(&sums, &block.starts[panel]);
            if let Some(fold) = fold {
                super::join(&mut fold.lanes[panel], &lanes, row == 0);
                super::denoise(&mut out.0, fold.left[row], fold.right[panel]);
            }
        }
    }

    /// # Safety
    /// The row holds `4 * to` bytes, the panel `to` lines.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn multiply(
        sums: &mut [__m256i; 4],
        row: &[u8],
        panel: &[super::Bytes64],
        from: usize,
        to: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            for group in from..to {
                let four = row.as_ptr().add(4 * group).cast::<i32>().read_unaligned();
                let four = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
                let line: *const __m128i = panel.as_ptr().add(group).cast();
                for (quarter, sum) in sums.iter_mut().enumerate() {
                    let columns = _mm256_cvtepi8_epi16(_mm_load_si128(line.add(quarter)));
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(four, columns));
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn columns(sums: &[__m256i; 4], start: &Ints16) -> [i32; TILE] {
        let mut pairs = [0i32; 2 * TILE];
        for (quarter, sum) in sums.iter().enumerate() {
            // SAFETY: 4 stores of 8 int32 fill the array.
            unsafe { _mm256_storeu_si256(pairs.as_mut_ptr().add(8 * quarter).cast(), *sum) }
        }
        std::array::from_fn(|column| {
            let sum = pairs[2 * column].wrapping_add(pairs[2 * column + 1]);
            sum.wrapping_add(start.0[column])
        })
    }
}

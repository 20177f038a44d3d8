//! int8 x int8 -> int32, exact over the full range on every path.

use super::kernel::{
    self, Block, Bytes64, Fold, Ints16, Line, PANELS, Path, ROWS, TILE, ZERO_INTS,
};
use numpy::{PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;
use std::sync::Mutex;

/// Below this many multiply-accumulates waking other threads costs more than they save (about 40 us).
pub const SERIAL_MACS: usize = 1 << 24;
/// The same for bytes that are packed.
const SERIAL_BYTES: usize = 1 << 17;
/// int32 holds k products of full-range int8 up to here.
pub const MAX_K: usize = 131_071;

/// B transposed, `int8[n][k]`, in the kernel's layout.
pub struct Packed {
    pub n: usize,
    pub k: usize,
    pub groups: usize,
    pub lines: Vec<Bytes64>,
    /// -128 * the sum of each column, per panel.
    pub starts: Vec<Ints16>,
}

impl Packed {
    pub fn new(b_transposed: &[i8], n: usize, k: usize) -> Self {
        Packed::from_rows(n, k, |column, out| {
            out.copy_from_slice(&b_transposed[column * k..(column + 1) * k]);
        })
    }

    /// Pack what `row` writes for each column of B.
    pub fn from_rows(n: usize, k: usize, row: impl Fn(usize, &mut [i8]) + Sync) -> Self {
        let groups = k.div_ceil(4);
        let panels = n.div_ceil(TILE);
        let mut lines = vec![Line([0i8; 64]); panels * groups];
        let mut starts = vec![ZERO_INTS; panels];
        let fill = |(panel, (lines, start)): (usize, (&mut [Bytes64], &mut Ints16))| {
            let mut values = vec![0i8; 4 * groups];
            for column in 0..TILE.min(n - panel * TILE) {
                row(panel * TILE + column, &mut values[..k]);
                let mut sum = 0;
                for (line, four) in lines.iter_mut().zip(values.as_chunks::<4>().0) {
                    line.0[4 * column..4 * column + 4].copy_from_slice(four);
                    sum += four.iter().map(|&value| i32::from(value)).sum::<i32>();
                }
                start.0[column] = -128 * sum;
            }
        };
        if n * k < SERIAL_BYTES {
            let parts = lines.chunks_mut(groups.max(1)).zip(&mut starts);
            parts.enumerate().for_each(fill);
        } else {
            let parts = lines.par_chunks_mut(groups).zip(&mut starts);
            parts.enumerate().for_each(fill);
        }
        Packed {
            n,
            k,
            groups,
            lines,
            starts,
        }
    }

    pub fn panels(&self) -> usize {
        self.starts.len()
    }

    pub fn panel(&self, panel: usize) -> &[Bytes64] {
        &self.lines[panel * self.groups..(panel + 1) * self.groups]
    }
}

/// A pointer that threads share; each writes its own part.
#[derive(Clone, Copy)]
pub struct Shared<T>(*mut T);
// SAFETY: users write disjoint parts, see `write_rows`.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(slice: &mut [T]) -> Self {
        Shared(slice.as_mut_ptr())
    }

    /// # Safety
    /// The part lies inside of the slice, which is still borrowed, and no other thread has it.
    pub unsafe fn part<'a>(self, from: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(from), len) }
    }
}

/// Copy `size = [rows, panels]` of a block into `out[m][n]`, `at = [first row, first panel]`.
///
/// # Safety
/// `out` has room for every row and column named, and no other thread writes them.
pub unsafe fn write_rows(
    out: Shared<i32>,
    n: usize,
    at: [usize; 2],
    size: [usize; 2],
    block: &[[Ints16; PANELS]; ROWS],
) {
    for (row, lines) in block.iter().enumerate().take(size[0]) {
        for (panel, line) in lines.iter().enumerate().take(size[1]) {
            let column = (at[1] + panel) * TILE;
            let count = TILE.min(n - column);
            // SAFETY: the caller's.
            unsafe {
                let to = out.0.add((at[0] + row) * n + column);
                if count == TILE {
                    to.cast::<[i32; TILE]>().write_unaligned(line.0);
                } else {
                    std::ptr::copy_nonoverlapping(line.0.as_ptr(), to, count);
                }
            }
        }
    }
}

/// How a product runs: on which instructions, on how many threads.
#[derive(Clone, Copy)]
pub struct How {
    pub path: Path,
    pub parallel: bool,
}

/// Run tasks on all cores, or in order on this one.
pub fn each(parallel: bool, tasks: usize, task: impl Fn(usize) + Sync + Send) {
    if parallel {
        (0..tasks).into_par_iter().for_each(task);
    } else {
        (0..tasks).for_each(task);
    }
}

/// Buffers that outlive a call: fresh pages cost as much as packing.
pub struct Pool<T>(Mutex<Vec<T>>);

impl<T: Default> Pool<T> {
    pub fn new() -> Self {
        Pool(Mutex::new(Vec::new()))
    }

    pub fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        let taken = self.0.lock().ok().and_then(|mut held| held.pop());
        let mut buffer = taken.unwrap_or_default();
        let result = use_it(&mut buffer);
        if let Ok(mut held) = self.0.lock() {
            held.push(buffer);
        }
        result
    }
}

/// A with 128 added to every entry, rows padded to whole groups of 4; B is zero under the padding.
fn offset_rows(a: &[i8], m: usize, k: usize, groups: usize, parallel: bool, out: &mut Vec<u8>) {
    let width = 4 * groups;
    out.resize(m * width, 0);
    if k == 0 {
        return;
    }
    let fill = |(row, source): (&mut [u8], &[i8])| {
        for (to, from) in row.iter_mut().zip(source) {
            *to = *from as u8 ^ 0x80;
        }
    };
    if parallel {
        let rows = out.par_chunks_mut(width).zip(a.par_chunks(k));
        rows.with_min_len(32).for_each(fill);
    } else {
        out.chunks_mut(width).zip(a.chunks(k)).for_each(fill);
    }
}

/// `out[m][n] = A @ B` from offset rows.
pub fn multiply(how: How, rows: &[u8], m: usize, packed: &Packed, out: &mut [i32]) {
    let n = packed.n;
    assert!(out.len() == m * n && rows.len() == m * 4 * packed.groups);
    let width = 4 * packed.groups;
    let panel_groups = packed.panels().div_ceil(PANELS);
    let rows_per_task = 128;
    let row_tasks = m.div_ceil(rows_per_task);
    let shared = Shared::new(out);
    let task = |task: usize| {
        let first_panel = task / row_tasks * PANELS;
        let panels = PANELS.min(packed.panels() - first_panel);
        let lines: Vec<&[Bytes64]> = (0..panels)
            .map(|panel| packed.panel(first_panel + panel))
            .collect();
        let mut block_out = [[ZERO_INTS; PANELS]; ROWS];
        let mut row = task % row_tasks * rows_per_task;
        let end = m.min(row + rows_per_task);
        while row < end {
            let count = ROWS.min(end - row);
            let mut sources: [&[u8]; ROWS] = [&[]; ROWS];
            for (index, source) in sources.iter_mut().enumerate().take(count) {
                *source = &rows[(row + index) * width..(row + index + 1) * width];
            }
            let block = Block {
                rows: &sources[..count],
                panels: &lines,
                starts: &packed.starts[first_panel..first_panel + panels],
                groups: packed.groups,
            };
            kernel::run(how.path, &block, None::<&mut Fold<'_>>, &mut block_out);
            // SAFETY: `out` holds m * n; tasks differ in rows or panels.
            unsafe { write_rows(shared, n, [row, first_panel], [count, panels], &block_out) };
            row += count;
        }
    };
    each(how.parallel, panel_groups * row_tasks, task);
}

/// Which path to take: the machine's best, or one named (tests compare them).
pub fn choose(name: Option<&str>) -> PyResult<Path> {
    match name {
        None => Ok(kernel::detect()),
        Some("portable") => Ok(Path::Portable),
        Some("avx2") if kernel::detect() != Path::Portable => Ok(Path::Avx2),
        Some("vnni512") if kernel::detect() == Path::Vnni512 => Ok(Path::Vnni512),
        Some(other) => Err(PyValueError::new_err(format!(
            "no path {other} on this machine"
        ))),
    }
}

/// Enter the thread pool once: every later step finds it awake.
pub fn on_pool<R: Send>(parallel: bool, work: impl FnOnce() -> R + Send) -> R {
    if parallel {
        rayon::scope(|_| work())
    } else {
        work()
    }
}

fn product<'py>(
    py: Python<'py>,
    a: &PyReadonlyArray2<'py, i8>,
    packed: &Packed,
    rows: &Pool<Vec<u8>>,
    path: Path,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let [m, k] = [a.shape()[0], a.shape()[1]];
    if k != packed.k {
        return Err(PyValueError::new_err(format!(
            "k: got {k}, expected {}",
            packed.k
        )));
    }
    let a = a.as_slice()?;
    // SAFETY: the product writes every element before anyone sees the array.
    let out = unsafe { PyArray2::<i32>::new(py, [m, packed.n], false) };
    {
        let mut writable = out.readwrite();
        let slice = writable.as_slice_mut()?;
        let parallel = m * packed.n * k >= SERIAL_MACS;
        let work = || {
            rows.with(|rows| {
                offset_rows(a, m, k, packed.groups, parallel, rows);
                multiply(How { path, parallel }, rows, m, packed, slice);
            });
        };
        py.detach(|| on_pool(parallel, work));
    }
    Ok(out)
}

fn pack(py: Python<'_>, b_transposed: &PyReadonlyArray2<'_, i8>) -> PyResult<Packed> {
    let [n, k] = [b_transposed.shape()[0], b_transposed.shape()[1]];
    if k > MAX_K {
        return Err(PyValueError::new_err(format!(
            "k: got {k}, at most {MAX_K}"
        )));
    }
    let bytes = b_transposed.as_slice()?;
    Ok(py.detach(|| Packed::new(bytes, n, k)))
}

/// Weights in the kernel's layout, packed once.
#[pyclass(frozen)]
pub struct PackedWeights {
    pub packed: Packed,
    rows: Pool<Vec<u8>>,
}

#[pymethods]
impl PackedWeights {
    #[new]
    fn new(py: Python<'_>, b_transposed: PyReadonlyArray2<'_, i8>) -> PyResult<Self> {
        Ok(PackedWeights {
            packed: pack(py, &b_transposed)?,
            rows: Pool::new(),
        })
    }

    #[getter]
    fn n(&self) -> usize {
        self.packed.n
    }

    #[getter]
    fn k(&self) -> usize {
        self.packed.k
    }

    /// `a @ b`, int32[m, n].
    #[pyo3(signature = (a, path=None))]
    fn matmul<'py>(
        &self,
        py: Python<'py>,
        a: PyReadonlyArray2<'py, i8>,
        path: Option<&str>,
    ) -> PyResult<Bound<'py, PyArray2<i32>>> {
        product(py, &a, &self.packed, &self.rows, choose(path)?)
    }
}

/// `a @ b_transposed.T`, int32[m, n], exact over the full range of int8.
#[pyfunction]
#[pyo3(signature = (a, b_transposed, path=None))]
fn matmul_i8<'py>(
    py: Python<'py>,
    a: PyReadonlyArray2<'py, i8>,
    b_transposed: PyReadonlyArray2<'py, i8>,
    path: Option<&str>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let packed = pack(py, &b_transposed)?;
    product(py, &a, &packed, &Pool::new(), choose(path)?)
}

/// The path that this machine takes.
#[pyfunction]
fn matmul_path() -> &'static str {
    match kernel::detect() {
        Path::Vnni512 => "vnni512",
        Path::Avx2 => "avx2",
        Path::Portable => "portable",
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PackedWeights>()?;
    module.add_function(wrap_pyfunction!(matmul_i8, module)?)?;
    module.add_function(wrap_pyfunction!(matmul_path, module)?)?;
    Ok(())
}

//! int8 x int8 -> int32, exact over the full range on every path.

use super::crew::{self, each};
use super::kernel::{
    self, Block, Bytes64, Into, Ints16, Line, PANELS, Path, ROWS, TILE, ZERO_INTS,
};
use numpy::ndarray::ArrayView2;
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

/// Below this many multiply-accumulates telling other threads costs more than they save (about 10 us).
pub const SERIAL_MACS: usize = 1 << 22;
/// The same for bytes that are packed.
const SERIAL_BYTES: usize = 1 << 17;
/// Rows of A that are multiplied with all of B before the next: they stay in L2.
const ROWS_BYTES: usize = 1 << 18;
/// Multiply-accumulates of a part, about 30 us.
const TASK_MACS: usize = 1 << 23;
/// Parts of a product for each thread, where it is large enough.
const PARTS_PER_THREAD: usize = 32;
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
pub struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: users write disjoint parts, see `write_rows`.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(slice: &mut [T]) -> Self {
        Shared(slice.as_mut_ptr())
    }

    /// Where entry `at` lies: the caller sees to it that there is one.
    pub fn at(self, at: usize) -> *mut T {
        self.0.wrapping_add(at)
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
                let to = out.at((at[0] + row) * n + column);
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
    let shared = Shared::new(out);
    let rows_per_task = (SERIAL_BYTES / 4 / k.max(1)).max(1);
    each(parallel, m.div_ceil(rows_per_task), |task| {
        for row in task * rows_per_task..m.min((task + 1) * rows_per_task) {
            // SAFETY: each row belongs to one task.
            let to = unsafe { shared.part(row * width, k) };
            for (to, from) in to.iter_mut().zip(&a[row * k..][..k]) {
                *to = *from as u8 ^ 0x80;
            }
        }
    });
}

/// Parts of a product `[m][n]`: rows that stay in L2, then the panels of B beside each other.
pub struct Tasks {
    m: usize,
    panels: usize,
    rows: usize,
    spans: usize,
    panels_per_task: usize,
}

impl Tasks {
    pub fn new(m: usize, packed: &Packed) -> Self {
        let (k, panels) = (packed.k.max(1), packed.panels());
        let mut rows = (ROWS_BYTES / k).clamp(64, 512).min(m);
        // so many parts that whoever ends first waits for little
        let parts = PARTS_PER_THREAD * crew::threads();
        while rows > 64 && m.div_ceil(rows) * panels.div_ceil(PANELS) < parts {
            rows = (rows / 2).next_multiple_of(ROWS);
        }
        let wanted = (TASK_MACS / (k * rows.max(1) * TILE)).min(panels / (parts / 4));
        let panels_per_task = (wanted / PANELS).max(1) * PANELS;
        Tasks {
            m,
            panels,
            rows,
            spans: panels.div_ceil(panels_per_task),
            panels_per_task,
        }
    }

    pub fn count(&self) -> usize {
        self.m.div_ceil(self.rows.max(1)) * self.spans
    }

    /// For one task its rows and its panels.
    pub fn part(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let row = task / self.spans * self.rows;
        let panel = task % self.spans * self.panels_per_task;
        let last = self.panels.min(panel + self.panels_per_task);
        (row..self.m.min(row + self.rows), panel..last)
    }
}

/// Each block of a part: first row and panel, and what the kernel takes.
pub fn each_block(
    (part_rows, part_panels): (Range<usize>, Range<usize>),
    (rows, packed): (&[u8], &Packed),
    mut run: impl FnMut(usize, usize, &Block<'_>),
) {
    let width = 4 * packed.groups;
    for first in part_panels.clone().step_by(PANELS) {
        let panels = PANELS.min(part_panels.end - first);
        let lines: [&[Bytes64]; PANELS] =
            std::array::from_fn(|panel| packed.panel(first + panel.min(panels - 1)));
        for row in part_rows.clone().step_by(ROWS) {
            let count = ROWS.min(part_rows.end - row);
            let sources: [&[u8]; ROWS] =
                std::array::from_fn(|index| &rows[(row + index.min(count - 1)) * width..][..width]);
            let block = Block {
                rows: &sources[..count],
                panels: &lines[..panels],
                starts: &packed.starts[first..first + panels],
                groups: packed.groups,
            };
            run(row, first, &block);
        }
    }
}

/// `out[m][n] = A @ B` from offset rows.
pub fn multiply(how: How, rows: &[u8], m: usize, packed: &Packed, out: &mut [i32]) {
    let n = packed.n;
    assert!(out.len() == m * n && rows.len() == m * 4 * packed.groups);
    let shared = Shared::new(out);
    let tasks = Tasks::new(m, packed);
    each(how.parallel, tasks.count(), |task| {
        each_block(tasks.part(task), (rows, packed), |row, first, block| {
            let column = first * TILE;
            // SAFETY: `out` holds m * n, asserted above; tasks differ in rows or panels.
            unsafe {
                let into = Into {
                    to: shared.at(row * n + column),
                    stride: n,
                    columns: (block.panels.len() * TILE).min(n - column),
                };
                kernel::run_into(how.path, block, into);
            }
        });
    });
}

/// An array whose rows begin where a cache line does if n is a multiple of 16: a line that is written in two goes costs
/// twice. The caller fills it before anyone sees it.
fn aligned<'py>(py: Python<'py>, [m, n]: [usize; 2]) -> Bound<'py, PyArray2<i32>> {
    // SAFETY: int32 needs no initialisation that the caller's writing does not give.
    let held = unsafe { PyArray1::<i32>::new(py, [m * n + TILE], false) };
    let first = held.data();
    let skip = first.align_offset(align_of::<Bytes64>()).min(TILE);
    // SAFETY: at most 16 of the array's m * n + 16 entries are skipped; the view's base keeps them.
    unsafe {
        let view = ArrayView2::from_shape_ptr([m, n], first.add(skip));
        PyArray2::borrow_from_array(&view, held.into_any())
    }
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
    let out = aligned(py, [m, packed.n]);
    {
        let mut writable = out.readwrite();
        let slice = writable.as_slice_mut()?;
        let parallel = m * packed.n * k >= SERIAL_MACS;
        py.detach(|| {
            rows.with(|rows| {
                offset_rows(a, m, k, packed.groups, parallel, rows);
                multiply(How { path, parallel }, rows, m, packed, slice);
            });
        });
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

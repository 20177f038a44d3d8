//! Openings of a byte range, in BLAKE3's own tree: chunks of 1 KiB are the leaves.
//!
//! Siblings are the chaining values of the maximal subtrees outside of the range, left to right: one
//! encoding per range, and their number follows from the lengths.

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, max_subtree_len, merge_subtrees_non_root,
    merge_subtrees_root,
};
use numpy::PyReadonlyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

const CHUNK: u64 = 1024;

/// The part of the tree that a call looks at.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

/// Bytes `[first_chunk * 1024, ...)` of `chunk_count` chunks, cut at the end of the data.
fn byte_range(total_len: u64, first_chunk: u64, chunk_count: u64) -> Option<Range> {
    if total_len > 1 << 60 {
        return None;
    }
    let chunks = total_len.div_ceil(CHUNK).max(1);
    let last = first_chunk.checked_add(chunk_count)?;
    if chunk_count == 0 || last > chunks {
        return None;
    }
    Some(Range {
        start: first_chunk * CHUNK,
        end: (last * CHUNK).min(total_len),
    })
}

fn subtree_value(offset: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
    if bytes.len() >= 1 << 17 {
        hasher.update_rayon(bytes);
    } else {
        hasher.update(bytes);
    }
    hasher.finalize_non_root()
}

fn collect_siblings(data: &[u8], start: u64, end: u64, range: Range, out: &mut Vec<u8>) {
    if start >= range.start && end <= range.end {
        return;
    }
    if end <= range.start || start >= range.end {
        out.extend_from_slice(&subtree_value(start, &data[start as usize..end as usize]));
        return;
    }
    let middle = start + left_subtree_len(end - start);
    collect_siblings(data, start, middle, range, out);
    collect_siblings(data, middle, end, range, out);
}

fn count_siblings(start: u64, end: u64, range: Range) -> usize {
    if start >= range.start && end <= range.end {
        return 0;
    }
    if end <= range.start || start >= range.end {
        return 1;
    }
    let middle = start + left_subtree_len(end - start);
    count_siblings(start, middle, range) + count_siblings(middle, end, range)
}

/// Chaining value of `[start, end)` from the opened bytes and the siblings, which it consumes in order.
fn rebuild(
    start: u64,
    end: u64,
    range: Range,
    bytes: &[u8],
    siblings: &mut &[u8],
) -> Option<ChainingValue> {
    if start >= range.start && end <= range.end {
        let from = (start - range.start) as usize;
        let to = (end - range.start) as usize;
        return Some(subtree_value(start, &bytes[from..to]));
    }
    if end <= range.start || start >= range.end {
        let (value, rest) = siblings.split_first_chunk::<32>()?;
        *siblings = rest;
        return Some(*value);
    }
    let middle = start + left_subtree_len(end - start);
    let left = rebuild(start, middle, range, bytes, siblings)?;
    let right = rebuild(middle, end, range, bytes, siblings)?;
    Some(merge_subtrees_non_root(&left, &right, Mode::Hash))
}

pub fn sibling_count(total_len: u64, first_chunk: u64, chunk_count: u64) -> Option<usize> {
    let range = byte_range(total_len, first_chunk, chunk_count)?;
    Some(count_siblings(0, total_len, range))
}

pub fn open(data: &[u8], first_chunk: u64, chunk_count: u64) -> Option<Vec<u8>> {
    let total_len = data.len() as u64;
    let range = byte_range(total_len, first_chunk, chunk_count)?;
    let mut out = Vec::new();
    collect_siblings(data, 0, total_len, range, &mut out);
    Some(out)
}

/// The digest that the opening leads to, or None if the lengths do not fit the range exactly.
pub fn digest_of_range(
    total_len: u64,
    first_chunk: u64,
    bytes: &[u8],
    siblings: &[u8],
) -> Option<[u8; 32]> {
    let chunk_count = (bytes.len() as u64).div_ceil(CHUNK).max(1);
    let range = byte_range(total_len, first_chunk, chunk_count)?;
    let fits = range.end - range.start == bytes.len() as u64
        && siblings.len() == 32 * count_siblings(0, total_len, range);
    if !fits {
        return None;
    }
    if range.start == 0 && range.end == total_len {
        return Some(*blake3::hash(bytes).as_bytes());
    }
    let middle = left_subtree_len(total_len);
    let mut rest = siblings;
    let left = rebuild(0, middle, range, bytes, &mut rest)?;
    let right = rebuild(middle, total_len, range, bytes, &mut rest)?;
    Some(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
}

/// Value of a node from the chaining values of equal subtrees below it (the last may be smaller), left to right: an odd
/// one moves up unchanged, which is BLAKE3's own tree. One value is its own node. None for none, or half a value.
pub fn merge(values: &[u8], is_root: bool) -> Option<ChainingValue> {
    let (values, rest) = values.as_chunks::<32>();
    if values.is_empty() || !rest.is_empty() || (is_root && values.len() == 1) {
        return None;
    }
    let mut level = values.to_vec();
    while level.len() > 2 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
                _ => pair[0],
            })
            .collect();
    }
    Some(match level[..] {
        [left, right] if is_root => *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes(),
        [left, right] => merge_subtrees_non_root(&left, &right, Mode::Hash),
        _ => level[0],
    })
}

/// BLAKE3 digest of bytes, on all cores.
#[pyfunction]
fn blake3_root<'py>(
    py: Python<'py>,
    data: PyReadonlyArray1<'py, u8>,
) -> PyResult<Bound<'py, PyBytes>> {
    let slice = data.as_slice()?;
    let digest = py.detach(|| *Hasher::new().update_rayon(slice).finalize().as_bytes());
    Ok(PyBytes::new(py, &digest))
}

/// Siblings that, with the bytes of the chunks, lead to the digest of `data`.
#[pyfunction]
fn open_range<'py>(
    py: Python<'py>,
    data: PyReadonlyArray1<'py, u8>,
    first_chunk: u64,
    chunk_count: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let slice = data.as_slice()?;
    let siblings = py
        .detach(|| open(slice, first_chunk, chunk_count))
        .ok_or_else(|| PyValueError::new_err("chunks outside of the data"))?;
    Ok(PyBytes::new(py, &siblings))
}

/// Length in bytes of an opening's siblings.
#[pyfunction]
fn siblings_size(total_len: u64, first_chunk: u64, chunk_count: u64) -> PyResult<usize> {
    sibling_count(total_len, first_chunk, chunk_count)
        .map(|count| 32 * count)
        .ok_or_else(|| PyValueError::new_err("chunks outside of the data"))
}

/// The digest that an opening leads to; None if its lengths do not fit.
#[pyfunction]
fn range_digest<'py>(
    py: Python<'py>,
    total_len: u64,
    first_chunk: u64,
    opened: &[u8],
    siblings: &[u8],
) -> Option<Bound<'py, PyBytes>> {
    digest_of_range(total_len, first_chunk, opened, siblings)
        .map(|digest| PyBytes::new(py, &digest))
}

/// Whether an opening leads to `root_hash`.
#[pyfunction]
fn verify_range(
    root_hash: &[u8],
    total_len: u64,
    first_chunk: u64,
    opened: &[u8],
    siblings: &[u8],
) -> bool {
    digest_of_range(total_len, first_chunk, opened, siblings)
        .is_some_and(|digest| digest.as_slice() == root_hash)
}

/// Chaining value of one subtree: bytes that start at a chunk, at most as many as fit into a tree there.
#[pyfunction]
fn subtree_hash<'py>(
    py: Python<'py>,
    data: PyReadonlyArray1<'py, u8>,
    first_chunk: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let slice = data.as_slice()?;
    let fits = first_chunk < 1 << 50
        && max_subtree_len(first_chunk * CHUNK).is_none_or(|most| slice.len() as u64 <= most);
    if !fits || slice.is_empty() {
        return Err(PyValueError::new_err("bytes are no subtree"));
    }
    let value = py.detach(|| subtree_value(first_chunk * CHUNK, slice));
    Ok(PyBytes::new(py, &value))
}

/// A node's chaining value, or the tree's digest, from its children's: see `merge`.
#[pyfunction]
fn merge_hashes<'py>(py: Python<'py>, values: &[u8], is_root: bool) -> Option<Bound<'py, PyBytes>> {
    merge(values, is_root).map(|value| PyBytes::new(py, &value))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(blake3_root, module)?)?;
    module.add_function(wrap_pyfunction!(open_range, module)?)?;
    module.add_function(wrap_pyfunction!(siblings_size, module)?)?;
    module.add_function(wrap_pyfunction!(range_digest, module)?)?;
    module.add_function(wrap_pyfunction!(verify_range, module)?)?;
    module.add_function(wrap_pyfunction!(subtree_hash, module)?)?;
    module.add_function(wrap_pyfunction!(merge_hashes, module)?)?;
    Ok(())
}

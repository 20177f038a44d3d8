//! Bytes under a tensor root: chunks that are opened to it, and one element computed from such chunks.

use std::borrow::Cow;

use super::super::blake3_tree::{digest_of_range, sibling_count};
use super::{BYTES_MAX, Place, Plan, Reader, Type, Window, decode, word};

const CHUNK: usize = 1024;

/// Opened chunks of one tensor.
struct Opened<'a> {
    start: usize,
    bytes: &'a [u8],
}

/// first chunk u64, size u32, opened bytes, siblings (their number follows) -> the bytes and the root they lead to.
fn read_opening<'a>(reader: &mut Reader<'a>, of: &Type) -> Option<(Opened<'a>, [u8; 32])> {
    let first_chunk = u64::from_be_bytes(reader.array()?);
    let size = reader.size()?;
    let bytes = reader.take(size)?;
    let total = of.bytes() as u64;
    let siblings = sibling_count(total, first_chunk, size.div_ceil(CHUNK) as u64)?;
    let digest = digest_of_range(total, first_chunk, bytes, reader.take(32 * siblings)?)?;
    let start = usize::try_from(first_chunk).ok()?.checked_mul(CHUNK)?;
    Some((Opened { start, bytes }, of.root(&digest)))
}

/// root, type, one opening -> 1.
pub fn check(input: &[u8]) -> Option<Vec<u8>> {
    if input.len() > BYTES_MAX {
        return None;
    }
    let mut reader = Reader::new(input);
    let root: [u8; 32] = reader.array()?;
    let of = reader.tensor_type()?;
    let (_, found) = read_opening(&mut reader, &of)?;
    reader.end()?;
    (found == root).then(|| word(1))
}

/// One element of an operator from tensors that are known by their roots -> int256.
///
/// Behind each tensor's type stands its root; then for each tensor the number of its openings (u16) and those, by
/// ascending chunk. They have to hold all that the element reads.
pub fn proven_element(input: &[u8]) -> Option<Plan<'_>> {
    if input.len() > BYTES_MAX {
        return None;
    }
    let mut reader = Reader::new(input);
    let mut roots: Vec<[u8; 32]> = Vec::new();
    let place = Place::read(&mut reader, |reader| {
        roots.push(reader.array()?);
        Some(())
    })?;
    let mut opened = Vec::with_capacity(roots.len());
    for (of, root) in place.types.iter().zip(&roots) {
        let count = u16::from_be_bytes(reader.array()?);
        let mut parts: Vec<Opened> = Vec::new();
        for _ in 0..count {
            let (part, found) = read_opening(&mut reader, of)?;
            let follows = parts
                .last()
                .is_none_or(|last| last.start + last.bytes.len() <= part.start);
            if found != *root || !follows {
                return None;
            }
            parts.push(part);
        }
        opened.push(parts);
    }
    reader.end()?;
    let bytes = opened.iter().flatten().map(|part| part.bytes.len()).sum();
    Some(Plan {
        work: place.work(bytes),
        run: Box::new(move || {
            let value = place.compute(&mut |tensor, window| {
                let dtype = place.types[tensor].dtype;
                let bytes = gather(&opened[tensor], window, dtype.size())?;
                Some(Cow::Owned(decode(dtype, &bytes)))
            })?;
            Some(word(value))
        }),
    })
}

/// The window's bytes; None if some were not opened.
fn gather(parts: &[Opened], window: Window, size: usize) -> Option<Vec<u8>> {
    // what was opened came in as bytes, so a window beyond them is refused before anything is reserved
    let held: usize = parts.iter().map(|part| part.bytes.len()).sum();
    let total = window.size()?.checked_mul(size)?;
    if total > held {
        return None;
    }
    let length = window.run * size;
    let mut out = Vec::with_capacity(total);
    if total == 0 {
        return Some(out);
    }
    for start in window.starts() {
        let mut start = start?.checked_mul(size)?;
        let end = start.checked_add(length)?;
        while start < end {
            let place = parts.partition_point(|part| part.start + part.bytes.len() <= start);
            let part = parts.get(place).filter(|part| part.start <= start)?;
            let stop = end.min(part.start + part.bytes.len());
            out.extend_from_slice(&part.bytes[start - part.start..stop - part.start]);
            start = stop;
        }
    }
    Some(out)
}

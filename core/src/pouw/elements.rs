//! The operators as native EVM calls: whole at small sizes, one element, openings, tickets, small graphs.
//!
//! Defined by `pouw/operators/` (values) and `pouw/operators/elements.py` (what one element reads). Input layouts:
//! docs/spec/precompiles.md. Any bytes are safe: None is the answer to what is malformed; nothing panics, and time
//! and memory follow from the length of the input and the work that is priced before it is done.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

mod decoder;
mod encoder;
mod graph;
mod opening;
mod sampling;
mod scene;
mod ticket;
mod vision;

/// Bytes of input that a call takes, and of output that it makes.
pub const BYTES_MAX: usize = 1 << 17;
/// Elements of a tensor, as in `pouw/hypergraph.py`.
const ELEMENTS_MAX: usize = 1 << 31;
const RANK_MAX: usize = 4;
const ATTRIBUTES_MAX: usize = 16;
/// Units of one element beside what is opened for it.
const PER_ELEMENT: u64 = 16;

/// What a call costs beyond its input's length, and what it does once that is paid.
pub struct Plan<'a> {
    /// (kind, units): kinds are indices of the rates in `precompiles/registry.py`, an operator's is its code.
    pub work: Vec<(usize, u64)>,
    pub run: Box<dyn FnOnce() -> Option<Vec<u8>> + 'a>,
}

pub enum Call {
    /// Priced by the length of its input alone.
    Plain(fn(&[u8]) -> Option<Vec<u8>>),
    /// Reads its input, in time that the length pays for, to say what the rest costs.
    Planned(for<'a> fn(&'a [u8]) -> Option<Plan<'a>>),
}

/// The calls by the name that `precompiles/registry.py` uses.
pub const CALLS: &[(&str, Call)] = &[
    ("opening", Call::Plain(opening::check)),
    ("operator", Call::Planned(operator)),
    ("element", Call::Planned(element)),
    ("proven_element", Call::Planned(opening::proven_element)),
    ("ticket", Call::Plain(ticket::verify)),
    ("run_graph", Call::Planned(graph::run_graph)),
];

/// Reads fields; those that a contract writes are big-endian, those of a graph file little-endian.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(part)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub fn size(&mut self) -> Option<usize> {
        Some(u32::from_be_bytes(self.array()?) as usize)
    }

    pub fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    fn attributes(&mut self) -> Option<Vec<i64>> {
        let count = usize::from(self.byte()?);
        if count > ATTRIBUTES_MAX {
            return None;
        }
        (0..count)
            .map(|_| Some(i64::from_be_bytes(self.array()?)))
            .collect()
    }

    /// dtype u8, rank u8, dimensions u32.
    fn tensor_type(&mut self) -> Option<Type> {
        let dtype = DType::of(self.byte()?)?;
        let rank = usize::from(self.byte()?);
        if rank > RANK_MAX {
            return None;
        }
        let shape = (0..rank).map(|_| self.size()).collect::<Option<_>>()?;
        Type::new(dtype, shape)
    }
}

/// The codes are those of `pouw/trace.py`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DType {
    Int8 = 1,
    Int16 = 2,
    Int32 = 3,
    Int64 = 4,
    UInt8 = 5,
}

impl DType {
    pub fn of(code: u8) -> Option<Self> {
        [
            Self::Int8,
            Self::Int16,
            Self::Int32,
            Self::Int64,
            Self::UInt8,
        ]
        .into_iter()
        .find(|dtype| *dtype as u8 == code)
    }

    pub fn size(self) -> usize {
        match self {
            Self::Int8 | Self::UInt8 => 1,
            Self::Int16 => 2,
            Self::Int32 => 4,
            Self::Int64 => 8,
        }
    }
}

/// dtype and shape, all dimensions known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Type {
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl Type {
    /// None for an empty tensor or one with more than 2^31 elements.
    pub fn new(dtype: DType, shape: Vec<usize>) -> Option<Self> {
        let mut elements = 1usize;
        for &size in &shape {
            elements = elements.checked_mul(size)?;
            if elements > ELEMENTS_MAX {
                return None;
            }
        }
        (elements > 0).then_some(Self { dtype, shape })
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }

    /// The tensor root over a digest of its bytes (`pouw/trace.py`).
    pub fn root(&self, digest: &[u8; 32]) -> [u8; 32] {
        let mut form = vec![self.dtype as u8, self.shape.len() as u8];
        for &size in &self.shape {
            form.extend_from_slice(&(size as u32).to_le_bytes());
        }
        let leaves = (self.bytes().div_ceil(1024).max(1) as u64).to_le_bytes();
        tagged_hash("tensor", &[&form, &leaves, digest])
    }
}

/// Bytes, row-major and little-endian, with their type.
#[derive(Clone)]
pub struct Tensor<'a> {
    pub of: Type,
    pub bytes: Cow<'a, [u8]>,
}

impl Tensor<'_> {
    pub fn values(&self) -> Vec<i64> {
        decode(self.of.dtype, &self.bytes)
    }
}

pub fn decode(dtype: DType, bytes: &[u8]) -> Vec<i64> {
    fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> i64) -> Vec<i64> {
        bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|part| value(*part))
            .collect()
    }
    match dtype {
        DType::Int8 => each(bytes, |[byte]| i64::from(byte as i8)),
        DType::UInt8 => each(bytes, |[byte]| i64::from(byte)),
        DType::Int16 => each(bytes, |part| i64::from(i16::from_le_bytes(part))),
        DType::Int32 => each(bytes, |part| i64::from(i32::from_le_bytes(part))),
        DType::Int64 => each(bytes, i64::from_le_bytes),
    }
}

/// The values' low bytes, as numpy's `astype`.
pub fn encode(dtype: DType, values: &[i64]) -> Vec<u8> {
    let size = dtype.size();
    let mut out = Vec::with_capacity(values.len() * size);
    for value in values {
        out.extend_from_slice(&value.to_le_bytes()[..size]);
    }
    out
}

/// Elements of one tensor: `count` runs of `run` elements, `stride` apart; all that `rows` times, `pitch` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: usize,
    pub run: usize,
    pub count: usize,
    pub stride: usize,
    pub rows: usize,
    pub pitch: usize,
}

impl Window {
    pub fn one(start: usize) -> Self {
        Self::run(start, 1)
    }

    pub fn run(start: usize, run: usize) -> Self {
        Self {
            start,
            run,
            count: 1,
            stride: 0,
            rows: 1,
            pitch: 0,
        }
    }

    /// Where nothing is read: only the tensor's shape counts.
    pub fn none() -> Self {
        Self::run(0, 0)
    }

    pub fn column(start: usize, count: usize, stride: usize) -> Self {
        Self {
            count,
            stride,
            ..Self::one(start)
        }
    }

    /// Number of elements; None beyond what a machine counts.
    fn size(&self) -> Option<usize> {
        self.run.checked_mul(self.count)?.checked_mul(self.rows)
    }

    /// First element of each run, in order.
    fn starts(&self) -> impl Iterator<Item = Option<usize>> {
        let window = *self;
        let runs =
            (0..window.rows).flat_map(move |row| (0..window.count).map(move |run| (row, run)));
        runs.map(move |(row, run)| {
            let row = row.checked_mul(window.pitch)?;
            window
                .start
                .checked_add(row)?
                .checked_add(run.checked_mul(window.stride)?)
        })
    }
}

/// Gives an element's computation the values of a window of tensor number `.0`.
pub type Read<'r> = dyn FnMut(usize, Window) -> Option<Cow<'r, [i64]>> + 'r;

pub type Whole = fn(&[&Tensor], &[i64]) -> Option<Vec<u8>>;

/// Refuses values that no element may read, but the definition refuses.
pub type Check = fn(&[&Type], &[Vec<i64>]) -> Option<()>;

pub enum Compute {
    Whole(Whole),
    /// Element by element: where they share no work.
    ByElement,
    /// Element by element, once all values are checked.
    Checked(Check),
}

/// One operator, as in `pouw/operators/rule.py`.
pub struct Rule {
    pub code: u8,
    pub arity: usize,
    pub attributes: usize,
    /// Type of the output; None where tensors or attributes do not fit.
    pub infer: fn(&[&Type], &[i64]) -> Option<Type>,
    /// What its rate counts; at least the number of its outputs.
    pub work: fn(&[&Type], &[i64]) -> u64,
    /// The whole output; None where a value does not fit.
    pub compute: Compute,
    /// One element of the output from the windows that it reads, in an order that is part of the rule.
    pub element: fn(&[&Type], &[i64], usize, &mut Read) -> Option<i64>,
}

impl Rule {
    pub fn of(code: u8) -> Option<&'static Rule> {
        let families = [
            encoder::RULES,
            decoder::RULES,
            sampling::RULES,
            vision::RULES,
            scene::RULES,
        ];
        let mut rules = families.into_iter().flatten();
        rules.find(|rule| rule.code == code)
    }

    /// Bytes of the output.
    pub fn run(&self, tensors: &[&Tensor], attributes: &[i64]) -> Option<Vec<u8>> {
        let by_element = |check: Option<Check>| {
            let types: Vec<&Type> = tensors.iter().map(|tensor| &tensor.of).collect();
            let output = self.output_type(&types, attributes)?;
            let values: Vec<Vec<i64>> = tensors.iter().map(|tensor| tensor.values()).collect();
            if let Some(check) = check {
                check(&types, &values)?;
            }
            let mut read = |tensor: usize, window: Window| {
                if window.count == 1 && window.rows == 1 {
                    let end = window.start.checked_add(window.run)?;
                    return Some(Cow::Borrowed(values[tensor].get(window.start..end)?));
                }
                let mut found = Vec::with_capacity(window.size()?);
                for start in window.starts() {
                    let start = start?;
                    let end = start.checked_add(window.run)?;
                    found.extend_from_slice(values[tensor].get(start..end)?);
                }
                Some(Cow::Owned(found))
            };
            let made: Option<Vec<i64>> = (0..output.elements())
                .map(|index| (self.element)(&types, attributes, index, &mut read))
                .collect();
            Some(encode(output.dtype, &made?))
        };
        match self.compute {
            Compute::Whole(compute) => compute(tensors, attributes),
            Compute::ByElement => by_element(None),
            Compute::Checked(check) => by_element(Some(check)),
        }
    }

    pub fn output_type(&self, types: &[&Type], attributes: &[i64]) -> Option<Type> {
        if types.len() != self.arity || attributes.len() != self.attributes {
            return None;
        }
        (self.infer)(types, attributes)
    }
}

/// Product of sizes as units of work.
pub fn units(sizes: &[usize]) -> u64 {
    sizes
        .iter()
        .fold(1, |all, &size| all.saturating_mul(size as u64))
}

pub fn tagged_hash(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[tag.len() as u8]).update(tag.as_bytes());
    for part in parts {
        hasher.update(&(part.len() as u32).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// A value as the 32 bytes of an int256.
pub fn word(value: i64) -> Vec<u8> {
    let mut out = vec![if value < 0 { 0xff } else { 0 }; 24];
    out.extend_from_slice(&value.to_be_bytes());
    out
}

/// One operator on whole tensors: code, attributes, tensors (type and bytes each) -> bytes of the output.
fn operator(input: &[u8]) -> Option<Plan<'_>> {
    if input.len() > BYTES_MAX {
        return None;
    }
    let mut reader = Reader::new(input);
    let rule = Rule::of(reader.byte()?)?;
    let attributes = reader.attributes()?;
    if usize::from(reader.byte()?) != rule.arity {
        return None;
    }
    let mut tensors = Vec::with_capacity(rule.arity);
    for _ in 0..rule.arity {
        let of = reader.tensor_type()?;
        let bytes = Cow::Borrowed(reader.take(of.bytes())?);
        tensors.push(Tensor { of, bytes });
    }
    reader.end()?;
    let types: Vec<&Type> = tensors.iter().map(|tensor| &tensor.of).collect();
    if rule.output_type(&types, &attributes)?.bytes() > BYTES_MAX {
        return None;
    }
    let work = (rule.work)(&types, &attributes);
    Some(Plan {
        work: vec![(usize::from(rule.code), work)],
        run: Box::new(move || {
            let tensors: Vec<&Tensor> = tensors.iter().collect();
            rule.run(&tensors, &attributes)
        }),
    })
}

/// What a call about one element names, up to the tensors' types.
struct Place {
    rule: &'static Rule,
    attributes: Vec<i64>,
    index: usize,
    types: Vec<Type>,
}

impl Place {
    /// code u8, attributes, index u64, tensors u8, and for each its type and what `after` reads behind it.
    fn read<'a>(
        reader: &mut Reader<'a>,
        mut after: impl FnMut(&mut Reader<'a>) -> Option<()>,
    ) -> Option<Self> {
        let rule = Rule::of(reader.byte()?)?;
        let attributes = reader.attributes()?;
        let index = usize::try_from(u64::from_be_bytes(reader.array()?)).ok()?;
        if usize::from(reader.byte()?) != rule.arity {
            return None;
        }
        let mut types = Vec::with_capacity(rule.arity);
        for _ in 0..rule.arity {
            types.push(reader.tensor_type()?);
            after(reader)?;
        }
        Some(Self {
            rule,
            attributes,
            index,
            types,
        })
    }

    /// An element's computation grows with what is opened for it: a unit for each element.
    fn work(&self, opened_bytes: usize) -> Vec<(usize, u64)> {
        let size = self.types.first().map_or(1, |of| of.dtype.size());
        let units = opened_bytes.div_ceil(size) as u64 + PER_ELEMENT;
        vec![(usize::from(self.rule.code), units)]
    }

    fn compute(&self, read: &mut Read) -> Option<i64> {
        let types: Vec<&Type> = self.types.iter().collect();
        let output = self.rule.output_type(&types, &self.attributes)?;
        if self.index >= output.elements() {
            return None;
        }
        (self.rule.element)(&types, &self.attributes, self.index, read)
    }
}

/// One element from the bytes of its windows, one behind the other in the order of reading -> int256.
fn element(input: &[u8]) -> Option<Plan<'_>> {
    if input.len() > BYTES_MAX {
        return None;
    }
    let mut reader = Reader::new(input);
    let place = Place::read(&mut reader, |_| Some(()))?;
    Some(Plan {
        work: place.work(reader.rest.len()),
        run: Box::new(move || {
            let value = place.compute(&mut |tensor, window| {
                let dtype = place.types[tensor].dtype;
                let size = window.size()?.checked_mul(dtype.size())?;
                Some(Cow::Owned(decode(dtype, reader.take(size)?)))
            })?;
            reader.end()?;
            Some(word(value))
        }),
    })
}

/// A call outside of the EVM, for tests and measurements: its work and its output, None for malformed input.
#[pyfunction]
#[allow(clippy::type_complexity)]
fn native_call<'py>(
    py: Python<'py>,
    name: &str,
    data: &[u8],
) -> PyResult<Option<(Vec<(usize, u64)>, Option<Bound<'py, PyBytes>>)>> {
    let Some((_, call)) = CALLS.iter().find(|(known, _)| *known == name) else {
        return Err(pyo3::exceptions::PyValueError::new_err(format!(
            "no native call {name:?}"
        )));
    };
    let done = py.detach(|| match call {
        Call::Plain(run) => Some((vec![], run(data))),
        Call::Planned(plan) => plan(data).map(|plan| (plan.work, (plan.run)())),
    });
    Ok(done.map(|(work, output)| (work, output.map(|bytes| PyBytes::new(py, &bytes)))))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(native_call, module)?)
}

//! A small hypergraph, read and executed within one call: what `pouw/graph_encoding.py` decodes and
//! `pouw/execution.py` runs, at the symbols' values.
//!
//! Stricter than those in size alone. Wiring and types are checked at the symbols' values, not for all of them: a graph
//! that is ill-formed only elsewhere still runs.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{BYTES_MAX, DType, Plan, Reader, Rule, Tensor, Type, tagged_hash};

const VERSION: u8 = 1;
const TOP_LAYER_MAX: usize = 24_576;
const SYMBOLS_MAX: usize = 4;
const PORTS_MAX: usize = 64;
const SUBGRAPHS_MAX: usize = 64;
const OPERATORS_MAX: usize = 128;
/// Bytes of all operators' outputs together.
const OUTPUTS_MAX: usize = 1 << 20;
/// Units of an operator beside its own.
const PER_OPERATOR: u64 = 64;
const TENSORS_MAX: usize = 16;
const ATTRIBUTES_MAX: usize = 16;
const RANK_MAX: usize = 4;

type Name<'a> = &'a [u8];

/// Where an operator finds a tensor.
#[derive(Clone, Copy)]
enum Source {
    /// Number in the order of the constants.
    Constant(usize),
    /// Number of a graph input.
    Input(usize),
    /// Global number of an operator.
    Made(usize),
}

enum Reference {
    Input(usize),
    Output(usize),
    Constant([u8; 32], Type),
}

struct Step {
    rule: &'static Rule,
    attributes: Vec<i64>,
    sources: Vec<Source>,
    output: Type,
}

#[derive(Default)]
struct Program {
    inputs: Vec<Type>,
    constants: Vec<([u8; 32], Type)>,
    steps: Vec<Step>,
    outputs: Vec<Source>,
}

/// graph id, symbols (count u8, u32 each), graph file (length u32, bytes), constants in the order of their first use,
/// inputs -> outputs one behind the other.
pub fn run_graph(input: &[u8]) -> Option<Plan<'_>> {
    if input.len() > BYTES_MAX {
        return None;
    }
    let mut reader = Reader::new(input);
    let id: [u8; 32] = reader.array()?;
    let count = usize::from(reader.byte()?);
    if count > SYMBOLS_MAX {
        return None;
    }
    let symbols: Vec<usize> = (0..count).map(|_| reader.size()).collect::<Option<_>>()?;
    let size = reader.size()?;
    let program = Program::read(reader.take(size)?, &id, &symbols)?;
    let mut constants = Vec::with_capacity(program.constants.len());
    for (root, of) in &program.constants {
        let bytes = Cow::Borrowed(reader.take(of.bytes())?);
        constants.push((
            *root,
            Tensor {
                of: of.clone(),
                bytes,
            },
        ));
    }
    let mut inputs = Vec::with_capacity(program.inputs.len());
    for of in &program.inputs {
        let bytes = Cow::Borrowed(reader.take(of.bytes())?);
        inputs.push(Tensor {
            of: of.clone(),
            bytes,
        });
    }
    reader.end()?;
    let work = program.work(&constants, &inputs);
    Some(Plan {
        work,
        run: Box::new(move || program.run(&constants, &inputs)),
    })
}

impl Program {
    fn read(file: &[u8], id: &[u8; 32], symbols: &[usize]) -> Option<Self> {
        let mut operators = Reader::new(file);
        let size = number(&mut operators, 4)?;
        if size > TOP_LAYER_MAX {
            return None;
        }
        let encoded = operators.take(size)?;
        if tagged_hash("hypergraph", &[encoded]) != *id {
            return None;
        }
        let mut top = Reader::new(encoded);
        if top.byte()? != VERSION {
            return None;
        }
        name(&mut top)?;
        read_symbols(&mut top, symbols)?;
        let mut program = Program::default();
        let mut edges: HashMap<Name, (Source, Type)> = HashMap::new();
        for index in 0..count(&mut top, 1, PORTS_MAX)? {
            let port = name(&mut top)?;
            let of = tensor_type(&mut top, symbols)?;
            program.inputs.push(of.clone());
            if edges.insert(port, (Source::Input(index), of)).is_some() {
                return None;
            }
        }
        let mut outputs: Vec<Name> = Vec::new();
        for _ in 0..count(&mut top, 1, PORTS_MAX)? {
            let output = name(&mut top)?;
            if outputs.contains(&output) {
                return None;
            }
            outputs.push(output);
        }
        let mut names: Vec<Name> = Vec::new();
        let mut constants = HashMap::new();
        for _ in 0..count(&mut top, 2, SUBGRAPHS_MAX)? {
            let subgraph = name(&mut top)?;
            if names.contains(&subgraph) {
                return None;
            }
            names.push(subgraph);
            let mut inputs = Vec::new();
            for _ in 0..count(&mut top, 1, PORTS_MAX)? {
                inputs.push(edges.get(name(&mut top)?)?.clone());
            }
            let mut ports = Vec::new();
            for _ in 0..count(&mut top, 1, PORTS_MAX)? {
                let port = name(&mut top)?;
                let of = tensor_type(&mut top, symbols)?;
                ports.push((port, of, number(&mut top, 4)?));
            }
            let root: [u8; 32] = top.array()?;
            let first = program.steps.len();
            let operator_count = count(&mut top, 4, OPERATORS_MAX - first)?;
            let mut leaves = Vec::new();
            for _ in 0..operator_count {
                let before = operators.rest;
                program.read_step(&mut operators, first, &inputs, symbols, &mut constants)?;
                let leaf = &before[..before.len() - operators.rest.len()];
                leaves.push(tagged_hash("operator", &[leaf]));
            }
            if operators_root(leaves)? != root {
                return None;
            }
            for (port, of, operator) in ports {
                let made = program.steps.get(first.checked_add(operator)?)?;
                let source = (Source::Made(first + operator), of);
                if made.output != source.1 || edges.insert(port, source).is_some() {
                    return None;
                }
            }
        }
        top.end()?;
        operators.end()?;
        for output in outputs {
            program.outputs.push(edges.get(output)?.0);
        }
        let made = program.steps.iter().map(|step| step.output.bytes());
        (made.sum::<usize>() <= OUTPUTS_MAX).then_some(program)
    }

    fn read_step(
        &mut self,
        reader: &mut Reader,
        first: usize,
        inputs: &[(Source, Type)],
        symbols: &[usize],
        constants: &mut HashMap<[u8; 32], usize>,
    ) -> Option<()> {
        let rule = Rule::of(reader.byte()?)?;
        name(reader)?;
        let mut sources = Vec::new();
        let mut types = Vec::new();
        for _ in 0..count(reader, 1, TENSORS_MAX)? {
            let (source, of) = match reference(reader, symbols)? {
                Reference::Input(index) => inputs.get(index)?.clone(),
                Reference::Output(index) => {
                    let index = first.checked_add(index)?;
                    (Source::Made(index), self.steps.get(index)?.output.clone())
                }
                Reference::Constant(root, of) => {
                    let next = self.constants.len();
                    let index = *constants.entry(root).or_insert(next);
                    if index == next {
                        self.constants.push((root, of.clone()));
                    }
                    // one root binds one type
                    if self.constants[index].1 != of {
                        return None;
                    }
                    (Source::Constant(index), of)
                }
            };
            sources.push(source);
            types.push(of);
        }
        let mut attributes = Vec::new();
        for _ in 0..count(reader, 1, ATTRIBUTES_MAX)? {
            attributes.push(i64::from_le_bytes(reader.array()?));
        }
        let types: Vec<&Type> = types.iter().collect();
        let output = rule.output_type(&types, &attributes)?;
        if output.bytes() > OUTPUTS_MAX {
            return None;
        }
        self.steps.push(Step {
            rule,
            attributes,
            sources,
            output,
        });
        Some(())
    }

    fn type_of<'a>(
        &'a self,
        source: Source,
        constants: &'a [([u8; 32], Tensor)],
        inputs: &'a [Tensor],
    ) -> &'a Type {
        match source {
            Source::Constant(index) => &constants[index].1.of,
            Source::Input(index) => &inputs[index].of,
            Source::Made(index) => &self.steps[index].output,
        }
    }

    fn work(&self, constants: &[([u8; 32], Tensor)], inputs: &[Tensor]) -> Vec<(usize, u64)> {
        let each = self.steps.iter().map(|step| {
            let sources = step.sources.iter();
            let types: Vec<&Type> = sources
                .map(|&source| self.type_of(source, constants, inputs))
                .collect();
            // an operator reads all that it is given, whatever it makes of it
            let read: usize = types.iter().map(|of| of.elements()).sum();
            let work = (step.rule.work)(&types, &step.attributes)
                .saturating_add(read as u64 + PER_OPERATOR);
            (usize::from(step.rule.code), work)
        });
        each.collect()
    }

    fn run(&self, constants: &[([u8; 32], Tensor)], inputs: &[Tensor]) -> Option<Vec<u8>> {
        for (root, constant) in constants {
            let digest = *blake3::hash(&constant.bytes).as_bytes();
            if constant.of.root(&digest) != *root {
                return None;
            }
        }
        let mut made: Vec<Tensor> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let sources = step.sources.iter();
            let tensors: Vec<&Tensor> = sources
                .map(|&source| pick(source, constants, inputs, &made))
                .collect();
            let bytes = step.rule.run(&tensors, &step.attributes)?;
            made.push(Tensor {
                of: step.output.clone(),
                bytes: Cow::Owned(bytes),
            });
        }
        let mut out = Vec::new();
        for &source in &self.outputs {
            out.extend_from_slice(&pick(source, constants, inputs, &made).bytes);
        }
        Some(out)
    }
}

fn pick<'a, 'b>(
    source: Source,
    constants: &'a [([u8; 32], Tensor<'b>)],
    inputs: &'a [Tensor<'b>],
    made: &'a [Tensor<'b>],
) -> &'a Tensor<'b> {
    match source {
        Source::Constant(index) => &constants[index].1,
        Source::Input(index) => &inputs[index],
        Source::Made(index) => &made[index],
    }
}

fn number(reader: &mut Reader, size: usize) -> Option<usize> {
    let bytes = reader.take(size)?.iter().rev();
    Some(bytes.fold(0, |value, &byte| value << 8 | usize::from(byte)))
}

fn count(reader: &mut Reader, size: usize, most: usize) -> Option<usize> {
    number(reader, size).filter(|&count| count <= most)
}

/// One capital letter, or 1 to 64 of a-z 0-9 _ . -
fn name<'a>(reader: &mut Reader<'a>) -> Option<Name<'a>> {
    let size = usize::from(reader.byte()?);
    let name = reader.take(size)?;
    let plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
    let known = match name {
        [byte] => plain(byte) || byte.is_ascii_uppercase(),
        _ => (1..=64).contains(&size) && name.iter().all(plain),
    };
    known.then_some(name)
}

fn read_symbols(top: &mut Reader, values: &[usize]) -> Option<()> {
    if count(top, 1, SYMBOLS_MAX)? != values.len() {
        return None;
    }
    let mut names = Vec::new();
    for value in values {
        let symbol = name(top)?;
        let [low, high] = [number(top, 4)?, number(top, 4)?];
        if low < 1 || !(low..=high).contains(value) || names.contains(&symbol) {
            return None;
        }
        names.push(symbol);
    }
    Some(())
}

fn tensor_type(reader: &mut Reader, symbols: &[usize]) -> Option<Type> {
    let dtype = DType::of(reader.byte()?)?;
    let rank = count(reader, 1, RANK_MAX)?;
    let mut shape = Vec::with_capacity(rank);
    for _ in 0..rank {
        let tag = reader.byte()?;
        let value = number(reader, 4)?;
        shape.push(match tag {
            0 => value,
            1 => *symbols.get(value)?,
            _ => return None,
        });
    }
    Type::new(dtype, shape)
}

fn reference(reader: &mut Reader, symbols: &[usize]) -> Option<Reference> {
    Some(match reader.byte()? {
        0 => Reference::Input(number(reader, 4)?),
        1 => Reference::Output(number(reader, 4)?),
        2 => Reference::Constant(reader.array()?, tensor_type(reader, symbols)?),
        _ => return None,
    })
}

/// Merkle root over a subgraph's operators; an odd node moves up unchanged.
fn operators_root(mut level: Vec<[u8; 32]>) -> Option<[u8; 32]> {
    while level.len() > 1 {
        let pairs = level.chunks(2).map(|pair| match pair {
            [left, right] => tagged_hash("operators", &[left, right]),
            _ => pair[0],
        });
        level = pairs.collect();
    }
    Some(tagged_hash("subgraph", &[level.first()?]))
}

//! Sampling from long rows as native calls: `candidates` and `draw`. Values: `../sampling.rs`.

use super::encoder::{PER_NORM, WEIGHT_TABLE_SIZE, check, fits, is, shape};
use super::{Compute, DType, Rule, Type, Window, encode, units};
use crate::pouw::sampling::{
    SHARE_MAX, TEMPERATURE_MAX, VOCABULARY_MAX, draw_row, largest, smallest_segment,
};

pub const RULES: &[Rule] = &[
    Rule {
        code: 28,
        arity: 1,
        attributes: 3,
        infer: |types, attributes| {
            let [m, n] = shape::<2>(types[0], DType::Int32)?;
            fits(n <= VOCABULARY_MAX)?;
            check(&attributes[..1], 1, TEMPERATURE_MAX)?;
            check(&attributes[1..2], 1, n as i64)?;
            let segment = attributes[1] as usize;
            check(&attributes[2..], 1, smallest_segment(n, segment) as i64)?;
            let count = attributes[2] as usize;
            Type::new(DType::Int64, vec![m, n.div_ceil(segment) * count])
        },
        work: |types, attributes| {
            let [m, n] = [types[0].shape[0], types[0].shape[1]];
            let segments = n.div_ceil(attributes[1] as usize);
            units(&[m, n + segments * PER_NORM])
        },
        compute: Compute::Whole(|tensors, attributes| {
            let (logits, n) = (tensors[0].values(), tensors[0].of.shape[1]);
            let [temperature, segment, count] = [0, 1, 2].map(|place| attributes[place]);
            let mut keys = Vec::new();
            for row in logits.chunks_exact(n) {
                for (number, part) in row.chunks(segment as usize).enumerate() {
                    let first = number * segment as usize;
                    let values = part.iter().copied();
                    keys.extend(largest(values, first, temperature, count as usize));
                }
            }
            Some(encode(DType::Int64, &keys))
        }),
        element: |types, attributes, index, read| {
            let n = types[0].shape[1];
            let [segment, count] = [attributes[1] as usize, attributes[2] as usize];
            let row = index / (n.div_ceil(segment) * count);
            let first = index / count % n.div_ceil(segment) * segment;
            // a short last segment is read with what stands before it: every element reads as much
            let start = first.min(n - segment);
            let entries = read(0, Window::run(row * n + start, segment))?;
            let values = entries.get(first - start..)?.iter().copied();
            let keys = largest(values, first, attributes[0], count);
            keys.get(index % count).copied()
        },
    },
    Rule {
        code: 29,
        arity: 4,
        attributes: 2,
        infer: |types, attributes| {
            let [m, c] = shape::<2>(types[0], DType::Int64)?;
            fits(c <= VOCABULARY_MAX)?;
            is(types[1], DType::Int32, &[1])?;
            shape::<1>(types[2], DType::Int32)?;
            is(types[3], DType::Int16, &[WEIGHT_TABLE_SIZE])?;
            check(&attributes[..1], 1, c as i64)?;
            check(&attributes[1..], 1, SHARE_MAX)?;
            Type::new(DType::Int32, vec![m])
        },
        // a row is sorted: at most 14 comparisons an entry for what fits into a call
        work: |types, _| units(&[types[0].shape[0], types[0].shape[1] + PER_NORM]),
        compute: Compute::Whole(|tensors, attributes| {
            let [keys, table] = [tensors[0].values(), tensors[3].values()];
            let [m, c] = [tensors[0].of.shape[0], tensors[0].of.shape[1]];
            let seed = tensors[1].values()[0];
            let first = tensors[2].of.shape[0] as i64 - m as i64;
            let rows = keys.chunks_exact(c).zip(first..);
            let drawn: Vec<i64> = rows
                .map(|(row, position)| draw(row, seed, position, &table, attributes))
                .collect();
            Some(encode(DType::Int32, &drawn))
        }),
        element: |types, attributes, index, read| {
            let [m, c] = [types[0].shape[0], types[0].shape[1]];
            let row = read(0, Window::run(index * c, c))?;
            let seed = read(1, Window::one(0))?[0];
            read(2, Window::none())?;
            let table = read(3, Window::run(0, WEIGHT_TABLE_SIZE))?;
            let position = types[2].shape[0] as i64 - m as i64 + index as i64;
            Some(draw(&row, seed, position, &table, attributes))
        },
    },
];

fn draw(keys: &[i64], seed: i64, position: i64, table: &[i64], attributes: &[i64]) -> i64 {
    let (top_k, top_p) = (attributes[0] as usize, attributes[1]);
    let weight = |place: usize| table[place];
    draw_row(keys, seed as i32, position as u32, weight, top_k, top_p)
}

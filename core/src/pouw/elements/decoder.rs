//! The decoder's operators on small tensors (`rules_decoder.py` is the table).

use super::encoder::{
    HEAD_SIZE_MAX, HEADS_MAX, INT16_MAX, INT32_MAX, PER_NORM, PER_SUM, WEIGHT_TABLE_SIZE,
    WIDTH_MAX, check, fits, is, mix, reciprocal_of, round_shift, scaled_root, score, shape, weight,
    wide_dot,
};
use super::{Compute, DType, Rule, Type, Window, encode, tagged_hash, units};

const STREAM_MAX: i64 = 1 << 24;
const RMS_WIDTH_MAX: usize = 1 << 13;
const EPSILON_MAX: i64 = 1 << 60;
const VOCABULARY_MAX: usize = 1 << 20;
const TEMPERATURE_MAX: i64 = 1 << 24;

pub const RULES: &[Rule] = &[
    Rule {
        code: 15,
        arity: 1,
        attributes: 1,
        infer: |types, attributes| {
            let x = shape::<2>(types[0], DType::Int16)?;
            check(attributes, 0, 9)?;
            Type::new(DType::Int32, x.to_vec())
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::ByElement,
        element: |_, attributes, index, read| {
            Some(read(0, Window::one(index))?[0] << attributes[0])
        },
    },
    Rule {
        code: 16,
        arity: 4,
        attributes: 1,
        infer: |types, attributes| {
            let [m, n] = shape::<2>(types[0], DType::Int32)?;
            is(types[1], DType::Int32, &[m])?;
            is(types[2], DType::Int32, &[n])?;
            is(types[3], DType::Int32, &[n])?;
            check(attributes, 1, 62)?;
            Some(types[0].clone())
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::ByElement,
        element: |types, attributes, index, read| {
            let n = types[0].shape[1];
            let value = read(0, Window::one(index))?[0];
            let maximum = read(1, Window::one(index / n))?[0];
            let multiplier = read(2, Window::one(index % n))?[0];
            let bias = read(3, Window::one(index % n))?[0];
            let wide = value.wrapping_mul(maximum).wrapping_mul(multiplier);
            let y = round_shift(wide, attributes[0]).wrapping_add(bias);
            Some(y.clamp(-INT32_MAX, INT32_MAX))
        },
    },
    Rule {
        code: 17,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            shape::<2>(types[0], DType::Int32)?;
            fits(types[0] == types[1])?;
            Some(types[0].clone())
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::ByElement,
        element: |_, _, index, read| {
            let sum = read(0, Window::one(index))?[0] + read(1, Window::one(index))?[0];
            Some(sum.clamp(-STREAM_MAX, STREAM_MAX))
        },
    },
    Rule {
        code: 18,
        arity: 2,
        attributes: 2,
        infer: |types, attributes| {
            let [m, n] = shape::<2>(types[0], DType::Int32)?;
            fits(n <= RMS_WIDTH_MAX)?;
            is(types[1], DType::Int32, &[n])?;
            check(&attributes[..1], 0, EPSILON_MAX)?;
            check(&attributes[1..], 1, 40)?;
            Type::new(DType::Int16, vec![m, n])
        },
        work: |types, _| units(&[types[0].shape[0], types[0].shape[1] + PER_NORM]),
        compute: Compute::Whole(|tensors, attributes| {
            let (v, gamma) = (tensors[0].values(), tensors[1].values());
            let mut out = Vec::with_capacity(v.len());
            for row in v.chunks_exact(gamma.len()) {
                let reciprocal = rms_reciprocal(row, attributes[0]);
                let pairs = row.iter().zip(&gamma);
                out.extend(pairs.map(|(&v, &gamma)| rms_norm(v, gamma, reciprocal, attributes[1])));
            }
            Some(encode(DType::Int16, &out))
        }),
        element: |types, attributes, index, read| {
            let n = types[0].shape[1];
            let row = read(0, Window::run(index / n * n, n))?;
            let gamma = read(1, Window::one(index % n))?[0];
            let reciprocal = rms_reciprocal(&row, attributes[0]);
            Some(rms_norm(row[index % n], gamma, reciprocal, attributes[1]))
        },
    },
    Rule {
        code: 19,
        arity: 3,
        attributes: 3,
        infer: |types, attributes| {
            let [m, width] = shape::<2>(types[0], DType::Int16)?;
            let [so_far] = shape::<1>(types[1], DType::Int32)?;
            let columns = check_heads(attributes[0], attributes[1])?;
            fits(width <= WIDTH_MAX && attributes[1] % 2 == 0)?;
            check(&attributes[2..], 0, width as i64 - columns as i64)?;
            let [positions, turned] = shape::<2>(types[2], DType::Int16)?;
            fits(turned as i64 == attributes[1] && positions <= 1 << 24)?;
            fits(m <= so_far && so_far <= positions)?;
            Type::new(DType::Int16, vec![m, columns])
        },
        work: |types, attributes| {
            units(&[types[0].shape[0], (attributes[0] * attributes[1]) as usize])
        },
        compute: Compute::ByElement,
        element: |types, attributes, index, read| {
            let [m, width] = [types[0].shape[0], types[0].shape[1]];
            let [heads, size, offset] = [0, 1, 2].map(|place| attributes[place] as usize);
            let (row, column) = (index / (heads * size), index % (heads * size));
            let (head, half) = (column / size, size / 2);
            let (pair, second) = (column % size % half, column % size >= half);
            let start = row * width + offset + head * size + pair;
            let x = read(0, Window::column(start, 2, half))?;
            read(1, Window::none())?;
            let position = types[1].shape[0] - m + row;
            let turn = read(2, Window::column(position * size + pair, 2, half))?;
            let turned = if second {
                x[1] * turn[0] + x[0] * turn[1]
            } else {
                x[0] * turn[0] - x[1] * turn[1]
            };
            Some(round_shift(turned, 14).clamp(-INT16_MAX, INT16_MAX))
        },
    },
    Rule {
        code: 20,
        arity: 1,
        attributes: 2,
        infer: |types, attributes| {
            let [m, width] = shape::<2>(types[0], DType::Int16)?;
            fits(width <= WIDTH_MAX)?;
            check(&attributes[1..], 1, width as i64)?;
            check(&attributes[..1], 0, width as i64 - attributes[1])?;
            Type::new(DType::Int16, vec![attributes[1] as usize, m])
        },
        work: |types, attributes| units(&[types[0].shape[0], attributes[1] as usize]),
        compute: Compute::ByElement,
        element: |types, attributes, index, read| {
            let [m, width] = [types[0].shape[0], types[0].shape[1]];
            let place = index % m * width + attributes[0] as usize + index / m;
            Some(read(0, Window::one(place))?[0])
        },
    },
    Rule {
        code: 21,
        arity: 2,
        attributes: 4,
        infer: |types, attributes| {
            let [heads, kv_heads, size, shift] = *attributes else {
                return None;
            };
            let [m, columns] = shape::<2>(types[0], DType::Int16)?;
            let [n, kv_columns] = shape::<2>(types[1], DType::Int16)?;
            fits(columns == check_heads(heads, size)?)?;
            check(&[kv_heads], 1, heads)?;
            fits(heads % kv_heads == 0 && kv_columns as i64 == kv_heads * size && m <= n)?;
            check(&[shift], 1, 40)?;
            Type::new(DType::Int32, vec![heads as usize, m, n])
        },
        work: |types, attributes| {
            let [heads, size] = [attributes[0] as usize, attributes[2] as usize];
            let [m, n] = [types[0].shape[0], types[1].shape[0]];
            units(&[heads, m, n, size + PER_SUM])
        },
        compute: Compute::ByElement,
        element: |types, attributes, index, read| {
            let [heads, kv_heads, size] = [0, 1, 2].map(|place| attributes[place] as usize);
            let [m, n] = [types[0].shape[0], types[1].shape[0]];
            let (head, i, j) = (index / (m * n), index / n % m, index % n);
            let query = read(0, Window::run((i * heads + head) * size, size))?;
            let key = (j * kv_heads + head * kv_heads / heads) * size;
            let key = read(1, Window::run(key, size))?;
            let seen = j <= n - m + i;
            Some(if seen {
                score(&query, &key, attributes[3])
            } else {
                0
            })
        },
    },
    Rule {
        code: 22,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            let [heads, m, n] = shape::<3>(types[0], DType::Int32)?;
            is(types[1], DType::Int16, &[WEIGHT_TABLE_SIZE])?;
            fits(m <= n)?;
            Type::new(DType::Int16, vec![heads, m, n])
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::Whole(|tensors, _| {
            let (scores, table) = (tensors[0].values(), tensors[1].values());
            let [m, n] = [tensors[0].of.shape[1], tensors[0].of.shape[2]];
            let mut out = Vec::with_capacity(scores.len());
            for (row, scores) in scores.chunks_exact(n).enumerate() {
                let seen = &scores[..n - m + row % m + 1];
                let most = seen.iter().copied().max()?;
                out.extend(seen.iter().map(|&score| weight(most - score, &table)));
                out.resize((row + 1) * n, 0);
            }
            Some(encode(DType::Int16, &out))
        }),
        element: |types, _, index, read| {
            let [m, n] = [types[0].shape[1], types[0].shape[2]];
            let row = read(0, Window::run(index / n * n, n))?;
            let table = read(1, Window::run(0, WEIGHT_TABLE_SIZE))?;
            let seen = &row[..n - m + index / n % m + 1];
            let most = seen.iter().copied().max()?;
            let found = seen.get(index % n);
            Some(found.map_or(0, |&score| weight(most - score, &table)))
        },
    },
    Rule {
        code: 23,
        arity: 2,
        attributes: 1,
        infer: |types, attributes| {
            let [heads, m, n] = shape::<3>(types[0], DType::Int16)?;
            let [rows, depth] = shape::<2>(types[1], DType::Int16)?;
            fits(heads as i64 <= HEADS_MAX && depth == n)?;
            check(attributes, 1, heads as i64)?;
            let kv_heads = attributes[0] as usize;
            fits(heads.is_multiple_of(kv_heads) && rows.is_multiple_of(kv_heads))?;
            fits((kv_heads..=HEAD_SIZE_MAX as usize * kv_heads).contains(&rows))?;
            Type::new(DType::Int16, vec![m, heads * (rows / kv_heads)])
        },
        work: |types, attributes| {
            let [heads, m, n] = [0, 1, 2].map(|axis| types[0].shape[axis]);
            let size = types[1].shape[0] / attributes[0] as usize;
            units(&[heads, m, n + PER_SUM, size + 1])
        },
        compute: Compute::ByElement,
        element: |types, attributes, index, read| {
            let [heads, m, n] = [0, 1, 2].map(|axis| types[0].shape[axis]);
            let kv_heads = attributes[0] as usize;
            let size = types[1].shape[0] / kv_heads;
            let (i, column) = (index / (heads * size), index % (heads * size));
            let head = column / size;
            let weights = read(0, Window::run((head * m + i) * n, n))?;
            let row = head * kv_heads / heads * size + column % size;
            let values = read(1, Window::run(row * n, n))?;
            Some(mix(wide_dot(&weights, &values), reciprocal_of(&weights)))
        },
    },
    Rule {
        code: 24,
        arity: 2,
        attributes: 1,
        infer: |types, attributes| {
            shape::<2>(types[0], DType::Int16)?;
            fits(types[0] == types[1])?;
            check(attributes, 1, 30)?;
            Some(types[0].clone())
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::ByElement,
        element: |_, attributes, index, read| {
            let wide = read(0, Window::one(index))?[0] * read(1, Window::one(index))?[0];
            Some(round_shift(wide, attributes[0]).clamp(-INT16_MAX, INT16_MAX))
        },
    },
    Rule {
        code: 25,
        arity: 1,
        attributes: 0,
        infer: |types, _| {
            let [_, n] = shape::<2>(types[0], DType::Int32)?;
            Type::new(DType::Int32, vec![1, n])
        },
        // all of x is read, one row is given back
        work: |types, _| types[0].elements() as u64,
        compute: Compute::ByElement,
        element: |types, _, index, read| {
            let [m, n] = [types[0].shape[0], types[0].shape[1]];
            Some(read(0, Window::one((m - 1) * n + index))?[0])
        },
    },
    Rule {
        code: 26,
        arity: 1,
        attributes: 0,
        infer: |types, _| {
            let [m, _] = shape::<2>(types[0], DType::Int32)?;
            Type::new(DType::Int32, vec![m])
        },
        work: |types, _| units(&[types[0].shape[0], types[0].shape[1] + PER_SUM]),
        compute: Compute::ByElement,
        element: |types, _, index, read| {
            let n = types[0].shape[1];
            let row = read(0, Window::run(index * n, n))?;
            let most = row.iter().max()?;
            Some(row.iter().position(|value| value == most)? as i64)
        },
    },
    Rule {
        code: 27,
        arity: 4,
        attributes: 3,
        infer: |types, attributes| {
            let [m, n] = shape::<2>(types[0], DType::Int32)?;
            fits(n <= VOCABULARY_MAX)?;
            is(types[1], DType::Int32, &[1])?;
            shape::<1>(types[2], DType::Int32)?;
            is(types[3], DType::Int16, &[WEIGHT_TABLE_SIZE])?;
            check(&attributes[..1], 1, TEMPERATURE_MAX)?;
            check(&attributes[1..2], 1, n as i64)?;
            check(&attributes[2..], 1, 1 << 16)?;
            Type::new(DType::Int32, vec![m])
        },
        // a row is sorted: at most 17 comparisons an entry for what fits into a call
        work: |types, _| units(&[types[0].shape[0], types[0].shape[1] + PER_NORM]),
        compute: Compute::Whole(|tensors, attributes| {
            let [logits, table] = [tensors[0].values(), tensors[3].values()];
            let [m, n] = [tensors[0].of.shape[0], tensors[0].of.shape[1]];
            let seed = tensors[1].values()[0];
            let first = tensors[2].of.shape[0] as i64 - m as i64;
            let rows = logits.chunks_exact(n).zip(first..);
            let drawn: Vec<i64> = rows
                .map(|(row, position)| draw(row, seed, position, &table, attributes))
                .collect();
            Some(encode(DType::Int32, &drawn))
        }),
        element: |types, attributes, index, read| {
            let [m, n] = [types[0].shape[0], types[0].shape[1]];
            let row = read(0, Window::run(index * n, n))?;
            let seed = read(1, Window::one(0))?[0];
            read(2, Window::none())?;
            let table = read(3, Window::run(0, WEIGHT_TABLE_SIZE))?;
            let position = types[2].shape[0] as i64 - m as i64 + index as i64;
            Some(draw(&row, seed, position, &table, attributes))
        },
    },
];

fn check_heads(heads: i64, head_size: i64) -> Option<usize> {
    check(&[heads], 1, HEADS_MAX)?;
    check(&[head_size], 1, HEAD_SIZE_MAX)?;
    Some((heads * head_size) as usize)
}

fn rms_reciprocal(row: &[i64], epsilon: i64) -> i64 {
    let squares: i64 = row
        .iter()
        .map(|v| v.clamp(&-STREAM_MAX, &STREAM_MAX).pow(2))
        .sum();
    // 2^13 * 2^48 + 2^60 < 2^63
    scaled_root(row.len()) / (squares + epsilon).isqrt().max(1)
}

fn rms_norm(v: i64, gamma: i64, reciprocal: i64, shift: i64) -> i64 {
    let v = v.clamp(-STREAM_MAX, STREAM_MAX);
    let y = round_shift(v.wrapping_mul(reciprocal), 26);
    round_shift(y.wrapping_mul(gamma), shift).clamp(-INT16_MAX, INT16_MAX)
}

fn draw(row: &[i64], seed: i64, position: i64, table: &[i64], attributes: &[i64]) -> i64 {
    let [temperature, top_k, top_p] = [0, 1, 2].map(|place| attributes[place]);
    let scaled: Vec<i64> = row
        .iter()
        .map(|logit| round_shift(logit * temperature, 16))
        .collect();
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&left, &right| scaled[right].cmp(&scaled[left]));
    order.truncate(top_k as usize);
    let mut sum = 0;
    let sums: Vec<i64> = order
        .iter()
        .map(|&index| {
            sum += weight(scaled[order[0]] - scaled[index], table);
            sum
        })
        .collect();
    let kept = sums.iter().position(|&part| part << 16 >= sum * top_p);
    let kept = &sums[..=kept.unwrap_or(0)];
    let seed = (seed as i32).to_le_bytes();
    let position = (position as u32).to_le_bytes();
    let digest = tagged_hash("sample", &[&seed, &position]);
    let drawn = u64::from_le_bytes(std::array::from_fn(|place| digest[place]));
    let target = (i128::from(drawn) * i128::from(kept[kept.len() - 1])) >> 64;
    let place = kept.iter().position(|&part| i128::from(part) > target);
    order[place.unwrap_or(0)] as i64
}

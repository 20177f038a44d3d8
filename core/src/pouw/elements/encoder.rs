//! The encoder's operators on small tensors, in 64-bit integers that wrap as numpy's (`rules_encoder.py` is the table).

use super::{Compute, DType, Read, Rule, Tensor, Type, Window, encode, units};

const FACTOR_MAX: i64 = 256;
const MINING_OPERAND_MAX: i64 = 64;
const MATMUL_DEPTH_MAX: usize = (1 << 17) - 1;
pub const WIDTH_MAX: usize = 1 << 20;
pub const HEADS_MAX: i64 = 1024;
pub const HEAD_SIZE_MAX: i64 = 8192;
const NORM_INPUT_MAX: i64 = 1 << 16;
const NORM_WIDTH_MAX: usize = 1024;
const L2_INPUT_MAX: i64 = 1 << 24;
const L2_WIDTH_MAX: usize = 1 << 14;
pub const WEIGHT_TABLE_SIZE: usize = 1024;
const TABLE_SIZE: i64 = 16_384;
/// Units that a sum, a norm or a mean costs beside its terms.
pub const PER_SUM: usize = 16;
pub const PER_NORM: usize = 32;
const PER_MEAN: usize = 2;
pub const INT16_MAX: i64 = 32_767;
pub const INT32_MAX: i64 = i32::MAX as i64;

pub const RULES: &[Rule] = &[
    Rule {
        code: 1,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            let ids = shape::<1>(types[0], DType::Int32)?;
            let table = shape::<2>(types[1], DType::Int16)?;
            Type::new(DType::Int16, vec![ids[0], table[1]])
        },
        work: |types, _| units(&[types[0].shape[0], types[1].shape[1]]),
        compute: Compute::Whole(|tensors, _| {
            let [rows, n] = [tensors[1].of.shape[0], tensors[1].of.shape[1]];
            let mut out = Vec::with_capacity(tensors[0].of.elements() * n * 2);
            for id in tensors[0].values() {
                let row = row_of(id, rows)?;
                out.extend_from_slice(&tensors[1].bytes[row * n * 2..(row + 1) * n * 2]);
            }
            Some(out)
        }),
        element: |types, _, index, read| {
            let [rows, n] = [types[1].shape[0], types[1].shape[1]];
            let row = row_of(read(0, Window::one(index / n))?[0], rows)?;
            Some(read(1, Window::one(row * n + index % n))?[0])
        },
    },
    Rule {
        code: 2,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            let x = shape::<2>(types[0], DType::Int16)?;
            let table = shape::<2>(types[1], DType::Int16)?;
            fits(x[0] <= table[0] && x[1] == table[1])?;
            Type::new(DType::Int32, x.to_vec())
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::Whole(sum),
        element: sum_element,
    },
    Rule {
        code: 3,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            let [m, n] = shape::<2>(types[0], DType::Int16)?;
            is(types[1], DType::Int16, &[n])?;
            Type::new(DType::Int32, vec![m])
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::Whole(|tensors, _| {
            let (x, factors) = (tensors[0].values(), tensors[1].values());
            check(&factors, 1, FACTOR_MAX)?;
            let most: Vec<i64> = x
                .chunks_exact(factors.len())
                .map(|row| row_maximum(row, &factors))
                .collect();
            Some(encode(DType::Int32, &most))
        }),
        element: |types, _, index, read| {
            let n = types[0].shape[1];
            let row = read(0, Window::run(index * n, n))?;
            let factors = read(1, Window::run(0, n))?;
            check(&factors, 1, FACTOR_MAX)?;
            Some(row_maximum(&row, &factors))
        },
    },
    Rule {
        code: 4,
        arity: 3,
        attributes: 1,
        infer: |types, attributes| {
            let [m, n] = shape::<2>(types[0], DType::Int16)?;
            is(types[1], DType::Int32, &[m])?;
            is(types[2], DType::Int16, &[n])?;
            check(&attributes[..1], 1, 127)?;
            Type::new(DType::Int8, vec![m, n])
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::Whole(|tensors, attributes| {
            let (x, maximum) = (tensors[0].values(), tensors[1].values());
            let factors = tensors[2].values();
            check(&factors, 1, FACTOR_MAX)?;
            check(&maximum, 1, INT32_MAX)?;
            let mut out = Vec::with_capacity(x.len());
            for (row, &maximum) in x.chunks_exact(factors.len()).zip(&maximum) {
                let reciprocal = (attributes[0] << 30) / maximum;
                for (&x, &factor) in row.iter().zip(&factors) {
                    out.push(quantize(x, factor, reciprocal, attributes[0]) as u8);
                }
            }
            Some(out)
        }),
        element: |types, attributes, index, read| {
            let n = types[0].shape[1];
            let x = read(0, Window::one(index))?[0];
            let maximum = read(1, Window::one(index / n))?[0];
            let factor = read(2, Window::one(index % n))?[0];
            check(&[factor], 1, FACTOR_MAX)?;
            check(&[maximum], 1, INT32_MAX)?;
            let reciprocal = (attributes[0] << 30) / maximum;
            Some(quantize(x, factor, reciprocal, attributes[0]))
        },
    },
    Rule {
        code: 5,
        arity: 2,
        attributes: 1,
        infer: |types, attributes| {
            let [m, k] = shape::<2>(types[0], DType::Int8)?;
            let [n, depth] = shape::<2>(types[1], DType::Int8)?;
            fits(k == depth && k <= MATMUL_DEPTH_MAX)?;
            check(&attributes[..1], 0, 1)?;
            Type::new(DType::Int32, vec![m, n])
        },
        work: |types, _| {
            let [m, k] = [types[0].shape[0], types[0].shape[1]];
            units(&[m, types[1].shape[0], k + PER_SUM])
        },
        compute: Compute::Whole(|tensors, attributes| {
            let [a, b] = [&tensors[0], &tensors[1]];
            let k = a.of.shape[1];
            if attributes[0] == 1 {
                check(&a.values(), -MINING_OPERAND_MAX, MINING_OPERAND_MAX)?;
                check(&b.values(), -MINING_OPERAND_MAX, MINING_OPERAND_MAX)?;
            }
            let mut out = Vec::with_capacity(a.of.shape[0] * b.of.shape[0] * 4);
            for row in a.bytes.chunks_exact(k) {
                for column in b.bytes.chunks_exact(k) {
                    out.extend_from_slice(&dot(row, column).to_le_bytes());
                }
            }
            Some(out)
        }),
        element: |types, attributes, index, read| {
            let [k, n] = [types[0].shape[1], types[1].shape[0]];
            let a = read(0, Window::run(index / n * k, k))?;
            let b = read(1, Window::run(index % n * k, k))?;
            if attributes[0] == 1 {
                check(&a, -MINING_OPERAND_MAX, MINING_OPERAND_MAX)?;
                check(&b, -MINING_OPERAND_MAX, MINING_OPERAND_MAX)?;
            }
            Some(wide_dot(&a, &b))
        },
    },
    Rule {
        code: 6,
        arity: 4,
        attributes: 2,
        infer: |types, attributes| {
            let [m, n] = shape::<2>(types[0], DType::Int32)?;
            is(types[1], DType::Int32, &[m])?;
            is(types[2], DType::Int32, &[n])?;
            is(types[3], DType::Int32, &[n])?;
            check(&attributes[..1], 1, 62)?;
            check(&attributes[1..2], 1, INT16_MAX)?;
            Type::new(DType::Int16, vec![m, n])
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::Whole(|tensors, attributes| {
            let (product, maximum) = (tensors[0].values(), tensors[1].values());
            let (multipliers, bias) = (tensors[2].values(), tensors[3].values());
            let mut out = Vec::with_capacity(product.len());
            for (row, &maximum) in product.chunks_exact(bias.len()).zip(&maximum) {
                for ((&value, &multiplier), &bias) in row.iter().zip(&multipliers).zip(&bias) {
                    out.push(rescale(value, maximum, multiplier, bias, attributes));
                }
            }
            Some(encode(DType::Int16, &out))
        }),
        element: |types, attributes, index, read| {
            let n = types[0].shape[1];
            let value = read(0, Window::one(index))?[0];
            let maximum = read(1, Window::one(index / n))?[0];
            let multiplier = read(2, Window::one(index % n))?[0];
            let bias = read(3, Window::one(index % n))?[0];
            Some(rescale(value, maximum, multiplier, bias, attributes))
        },
    },
    Rule {
        code: 7,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            let x = shape::<2>(types[0], DType::Int16)?;
            is(types[1], DType::Int16, &x)?;
            Type::new(DType::Int32, x.to_vec())
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::Whole(sum),
        element: sum_element,
    },
    Rule {
        code: 8,
        arity: 3,
        attributes: 0,
        infer: |types, _| {
            let [m, n] = shape::<2>(types[0], DType::Int32)?;
            fits(n <= NORM_WIDTH_MAX)?;
            is(types[1], DType::Int32, &[n])?;
            is(types[2], DType::Int32, &[n])?;
            Type::new(DType::Int16, vec![m, n])
        },
        work: |types, _| units(&[types[0].shape[0], types[0].shape[1] + PER_NORM]),
        compute: Compute::Whole(|tensors, _| {
            let (v, gamma, beta) = (
                tensors[0].values(),
                tensors[1].values(),
                tensors[2].values(),
            );
            let mut out = Vec::with_capacity(v.len());
            for row in v.chunks_exact(gamma.len()) {
                let of = Normalizer::new(row);
                for ((&v, &gamma), &beta) in row.iter().zip(&gamma).zip(&beta) {
                    out.push(of.normalize(v, gamma, beta));
                }
            }
            Some(encode(DType::Int16, &out))
        }),
        element: |types, _, index, read| {
            let n = types[0].shape[1];
            let row = read(0, Window::run(index / n * n, n))?;
            let gamma = read(1, Window::one(index % n))?[0];
            let beta = read(2, Window::one(index % n))?[0];
            Some(Normalizer::new(&row).normalize(row[index % n], gamma, beta))
        },
    },
    Rule {
        code: 9,
        arity: 2,
        attributes: 5,
        infer: |types, attributes| {
            let [heads, head_size, query_offset, key_offset, shift] = *attributes else {
                return None;
            };
            let queries = check_heads(types[0], heads, head_size, query_offset)?;
            let keys = check_heads(types[1], heads, head_size, key_offset)?;
            check(&[shift], 1, 40)?;
            Type::new(DType::Int32, vec![heads as usize, queries[0], keys[0]])
        },
        work: |types, attributes| {
            let [heads, size] = [attributes[0] as usize, attributes[1] as usize];
            units(&[heads, types[0].shape[0], types[1].shape[0], size + PER_SUM])
        },
        compute: Compute::Whole(|tensors, attributes| {
            let (queries, keys) = (tensors[0].values(), tensors[1].values());
            let [heads, size, query_offset, key_offset] = first_four(attributes);
            let query_width = tensors[0].of.shape[1];
            let key_width = tensors[1].of.shape[1];
            let mut out = Vec::new();
            for head in 0..heads {
                for query in queries.chunks_exact(query_width) {
                    let query = &query[query_offset + head * size..][..size];
                    for key in keys.chunks_exact(key_width) {
                        let key = &key[key_offset + head * size..][..size];
                        out.push(score(query, key, attributes[4]));
                    }
                }
            }
            Some(encode(DType::Int32, &out))
        }),
        element: |types, attributes, index, read| {
            let [_, size, query_offset, key_offset] = first_four(attributes);
            let [m, query_width] = [types[0].shape[0], types[0].shape[1]];
            let [n, key_width] = [types[1].shape[0], types[1].shape[1]];
            let (head, i, j) = (index / (m * n), index / n % m, index % n);
            let query = i * query_width + query_offset + head * size;
            let key = j * key_width + key_offset + head * size;
            let query = read(0, Window::run(query, size))?;
            let key = read(1, Window::run(key, size))?;
            Some(score(&query, &key, attributes[4]))
        },
    },
    Rule {
        code: 10,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            let scores = shape::<3>(types[0], DType::Int32)?;
            is(types[1], DType::Int16, &[WEIGHT_TABLE_SIZE])?;
            Type::new(DType::Int16, scores.to_vec())
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::Whole(|tensors, _| {
            let (scores, table) = (tensors[0].values(), tensors[1].values());
            let mut out = Vec::with_capacity(scores.len());
            for row in scores.chunks_exact(tensors[0].of.shape[2]) {
                let most = row.iter().copied().max()?;
                out.extend(row.iter().map(|&score| weight(most - score, &table)));
            }
            Some(encode(DType::Int16, &out))
        }),
        element: |types, _, index, read| {
            let n = types[0].shape[2];
            let row = read(0, Window::run(index / n * n, n))?;
            let most = row.iter().copied().max()?;
            let table = read(1, Window::run(0, WEIGHT_TABLE_SIZE))?;
            Some(weight(most - row[index % n], &table))
        },
    },
    Rule {
        code: 11,
        arity: 2,
        attributes: 2,
        infer: |types, attributes| {
            let [heads, m, n] = shape::<3>(types[0], DType::Int16)?;
            let heads = i64::try_from(heads).ok()?;
            let values = check_heads(types[1], heads, attributes[0], attributes[1])?;
            fits(values[0] == n)?;
            Type::new(DType::Int16, vec![m, (heads * attributes[0]) as usize])
        },
        work: |types, attributes| {
            let [heads, m, n] = [0, 1, 2].map(|axis| types[0].shape[axis]);
            units(&[heads, m, n + PER_SUM, attributes[0] as usize + 1])
        },
        compute: Compute::Whole(|tensors, attributes| {
            let (weights, values) = (tensors[0].values(), tensors[1].values());
            let [heads, m, n] = [0, 1, 2].map(|axis| tensors[0].of.shape[axis]);
            let [size, offset] = [attributes[0] as usize, attributes[1] as usize];
            let width = tensors[1].of.shape[1];
            let mut out = Vec::with_capacity(m * heads * size);
            let mut sums = vec![0i64; size];
            for i in 0..m {
                for head in 0..heads {
                    let weights = &weights[(head * m + i) * n..][..n];
                    sums.fill(0);
                    for (&weight, row) in weights.iter().zip(values.chunks_exact(width)) {
                        for (sum, &value) in sums.iter_mut().zip(&row[offset + head * size..]) {
                            *sum = sum.wrapping_add(weight * value);
                        }
                    }
                    let reciprocal = reciprocal_of(weights);
                    out.extend(sums.iter().map(|&sum| mix(sum, reciprocal)));
                }
            }
            Some(encode(DType::Int16, &out))
        }),
        element: |types, attributes, index, read| {
            let [heads, m, n] = [0, 1, 2].map(|axis| types[0].shape[axis]);
            let [size, offset] = [attributes[0] as usize, attributes[1] as usize];
            let (i, column) = (index / (heads * size), index % (heads * size));
            let weights = read(0, Window::run((column / size * m + i) * n, n))?;
            let width = types[1].shape[1];
            let values = read(1, Window::column(offset + column, n, width))?;
            Some(mix(wide_dot(&weights, &values), reciprocal_of(&weights)))
        },
    },
    Rule {
        code: 12,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            let x = shape::<2>(types[0], DType::Int16)?;
            is(types[1], DType::Int16, &[TABLE_SIZE as usize])?;
            Type::new(DType::Int16, x.to_vec())
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::Whole(|tensors, _| {
            let (x, table) = (tensors[0].values(), tensors[1].values());
            let found: Vec<i64> = x
                .iter()
                .map(|&x| looked_up(x, table[table_index(x)]))
                .collect();
            Some(encode(DType::Int16, &found))
        }),
        element: |_, _, index, read| {
            let x = read(0, Window::one(index))?[0];
            Some(looked_up(x, read(1, Window::one(table_index(x)))?[0]))
        },
    },
    Rule {
        code: 13,
        arity: 1,
        attributes: 1,
        infer: |types, attributes| {
            let [_, n] = shape::<2>(types[0], DType::Int16)?;
            check(&attributes[..1], 0, 8)?;
            Type::new(DType::Int32, vec![n])
        },
        work: |types, _| units(&[types[0].shape[1], types[0].shape[0] + PER_MEAN]),
        compute: Compute::Whole(|tensors, attributes| {
            let [m, n] = [tensors[0].of.shape[0], tensors[0].of.shape[1]];
            let mut totals = vec![0i64; n];
            for row in tensors[0].values().chunks_exact(n) {
                for (total, &value) in totals.iter_mut().zip(row) {
                    *total += value;
                }
            }
            let means: Vec<i64> = totals
                .iter()
                .map(|&total| mean(total, m as i64, attributes[0]))
                .collect();
            Some(encode(DType::Int32, &means))
        }),
        element: |types, attributes, index, read| {
            let [m, n] = [types[0].shape[0], types[0].shape[1]];
            let column = read(0, Window::column(index, m, n))?;
            Some(mean(column.iter().sum(), m as i64, attributes[0]))
        },
    },
    Rule {
        code: 14,
        arity: 1,
        attributes: 0,
        infer: |types, _| {
            let [n] = shape::<1>(types[0], DType::Int32)?;
            fits(n <= L2_WIDTH_MAX)?;
            Type::new(DType::Int16, vec![n])
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::Whole(|tensors, _| {
            let v = tensors[0].values();
            let reciprocal = l2_reciprocal(&v);
            let out: Vec<i64> = v.iter().map(|&v| l2_normalize(v, reciprocal)).collect();
            Some(encode(DType::Int16, &out))
        }),
        element: |types, _, index, read| {
            let v = read(0, Window::run(0, types[0].shape[0]))?;
            Some(l2_normalize(v[index], l2_reciprocal(&v)))
        },
    },
];

pub fn fits(holds: bool) -> Option<()> {
    holds.then_some(())
}

pub fn shape<const RANK: usize>(of: &Type, dtype: DType) -> Option<[usize; RANK]> {
    fits(of.dtype == dtype)?;
    of.shape.as_slice().try_into().ok()
}

pub fn is(of: &Type, dtype: DType, shape: &[usize]) -> Option<()> {
    fits(of.dtype == dtype && of.shape == shape)
}

pub fn check(values: &[i64], low: i64, high: i64) -> Option<()> {
    fits(values.iter().all(|value| (low..=high).contains(value)))
}

fn row_of(id: i64, rows: usize) -> Option<usize> {
    usize::try_from(id).ok().filter(|&row| row < rows)
}

pub fn round_shift(x: i64, n: i64) -> i64 {
    x.wrapping_add(1 << (n - 1)) >> n
}

/// x[i] + y[i] over x; y may have more rows.
fn sum(tensors: &[&Tensor], _: &[i64]) -> Option<Vec<u8>> {
    let (x, y) = (tensors[0].values(), tensors[1].values());
    let sums: Vec<i64> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
    Some(encode(DType::Int32, &sums))
}

fn sum_element(_: &[&Type], _: &[i64], index: usize, read: &mut Read) -> Option<i64> {
    Some(read(0, Window::one(index))?[0] + read(1, Window::one(index))?[0])
}

fn row_maximum(row: &[i64], factors: &[i64]) -> i64 {
    let scaled = row
        .iter()
        .zip(factors)
        .map(|(x, factor)| (x * factor).abs());
    scaled.fold(1, i64::max)
}

fn quantize(x: i64, factor: i64, reciprocal: i64, q_max: i64) -> i64 {
    round_shift((x * factor).wrapping_mul(reciprocal), 30).clamp(-q_max, q_max)
}

fn dot(a: &[u8], b: &[u8]) -> i32 {
    let terms = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| i32::from(i16::from(a as i8)) * i32::from(i16::from(b as i8)));
    terms.sum()
}

pub fn wide_dot(a: &[i64], b: &[i64]) -> i64 {
    a.iter()
        .zip(b)
        .fold(0, |sum, (a, b)| sum.wrapping_add(a.wrapping_mul(*b)))
}

fn rescale(value: i64, maximum: i64, multiplier: i64, bias: i64, attributes: &[i64]) -> i64 {
    let wide = value.wrapping_mul(maximum).wrapping_mul(multiplier);
    let y = round_shift(wide, attributes[0]).wrapping_add(bias);
    y.clamp(-attributes[1], attributes[1])
}

/// What a row gives to each of its elements.
struct Normalizer {
    n: i64,
    sum: i64,
    reciprocal: i64,
}

impl Normalizer {
    fn new(row: &[i64]) -> Self {
        let n = row.len() as i64;
        let wide = |v: &i64| (*v).clamp(-NORM_INPUT_MAX, NORM_INPUT_MAX);
        let sum: i64 = row.iter().map(wide).sum();
        let squares = row.iter().map(wide).fold(0i64, |all, v| {
            let centered = n * v - sum;
            all.wrapping_add(centered.wrapping_mul(centered))
        });
        let root = squares.max(0).isqrt().max(1);
        let reciprocal = scaled_root(row.len()) / root;
        Self { n, sum, reciprocal }
    }

    fn normalize(&self, v: i64, gamma: i64, beta: i64) -> i64 {
        let centered = self.n * v.clamp(-NORM_INPUT_MAX, NORM_INPUT_MAX) - self.sum;
        let y = round_shift(centered.wrapping_mul(self.reciprocal), 26);
        let wide = y.wrapping_mul(gamma).wrapping_add(beta);
        round_shift(wide, 16).clamp(-INT16_MAX, INT16_MAX)
    }
}

/// round(sqrt(n) * 2^40), for n <= 2^13: n << 82 is below 2^96, its root below 2^48.
pub fn scaled_root(n: usize) -> i64 {
    ((((n as u128) << 82).isqrt() + 1) >> 1) as i64
}

fn check_heads(x: &Type, heads: i64, head_size: i64, offset: i64) -> Option<[usize; 2]> {
    let [rows, width] = shape::<2>(x, DType::Int16)?;
    fits(width <= WIDTH_MAX)?;
    check(&[heads], 1, HEADS_MAX)?;
    check(&[head_size], 1, HEAD_SIZE_MAX)?;
    check(&[offset], 0, width as i64 - heads * head_size)?;
    Some([rows, width])
}

fn first_four(attributes: &[i64]) -> [usize; 4] {
    [0, 1, 2, 3].map(|index| attributes[index] as usize)
}

pub fn score(query: &[i64], key: &[i64], shift: i64) -> i64 {
    round_shift(wide_dot(query, key), shift).clamp(-INT32_MAX, INT32_MAX)
}

pub fn weight(below: i64, table: &[i64]) -> i64 {
    table[(below & 1023) as usize] >> (below >> 10).min(31)
}

pub fn reciprocal_of(weights: &[i64]) -> i64 {
    (1 << 40) / weights.iter().sum::<i64>().max(1)
}

pub fn mix(sum: i64, reciprocal: i64) -> i64 {
    round_shift(sum.wrapping_mul(reciprocal), 40).clamp(-INT16_MAX, INT16_MAX)
}

fn table_index(x: i64) -> usize {
    (x + TABLE_SIZE / 2).clamp(0, TABLE_SIZE - 1) as usize
}

fn looked_up(x: i64, inside: i64) -> i64 {
    let half = TABLE_SIZE / 2;
    if x < -half {
        0
    } else if x >= half {
        x
    } else {
        inside
    }
}

fn mean(total: i64, rows: i64, fraction_bits: i64) -> i64 {
    ((total << (fraction_bits + 1)) + rows).div_euclid(2 * rows)
}

fn l2_reciprocal(v: &[i64]) -> i64 {
    let squares: i64 = v
        .iter()
        .map(|v| v.clamp(&-L2_INPUT_MAX, &L2_INPUT_MAX).pow(2))
        .sum();
    (1 << 46) / squares.isqrt().max(1)
}

fn l2_normalize(v: i64, reciprocal: i64) -> i64 {
    let wide = v.clamp(-L2_INPUT_MAX, L2_INPUT_MAX);
    round_shift(wide * reciprocal, 31).clamp(-INT16_MAX, INT16_MAX)
}

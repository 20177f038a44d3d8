//! The image operators on small tensors (`rules_vision.py` is the table).

use std::borrow::Cow;

use super::encoder::{INT16_MAX, check, fits, is, round_shift, shape};
use super::{Compute, DType, Read, Rule, Type, Window, units};

const SIDE_MAX: usize = 1 << 14;
const CHANNELS_MAX: usize = 1 << 16;
const SQUARE_MAX: i64 = 64;
const PADDING_MAX: i64 = 64;
const DIMENSION_MAX: i64 = i32::MAX as i64;

pub const RULES: &[Rule] = &[
    Rule {
        code: 30,
        arity: 3,
        attributes: 1,
        infer: |types, attributes| {
            let image = shape::<3>(types[0], DType::UInt8)?;
            is(types[1], DType::Int32, &[image[2]])?;
            is(types[2], DType::Int32, &[image[2]])?;
            check(attributes, 1, 40)?;
            Type::new(DType::Int16, image.to_vec())
        },
        work: elements,
        compute: Compute::ByElement,
        element: |types, attributes, index, read| {
            let channel = index % types[0].shape[2];
            let pixel = read(0, Window::one(index))?[0];
            let multiplier = read(1, Window::one(channel))?[0];
            let offset = read(2, Window::one(channel))?[0];
            let wide = round_shift(pixel * multiplier + offset, attributes[0]);
            Some(wide.clamp(-INT16_MAX, INT16_MAX))
        },
    },
    Rule {
        code: 31,
        arity: 1,
        attributes: 3,
        infer: |types, attributes| {
            let [size, stride, padding] = *attributes else {
                return None;
            };
            check(&[padding], 0, PADDING_MAX)?;
            let dtype = types[0].dtype;
            fits([DType::Int8, DType::Int16, DType::UInt8].contains(&dtype))?;
            let [down, across, channels] = squares(types[0], size, stride, padding)?;
            let columns = (size * size) as usize * channels;
            Type::new(dtype, vec![down.checked_mul(across)?, columns])
        },
        work: |types, attributes| {
            let [size, stride, padding] = [0, 1, 2].map(|place| attributes[place]);
            let shape = squares(types[0], size, stride, padding).unwrap_or([usize::MAX; 3]);
            units(&[shape[0], shape[1], shape[2], (size * size) as usize])
        },
        compute: Compute::ByElement,
        element: |types, attributes, index, read| {
            let [height, width, channels] = [0, 1, 2].map(|axis| types[0].shape[axis]);
            let [size, stride, padding] = [0, 1, 2].map(|place| attributes[place] as usize);
            let across = (width + 2 * padding - size) / stride + 1;
            let columns = size * size * channels;
            let (row, column) = (index / columns, index % columns);
            let (place, channel) = (column / channels, column % channels);
            let y = row / across * stride + place / size;
            let x = row % across * stride + place % size;
            let inside = |at: usize, side: usize| (padding..padding + side).contains(&at);
            if !inside(y, height) || !inside(x, width) {
                read(0, Window::one(channel))?;
                return Some(0);
            }
            let pixel = ((y - padding) * width + x - padding) * channels + channel;
            Some(read(0, Window::one(pixel))?[0])
        },
    },
    Rule {
        code: 32,
        arity: 1,
        attributes: 2,
        infer: pooled,
        work: pool_work,
        compute: Compute::ByElement,
        element: |types, attributes, index, read| {
            square(types[0], attributes, index, read)?
                .iter()
                .copied()
                .max()
        },
    },
    Rule {
        code: 33,
        arity: 1,
        attributes: 2,
        infer: pooled,
        work: pool_work,
        compute: Compute::ByElement,
        element: |types, attributes, index, read| {
            let values = square(types[0], attributes, index, read)?;
            let count = values.len() as i64;
            Some((2 * values.iter().sum::<i64>() + count).div_euclid(2 * count))
        },
    },
    Rule {
        code: 34,
        arity: 1,
        attributes: 0,
        infer: |types, _| {
            fits(types[0].dtype == DType::Int16)?;
            Some(types[0].clone())
        },
        work: elements,
        compute: Compute::ByElement,
        element: |_, _, index, read| Some(read(0, Window::one(index))?[0].max(0)),
    },
    Rule {
        code: 35,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            let [m, n] = shape::<2>(types[0], DType::Int16)?;
            let [p, width] = shape::<2>(types[1], DType::Int16)?;
            fits(n == width)?;
            Type::new(DType::Int16, vec![m + p, n])
        },
        work: |types, _| (types[0].elements() + types[1].elements()) as u64,
        compute: Compute::ByElement,
        element: |types, _, index, read| {
            let split = types[0].elements();
            let first = read(0, Window::one(index.min(split - 1)))?[0];
            let second = read(1, Window::one(index.saturating_sub(split)))?[0];
            Some(if index < split { first } else { second })
        },
    },
    Rule {
        code: 36,
        arity: 1,
        attributes: 2,
        infer: |types, attributes| {
            let [m, n] = shape::<2>(types[0], DType::Int16)?;
            check(&attributes[..1], 0, m as i64 - 1)?;
            check(&attributes[1..], 1, m as i64 - attributes[0])?;
            Type::new(DType::Int16, vec![attributes[1] as usize, n])
        },
        work: elements,
        compute: Compute::ByElement,
        element: |types, attributes, index, read| {
            let start = attributes[0] as usize * types[0].shape[1];
            Some(read(0, Window::one(start + index))?[0])
        },
    },
    Rule {
        code: 37,
        arity: 1,
        attributes: 3,
        infer: |types, attributes| {
            fits(types[0].dtype != DType::Int64)?;
            check(&attributes[..2], 1, DIMENSION_MAX)?;
            check(&attributes[2..], 0, DIMENSION_MAX)?;
            let given = if attributes[2] == 0 { 2 } else { 3 };
            let shape = attributes[..given].iter().map(|&size| size as usize);
            let made = Type::new(types[0].dtype, shape.collect())?;
            fits(made.elements() == types[0].elements())?;
            Some(made)
        },
        work: elements,
        compute: Compute::ByElement,
        element: |_, _, index, read| Some(read(0, Window::one(index))?[0]),
    },
];

fn elements(types: &[&Type], _: &[i64]) -> u64 {
    types[0].elements() as u64
}

/// Squares down, squares across, channels.
fn squares(image: &Type, size: i64, stride: i64, padding: i64) -> Option<[usize; 3]> {
    let [height, width, channels] = shape::<3>(image, image.dtype)?;
    fits(height <= SIDE_MAX && width <= SIDE_MAX && channels <= CHANNELS_MAX)?;
    let [tall, wide] = [height, width].map(|side| side as i64 + 2 * padding);
    check(&[size], 1, SQUARE_MAX.min(tall).min(wide))?;
    check(&[stride], 1, SQUARE_MAX)?;
    let [down, across] = [tall, wide].map(|side| ((side - size) / stride + 1) as usize);
    Some([down, across, channels])
}

fn pooled(types: &[&Type], attributes: &[i64]) -> Option<Type> {
    fits(types[0].dtype == DType::Int16)?;
    let shape = squares(types[0], attributes[0], attributes[1], 0)?;
    Type::new(DType::Int16, shape.to_vec())
}

fn pool_work(types: &[&Type], attributes: &[i64]) -> u64 {
    let shape = squares(types[0], attributes[0], attributes[1], 0).unwrap_or([usize::MAX; 3]);
    let terms = (attributes[0] * attributes[0]) as usize;
    units(&[shape[0], shape[1], shape[2], terms + 4])
}

fn square<'r>(
    image: &Type,
    attributes: &[i64],
    index: usize,
    read: &mut Read<'r>,
) -> Option<Cow<'r, [i64]>> {
    let [size, stride] = [attributes[0] as usize, attributes[1] as usize];
    let [width, channels] = [image.shape[1], image.shape[2]];
    let across = (width - size) / stride + 1;
    let (place, channel) = (index / channels, index % channels);
    let start = (place / across * stride * width + place % across * stride) * channels + channel;
    let window = Window {
        start,
        run: 1,
        count: size,
        stride: channels,
        rows: size,
        pitch: width * channels,
    };
    read(0, window)
}

//! The operators of a scene on small tensors (`rules_scene.py` is the table, `scene.py` defines them).
//!
//! An element reads several windows of one tensor: a pixel its triangle, that one's three vertices, four texels. A whole
//! operator refuses whatever its definition refuses, also where no element reads it.

use super::encoder::{INT32_MAX, PER_SUM, check, fits, is, round_shift, shape};
use super::{Compute, DType, Read, Rule, Type, Window, encode, units};

const VIEW_SIZE: usize = 7;
const SINE_SIZE: usize = 4096;
const SINE_MAX: i64 = 1 << 16;
const QUARTER_TURN: i64 = 1 << 14;
const FRAME_MAX: i64 = 4096;
const LENGTH_MAX: i64 = 1 << 28;
const MATRIX_MAX: i64 = 1 << 29;
const SUBPIXEL_BITS: u32 = 4;
const GUARD_MAX: i64 = 1 << 19;
const NEAR_W: i64 = 1 << 12;
const DEPTH_BITS: u32 = 21;
const RECIPROCAL_BITS: u32 = 38;
const WEIGHT_BITS: u32 = 18;
const TRIANGLE_BITS: u32 = 24;
const NOTHING: i64 = i64::MAX;
const NORMAL_MAX: i64 = 1 << 15;
const UNIT_BITS: i64 = 14;
const TEXTURE_MAX: i64 = 4096;
const MATERIAL_SIZE: usize = 6;
const FACTOR_MAX: i64 = 256;
const VERTICES_MAX: usize = 1 << 24;
const CHANNELS_MAX: usize = 64;
const MATERIALS_MAX: usize = 1 << 16;
const TEXELS_MAX: usize = 1 << 28;
const LEVEL_MAX: i64 = 1 << 10;

const YAW: usize = 0;
const PITCH: usize = 1;
const DISTANCE: usize = 2;
const LIGHT_YAW: usize = 3;
const LIGHT_PITCH: usize = 4;
const WIDTH: usize = 5;
const HEIGHT: usize = 6;

pub const RULES: &[Rule] = &[
    Rule {
        code: 40,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            is_view(types[0])?;
            is(types[1], DType::Int32, &[SINE_SIZE])?;
            Type::new(DType::Int32, vec![4, 4])
        },
        work: |_, _| 16,
        compute: Compute::Checked(|_, values| check(&values[1], -SINE_MAX, SINE_MAX)),
        element: |_, _, index, read| {
            let view = read(0, Window::run(0, VIEW_SIZE))?;
            let [yaw_sine, yaw_cosine, pitch_sine, pitch_cosine] =
                turned(&view, [YAW, PITCH], read)?;
            check_view(&view)?;
            let across = |a: i64, b: i64| round_shift(a * b, 16);
            Some(match index {
                0 => yaw_cosine,
                2 => -yaw_sine,
                4 => across(yaw_sine, -pitch_sine),
                5 => pitch_cosine,
                6 => across(yaw_cosine, -pitch_sine),
                8 => across(yaw_sine, pitch_cosine),
                9 => pitch_sine,
                10 => across(yaw_cosine, pitch_cosine),
                11 => -view[DISTANCE],
                15 => 1 << 16,
                _ => 0,
            })
        },
    },
    Rule {
        code: 41,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            is_view(types[0])?;
            is(types[1], DType::Int32, &[SINE_SIZE])?;
            Type::new(DType::Int32, vec![3])
        },
        work: |_, _| 16,
        compute: Compute::Checked(|_, values| check(&values[1], -SINE_MAX, SINE_MAX)),
        element: |_, _, index, read| {
            let view = read(0, Window::run(0, VIEW_SIZE))?;
            let [yaw_sine, yaw_cosine, pitch_sine, pitch_cosine] =
                turned(&view, [LIGHT_YAW, LIGHT_PITCH], read)?;
            check_view(&view)?;
            let wide = [
                yaw_sine * pitch_cosine,
                pitch_sine << 16,
                yaw_cosine * pitch_cosine,
            ];
            Some(round_shift(wide[index], 32 - UNIT_BITS))
        },
    },
    Rule {
        code: 42,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            is(types[0], DType::Int32, &[4, 4])?;
            is(types[1], DType::Int32, &[4, 4])?;
            Some(types[0].clone())
        },
        work: |_, _| units(&[16, 4 + PER_SUM]),
        compute: Compute::ByElement,
        element: |_, _, index, read| {
            let a = read(0, Window::run(index / 4 * 4, 4))?;
            let b = read(1, Window::column(index % 4, 4, 4))?;
            check(&a, -MATRIX_MAX, MATRIX_MAX)?;
            check(&b, -MATRIX_MAX, MATRIX_MAX)?;
            Some((dot(&a, &b) >> 16).clamp(-MATRIX_MAX, MATRIX_MAX))
        },
    },
    Rule {
        code: 43,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            is(types[0], DType::Int32, &[4, 4])?;
            let [vertices, axes] = shape::<2>(types[1], DType::Int32)?;
            fits(axes == 3 && vertices <= VERTICES_MAX)?;
            Type::new(DType::Int32, vec![vertices, 4])
        },
        work: |types, _| units(&[types[1].shape[0], 16]),
        compute: Compute::ByElement,
        element: |_, _, index, read| {
            let row = read(0, Window::run(index % 4 * 4, 4))?;
            let vertex = read(1, Window::run(index / 4 * 3, 3))?;
            check(&row, -MATRIX_MAX, MATRIX_MAX)?;
            check(&vertex, -LENGTH_MAX, LENGTH_MAX)?;
            let wide = (dot(&row[..3], &vertex) + (row[3] << 16)) >> 16;
            Some(wide.clamp(-INT32_MAX, INT32_MAX))
        },
    },
    Rule {
        code: 44,
        arity: 2,
        attributes: 0,
        infer: |types, _| {
            let [_, axes] = shape::<2>(types[0], DType::Int32)?;
            fits(axes == 4)?;
            is_view(types[1])?;
            Some(types[0].clone())
        },
        work: |types, _| types[0].elements() as u64,
        compute: Compute::ByElement,
        element: |_, _, index, read| {
            let clip = read(0, Window::run(index / 4 * 4, 4))?;
            let view = read(1, Window::run(0, VIEW_SIZE))?;
            check_view(&view)?;
            Some(placed(&clip, &view)[index % 4])
        },
    },
    Rule {
        code: 45,
        arity: 4,
        attributes: 3,
        infer: |types, attributes| {
            is_geometry(types[0], types[1])?;
            let [height] = shape::<1>(types[2], DType::Int16)?;
            let [width] = shape::<1>(types[3], DType::Int16)?;
            check_sample(attributes)?;
            check(&attributes[2..], 0, 1)?;
            Type::new(DType::Int64, vec![height, width])
        },
        work: |types, _| {
            let [triangles, height, width] = [1, 2, 3].map(|place| types[place].shape[0]);
            units(&[
                triangles + PER_SUM,
                units(&[height, width]) as usize + PER_SUM,
            ])
        },
        compute: Compute::Whole(|tensors, attributes| {
            let values: Vec<Vec<i64>> = tensors.iter().map(|tensor| tensor.values()).collect();
            let [screen, triangles, rows, columns] = [0, 1, 2, 3].map(|place| &values[place][..]);
            check_geometry(screen, triangles)?;
            check_ascending(rows)?;
            check_ascending(columns)?;
            Some(encode(
                DType::Int64,
                &nearest(screen, triangles, rows, columns, attributes),
            ))
        }),
        element: |types, attributes, index, read| {
            let (vertices, triangles) = (types[0].shape[0], types[1].shape[0]);
            let width = types[3].shape[0];
            let screen = read(0, Window::run(0, 4 * vertices))?;
            let triangles = read(1, Window::run(0, 3 * triangles))?;
            let row = read(2, Window::one(index / width))?;
            let column = read(3, Window::one(index % width))?;
            check_geometry(&screen, &triangles)?;
            check_ascending(&row)?;
            check_ascending(&column)?;
            Some(nearest(&screen, &triangles, &row, &column, attributes)[0])
        },
    },
    Rule {
        code: 46,
        arity: 5,
        attributes: 2,
        infer: |types, attributes| {
            is_geometry(types[1], types[2])?;
            let [height] = shape::<1>(types[3], DType::Int16)?;
            let [width] = shape::<1>(types[4], DType::Int16)?;
            is(types[0], DType::Int64, &[height, width])?;
            check_sample(attributes)?;
            Type::new(DType::Int32, vec![height, width, 3])
        },
        work: per_channel::<3>,
        compute: Compute::Checked(|_, values| {
            check_geometry(&values[1], &values[2])?;
            check_keys(&values[0], values[2].len() / 3)?;
            check_ascending(&values[3])?;
            check_ascending(&values[4])
        }),
        element: |types, attributes, index, read| {
            let (pixel, corner) = (index / 3, index % 3);
            let width = types[0].shape[1];
            let (key, numbers) = triangle(types, pixel, types[1].shape[0], read)?;
            let mut corners = [[0; 4]; 3];
            for (corner, &number) in corners.iter_mut().zip(&numbers) {
                corner.copy_from_slice(&read(1, Window::run(4 * number, 4))?);
                check_vertex(corner)?;
            }
            let row = read(3, Window::one(pixel / width))?[0];
            let column = read(4, Window::one(pixel % width))?[0];
            check(&[row, column], 0, FRAME_MAX - 1)?;
            if key == NOTHING {
                return Some(0);
            }
            let x = (column << SUBPIXEL_BITS) + attributes[0];
            let y = (row << SUBPIXEL_BITS) + attributes[1];
            Some(weights(&corners, x, y)[corner])
        },
    },
    Rule {
        code: 47,
        arity: 4,
        attributes: 0,
        infer: |types, _| {
            let [height, width] = shape::<2>(types[0], DType::Int64)?;
            is(types[1], DType::Int32, &[height, width, 3])?;
            let [_, channels] = shape::<2>(types[3], DType::Int32)?;
            fits(channels <= CHANNELS_MAX)?;
            is_triangles(types[2])?;
            Type::new(DType::Int32, vec![height, width, channels])
        },
        work: |types, _| units(&[types[0].elements(), types[3].shape[1], 3]),
        compute: Compute::Checked(|types, values| {
            check(&values[1], 0, 1 << WEIGHT_BITS)?;
            check(&values[2], 0, types[3].shape[0] as i64 - 1)?;
            check_keys(&values[0], values[2].len() / 3)
        }),
        element: |types, _, index, read| {
            let [vertices, channels] = [types[3].shape[0], types[3].shape[1]];
            let (pixel, channel) = (index / channels, index % channels);
            let key = read(0, Window::one(pixel))?[0];
            let place = triangle_of(key, types[2].shape[0])?;
            let weights = read(1, Window::run(3 * pixel, 3))?;
            check(&weights, 0, 1 << WEIGHT_BITS)?;
            let numbers = numbers_of(place, vertices, read)?;
            let mut total = 0;
            for (&number, weight) in numbers.iter().zip(weights.iter()) {
                total += weight * read(3, Window::one(channels * number + channel))?[0];
            }
            let found = round_shift(total, i64::from(WEIGHT_BITS)).clamp(-INT32_MAX, INT32_MAX);
            Some(if key == NOTHING { 0 } else { found })
        },
    },
    Rule {
        code: 48,
        arity: 5,
        attributes: 1,
        infer: |types, attributes| {
            let [height, width] = shape::<2>(types[0], DType::Int64)?;
            is(types[1], DType::Int32, &[height, width, 2])?;
            let [triangles] = shape::<1>(types[2], DType::Int32)?;
            let [materials, columns] = shape::<2>(types[3], DType::Int32)?;
            let [texels, channels] = shape::<2>(types[4], DType::UInt8)?;
            fits(triangles <= 1 << TRIANGLE_BITS && materials <= MATERIALS_MAX)?;
            fits(columns == MATERIAL_SIZE && texels <= TEXELS_MAX && channels == 3)?;
            check(attributes, 0, 1)?;
            Type::new(DType::UInt8, vec![height, width, 3])
        },
        work: per_channel::<3>,
        compute: Compute::Checked(|types, values| {
            check(&values[2], 0, types[3].shape[0] as i64 - 1)?;
            check_keys(&values[0], values[2].len())?;
            let texels = types[4].shape[0];
            let mut materials = values[3].chunks_exact(MATERIAL_SIZE);
            materials.try_for_each(|material| check_material(material, texels))
        }),
        element: |types, attributes, index, read| {
            let (pixel, channel) = (index / 3, index % 3);
            let key = read(0, Window::one(pixel))?[0];
            let place = triangle_of(key, types[2].shape[0])?;
            let [u, v] = *read(1, Window::run(2 * pixel, 2))? else {
                return None;
            };
            let number = read(2, Window::one(place))?[0];
            check(&[number], 0, types[3].shape[0] as i64 - 1)?;
            let start = MATERIAL_SIZE * number as usize;
            let material = read(3, Window::run(start, MATERIAL_SIZE))?;
            check_material(&material, types[4].shape[0])?;
            let [first, width, height] = [material[0], material[1], material[2]];
            let (u, v) = (u * width, v * height);
            let mut texel = |x: i64, y: i64| {
                let place = first + y.rem_euclid(height) * width + x.rem_euclid(width);
                Some(read(4, Window::one(3 * place as usize + channel))?[0])
            };
            let found = if attributes[0] == 1 {
                let (left, top) = ((u >> 8) - 128, (v >> 8) - 128);
                let (x, y, right, down) = (left >> 8, top >> 8, left & 255, top & 255);
                let upper = texel(x, y)? * (256 - right) + texel(x + 1, y)? * right;
                let lower = texel(x, y + 1)? * (256 - right) + texel(x + 1, y + 1)? * right;
                round_shift(upper * (256 - down) + lower * down, 16)
            } else {
                texel(u >> 16, v >> 16)?
            };
            let coloured = round_shift(found * material[3 + channel], 8).min(255);
            Some(if key == NOTHING { 0 } else { coloured })
        },
    },
    Rule {
        code: 49,
        arity: 7,
        attributes: 2,
        infer: |types, attributes| {
            let [height, width] = shape::<2>(types[0], DType::Int64)?;
            is(types[1], DType::UInt8, &[height, width, 3])?;
            is(types[2], DType::Int32, &[height, width, 3])?;
            is(types[3], DType::Int32, &[3])?;
            is(types[4], DType::UInt8, &[2, 3])?;
            is(types[5], DType::Int16, &[height])?;
            is_view(types[6])?;
            check(attributes, 0, LEVEL_MAX)?;
            Some(types[1].clone())
        },
        work: per_channel::<3>,
        compute: Compute::Checked(|_, values| {
            check(&values[2], -NORMAL_MAX, NORMAL_MAX)?;
            check_ascending(&values[5])
        }),
        element: |types, attributes, index, read| {
            let (pixel, channel) = (index / 3, index % 3);
            let key = read(0, Window::one(pixel))?[0];
            let colour = read(1, Window::one(index))?[0];
            let normal = read(2, Window::run(3 * pixel, 3))?;
            let light = read(3, Window::run(0, 3))?;
            let sky = read(4, Window::column(channel, 2, 3))?;
            let row = read(5, Window::one(pixel / types[0].shape[1]))?[0];
            let view = read(6, Window::run(0, VIEW_SIZE))?;
            check_view(&view)?;
            check(&normal, -NORMAL_MAX, NORMAL_MAX)?;
            check(&light, -NORMAL_MAX, NORMAL_MAX)?;
            check(&[row], 0, FRAME_MAX - 1)?;
            if key == NOTHING {
                let between = ((sky[1] - sky[0]) * row).div_euclid(view[HEIGHT]);
                return Some((sky[0] + between).clamp(0, 255));
            }
            let length = dot(&normal, &normal).isqrt().max(1);
            let cosine = (dot(&normal, &light).max(0) / length).min(1 << UNIT_BITS);
            let level = attributes[0] + round_shift(attributes[1] * cosine, UNIT_BITS);
            Some(round_shift(colour * level, 8).min(255))
        },
    },
];

fn per_channel<const CHANNELS: usize>(types: &[&Type], _: &[i64]) -> u64 {
    units(&[types[0].elements(), CHANNELS])
}

fn is_view(of: &Type) -> Option<()> {
    is(of, DType::Int32, &[VIEW_SIZE])
}

fn is_triangles(of: &Type) -> Option<()> {
    let [triangles, corners] = shape::<2>(of, DType::Int32)?;
    fits(corners == 3 && triangles <= 1 << TRIANGLE_BITS)
}

fn is_geometry(screen: &Type, triangles: &Type) -> Option<()> {
    let [vertices, axes] = shape::<2>(screen, DType::Int32)?;
    fits(axes == 4 && vertices <= VERTICES_MAX)?;
    is_triangles(triangles)
}

fn check_sample(attributes: &[i64]) -> Option<()> {
    check(&attributes[..2], 0, (1 << SUBPIXEL_BITS) - 1)
}

fn check_view(view: &[i64]) -> Option<()> {
    check(&view[DISTANCE..=DISTANCE], 0, LENGTH_MAX)?;
    check(&view[WIDTH..], 1, FRAME_MAX)
}

fn check_ascending(places: &[i64]) -> Option<()> {
    check(places, 0, FRAME_MAX - 1)?;
    fits(places.windows(2).all(|pair| pair[0] < pair[1]))
}

fn check_vertex(vertex: &[i64]) -> Option<()> {
    check(&vertex[..2], -GUARD_MAX, GUARD_MAX)?;
    check(&vertex[2..3], 0, (1 << DEPTH_BITS) - 1)?;
    check(&vertex[3..], 0, 1 << (RECIPROCAL_BITS - 12))
}

fn check_geometry(screen: &[i64], triangles: &[i64]) -> Option<()> {
    screen.chunks_exact(4).try_for_each(check_vertex)?;
    check(triangles, 0, screen.len() as i64 / 4 - 1)
}

fn check_keys(keys: &[i64], triangles: usize) -> Option<()> {
    keys.iter()
        .try_for_each(|&key| triangle_of(key, triangles).map(|_| ()))
}

fn check_material(material: &[i64], texels: usize) -> Option<()> {
    check(&material[1..3], 1, TEXTURE_MAX)?;
    check(&material[3..], 0, FACTOR_MAX)?;
    check(&material[..1], 0, texels as i64 - 1)?;
    fits(material[0] + material[1] * material[2] <= texels as i64)
}

fn dot(a: &[i64], b: &[i64]) -> i64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Sine and cosine of two angles of a view.
fn turned(view: &[i64], angles: [usize; 2], read: &mut Read) -> Option<[i64; 4]> {
    let mut found = [0; 4];
    for (place, value) in found.iter_mut().enumerate() {
        let angle = view[angles[place / 2]] + [0, QUARTER_TURN][place % 2];
        let entry = (angle >> 4).rem_euclid(SINE_SIZE as i64) as usize;
        let first = read(1, Window::one(entry))?[0];
        let second = read(1, Window::one((entry + 1) % SINE_SIZE))?[0];
        check(&[first, second], -SINE_MAX, SINE_MAX)?;
        *value = first + (((second - first) * (angle & 15) + 8) >> 4);
    }
    Some(found)
}

/// A vertex on the frame: x, y, depth, 1/w; zeros where it cannot be drawn.
fn placed(clip: &[i64], view: &[i64]) -> [i64; 4] {
    let [x, y, z, w] = [0, 1, 2, 3].map(|axis| clip[axis]);
    if w < NEAR_W || z < 0 {
        return [0; 4];
    }
    let half = view[HEIGHT] << (SUBPIXEL_BITS - 1);
    let screen_x = (x * half).div_euclid(w) + (view[WIDTH] << (SUBPIXEL_BITS - 1));
    let screen_y = (-y * half).div_euclid(w) + half;
    if screen_x.abs() > GUARD_MAX || screen_y.abs() > GUARD_MAX {
        return [0; 4];
    }
    let depth = ((z << DEPTH_BITS) / w).min((1 << DEPTH_BITS) - 1);
    [screen_x, screen_y, depth, (1 << RECIPROCAL_BITS) / w]
}

/// The triangle that a key names, 0 where it names none; None for what is no key.
fn triangle_of(key: i64, triangles: usize) -> Option<usize> {
    if key == NOTHING {
        return Some(0);
    }
    let number = (key & ((1 << TRIANGLE_BITS) - 1)) as usize;
    (key >= 0 && number < triangles).then_some(number)
}

/// A triangle's vertices, of tensor 2.
fn numbers_of(place: usize, vertices: usize, read: &mut Read) -> Option<[usize; 3]> {
    let numbers = read(2, Window::run(3 * place, 3))?;
    check(&numbers, 0, vertices as i64 - 1)?;
    Some([0, 1, 2].map(|corner| numbers[corner] as usize))
}

/// A pixel's key (tensor 0) and its triangle's vertices.
fn triangle(
    types: &[&Type],
    pixel: usize,
    vertices: usize,
    read: &mut Read,
) -> Option<(i64, [usize; 3])> {
    let key = read(0, Window::one(pixel))?[0];
    let place = triangle_of(key, types[2].shape[0])?;
    Some((key, numbers_of(place, vertices, read)?))
}

fn edge(start: &[i64; 4], end: &[i64; 4], x: i64, y: i64) -> i64 {
    (end[0] - start[0]) * (y - start[1]) - (end[1] - start[1]) * (x - start[0])
}

fn weights(corners: &[[i64; 4]; 3], x: i64, y: i64) -> [i64; 3] {
    let area = edge(&corners[0], &corners[1], corners[2][0], corners[2][1]).abs();
    let shares = [0, 1, 2].map(|i| {
        let value = edge(&corners[(i + 1) % 3], &corners[(i + 2) % 3], x, y).abs();
        let flat = (value << WEIGHT_BITS) / area.max(1);
        flat.min(1 << WEIGHT_BITS) * corners[i][3]
    });
    let total = (shares[0] + shares[1] + shares[2]).max(1);
    let [first, second] = [shares[0], shares[1]].map(|share| (share << WEIGHT_BITS) / total);
    [first, second, (1 << WEIGHT_BITS) - first - second]
}

/// The nearest triangle's key for each pixel, as `rasterize`; everything was checked.
fn nearest(
    screen: &[i64],
    triangles: &[i64],
    rows: &[i64],
    columns: &[i64],
    attributes: &[i64],
) -> Vec<i64> {
    let mut keys = vec![NOTHING; rows.len() * columns.len()];
    let xs: Vec<i64> = columns
        .iter()
        .map(|&column| (column << SUBPIXEL_BITS) + attributes[0])
        .collect();
    for (number, vertices) in triangles.chunks_exact(3).enumerate() {
        let mut corners = [0, 1, 2].map(|i| {
            let vertex = &screen[vertices[i] as usize * 4..][..4];
            [vertex[0], vertex[1], vertex[2], vertex[3]]
        });
        let signed = edge(&corners[0], &corners[1], corners[2][0], corners[2][1]);
        let drawn = corners.iter().all(|corner| corner[3] > 0);
        if !drawn || signed == 0 || (attributes[2] == 1 && signed > 0) {
            continue;
        }
        if signed < 0 {
            corners.swap(1, 2);
        }
        let sides = [0, 1, 2].map(|i| (corners[(i + 1) % 3], corners[(i + 2) % 3]));
        let least = sides.map(|(start, end)| {
            let (dx, dy) = (end[0] - start[0], end[1] - start[1]);
            i64::from(!(dy < 0 || (dy == 0 && dx > 0)))
        });
        for (&row, keys) in rows.iter().zip(keys.chunks_exact_mut(xs.len())) {
            let y = (row << SUBPIXEL_BITS) + attributes[1];
            for (&x, key) in xs.iter().zip(keys) {
                let edges = sides.map(|(start, end)| edge(&start, &end, x, y));
                let inside = (0..3).all(|i| edges[i] >= least[i]);
                if inside {
                    let sum: i64 = (0..3).map(|i| edges[i] * corners[i][2]).sum();
                    let depth = sum / signed.abs();
                    *key = (*key).min((depth << TRIANGLE_BITS) | number as i64);
                }
            }
        }
    }
    keys
}

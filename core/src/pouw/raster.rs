//! The operators of a scene, bit-equal to `pouw/operators/scene.py`, which defines them.
//!
//! A tensor that the definition refuses is an error here too; the caller asks the definition for its name.

use numpy::{
    PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::prelude::*;

/// Below this many elements an operator stays on the calling thread.
const SERIAL: usize = 1 << 13;
const FRAME_MAX: i16 = 4096;
const LENGTH_MAX: i32 = 1 << 28;
const MATRIX_MAX: i32 = 1 << 29;
const GUARD_MAX: i64 = 1 << 19;
const NEAR_W: i64 = 1 << 12;
const DEPTH_BITS: u32 = 21;
const RECIPROCAL_BITS: u32 = 38;
const WEIGHT_BITS: u32 = 18;
const TRIANGLE_BITS: u32 = 24;
const NOTHING: i64 = i64::MAX;
const NORMAL_MAX: i32 = 1 << 15;
const UNIT_BITS: u32 = 14;
const BAND: usize = 16;

fn within(what: &str, fits: bool) -> PyResult<()> {
    if fits {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{what} out of range")))
}

fn round_shift(x: i64, n: u32) -> i64 {
    (x + (1 << (n - 1))) >> n
}

/// Run a task for each row of `out`, in parallel where it pays.
fn each_row<T: Send>(out: &mut [T], width: usize, task: impl Fn(usize, &mut [T]) + Sync) {
    if out.len() < SERIAL {
        out.chunks_mut(width)
            .enumerate()
            .for_each(|(row, out)| task(row, out));
    } else {
        out.par_chunks_mut(width)
            .enumerate()
            .for_each(|(row, out)| task(row, out));
    }
}

fn check_view(view: &[i32]) -> PyResult<()> {
    within("view", view.len() == 7)?;
    within("distance", (0..=LENGTH_MAX).contains(&view[2]))?;
    within(
        "frame",
        view[5..].iter().all(|side| (1..=4096).contains(side)),
    )
}

fn check_ascending(places: &[i16]) -> PyResult<()> {
    within(
        "place",
        places.iter().all(|place| (0..FRAME_MAX).contains(place)),
    )?;
    within("order", places.windows(2).all(|pair| pair[0] < pair[1]))
}

fn check_screen(screen: &[i32]) -> PyResult<()> {
    let fits = screen.chunks_exact(4).all(|vertex| {
        i64::from(vertex[0]).abs() <= GUARD_MAX
            && i64::from(vertex[1]).abs() <= GUARD_MAX
            && (0..1 << DEPTH_BITS).contains(&vertex[2])
            && (0..=1 << (RECIPROCAL_BITS - 12)).contains(&vertex[3])
    });
    within("screen", fits)
}

fn check_numbers(numbers: &[i32], count: usize) -> PyResult<()> {
    let fits = numbers
        .iter()
        .all(|&number| usize::try_from(number).is_ok_and(|number| number < count));
    within("number", fits)
}

fn check_keys(keys: &[i64], triangles: usize) -> PyResult<()> {
    let fits = keys
        .iter()
        .all(|&key| key >= 0 && (key == NOTHING || triangle_of(key) < triangles));
    within("key", fits)
}

fn triangle_of(key: i64) -> usize {
    (key & ((1 << TRIANGLE_BITS) - 1)) as usize
}

/// Sample points, in subpixels.
fn points(places: &[i16], sample: i64) -> Vec<i64> {
    places
        .iter()
        .map(|&place| i64::from(place) * 16 + sample)
        .collect()
}

#[derive(Clone, Copy)]
struct Corner {
    x: i64,
    y: i64,
    depth: i64,
    reciprocal: i64,
}

fn corner(screen: &[i32], number: i32) -> Corner {
    let vertex = &screen[number as usize * 4..][..4];
    let [x, y, depth, reciprocal] = [0, 1, 2, 3].map(|i| i64::from(vertex[i]));
    Corner {
        x,
        y,
        depth,
        reciprocal,
    }
}

fn edge(start: &Corner, end: &Corner, x: i64, y: i64) -> i64 {
    (end.x - start.x) * (y - start.y) - (end.y - start.y) * (x - start.x)
}

#[pyfunction]
fn transform_vertices<'py>(
    py: Python<'py>,
    matrix: PyReadonlyArray2<'py, i32>,
    vertices: PyReadonlyArray2<'py, i32>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let count = vertices.shape()[0];
    within(
        "shape",
        matrix.shape() == [4, 4] && vertices.shape()[1] == 3,
    )?;
    let (matrix, vertices) = (matrix.as_slice()?, vertices.as_slice()?);
    within(
        "matrix",
        matrix
            .iter()
            .all(|entry| (-MATRIX_MAX..=MATRIX_MAX).contains(entry)),
    )?;
    within(
        "vertices",
        vertices
            .iter()
            .all(|entry| (-LENGTH_MAX..=LENGTH_MAX).contains(entry)),
    )?;
    let out = PyArray2::<i32>::zeros(py, [count, 4], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    for (vertex, to) in vertices.chunks_exact(3).zip(to.chunks_exact_mut(4)) {
        for (row, to) in matrix.chunks_exact(4).zip(to) {
            let mut sum = i64::from(row[3]) << 16;
            for (&entry, &length) in row.iter().zip(vertex) {
                sum += i64::from(entry) * i64::from(length);
            }
            *to = (sum >> 16).clamp(-i64::from(i32::MAX), i64::from(i32::MAX)) as i32;
        }
    }
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn project<'py>(
    py: Python<'py>,
    clip: PyReadonlyArray2<'py, i32>,
    view: PyReadonlyArray1<'py, i32>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let count = clip.shape()[0];
    within("shape", clip.shape()[1] == 4)?;
    let (clip, view) = (clip.as_slice()?, view.as_slice()?);
    check_view(view)?;
    let (middle, half) = (i64::from(view[5]) * 8, i64::from(view[6]) * 8);
    let out = PyArray2::<i32>::zeros(py, [count, 4], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    for (vertex, to) in clip.chunks_exact(4).zip(to.chunks_exact_mut(4)) {
        let [x, y, z, w] = [0, 1, 2, 3].map(|i| i64::from(vertex[i]));
        if w < NEAR_W || z < 0 {
            continue;
        }
        let screen_x = (x * half).div_euclid(w) + middle;
        let screen_y = (-y * half).div_euclid(w) + half;
        if screen_x.abs() <= GUARD_MAX && screen_y.abs() <= GUARD_MAX {
            let depth = ((z << DEPTH_BITS) / w).min((1 << DEPTH_BITS) - 1);
            let placed = [screen_x, screen_y, depth, (1 << RECIPROCAL_BITS) / w];
            to.copy_from_slice(&placed.map(|value| value as i32));
        }
    }
    drop(writable);
    Ok(out)
}

/// A triangle ready to fill: `edge_i(x, y) = along_i * y - across_i * x + offset_i`, and the places it may cover.
struct Filled {
    number: i64,
    across: [i64; 3],
    along: [i64; 3],
    offset: [i64; 3],
    /// Least value of an edge that belongs to the triangle: 0 on a top or left side, else 1.
    least: [i64; 3],
    depth: [i64; 3],
    area: i64,
    rows: (usize, usize),
    columns: (usize, usize),
}

fn prepare(
    screen: &[i32],
    number: usize,
    vertices: &[i32],
    xs: &[i64],
    ys: &[i64],
    cull: bool,
) -> Option<Filled> {
    let mut corners = [0, 1, 2].map(|i| corner(screen, vertices[i]));
    let signed = edge(&corners[0], &corners[1], corners[2].x, corners[2].y);
    let drawn = corners.iter().all(|corner| corner.reciprocal > 0);
    if !drawn || signed == 0 || (cull && signed > 0) {
        return None;
    }
    if signed < 0 {
        corners.swap(1, 2);
    }
    let bounds = |value: fn(&Corner) -> i64, places: &[i64]| {
        let [a, b, c] = [0, 1, 2].map(|i| value(&corners[i]));
        let (low, high) = (a.min(b).min(c), a.max(b).max(c));
        let first = places.partition_point(|&place| place < low);
        (first, places.partition_point(|&place| place <= high))
    };
    let (columns, rows) = (bounds(|corner| corner.x, xs), bounds(|corner| corner.y, ys));
    if columns.0 >= columns.1 || rows.0 >= rows.1 {
        return None;
    }
    let mut filled = Filled {
        number: number as i64,
        across: [0; 3],
        along: [0; 3],
        offset: [0; 3],
        least: [0; 3],
        depth: corners.map(|corner| corner.depth),
        area: signed.abs(),
        rows,
        columns,
    };
    for i in 0..3 {
        let (start, end) = (&corners[(i + 1) % 3], &corners[(i + 2) % 3]);
        let (dx, dy) = (end.x - start.x, end.y - start.y);
        filled.along[i] = dx;
        filled.across[i] = dy;
        filled.offset[i] = dy * start.x - dx * start.y;
        filled.least[i] = i64::from(!(dy < 0 || (dy == 0 && dx > 0)));
    }
    Some(filled)
}

fn fill_row(filled: &Filled, y: i64, xs: &[i64], keys: &mut [i64]) {
    let base = [0, 1, 2].map(|i| filled.along[i] * y + filled.offset[i]);
    let [z0, z1, z2] = filled.depth;
    for (&x, key) in xs.iter().zip(keys) {
        let [e0, e1, e2] = [0, 1, 2].map(|i| base[i] - filled.across[i] * x);
        if ((e0 - filled.least[0]) | (e1 - filled.least[1]) | (e2 - filled.least[2])) >= 0 {
            let depth = (e0 * z0 + e1 * z1 + e2 * z2) as u64 / filled.area as u64;
            *key = (*key).min(((depth as i64) << TRIANGLE_BITS) | filled.number);
        }
    }
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn rasterize<'py>(
    py: Python<'py>,
    screen: PyReadonlyArray2<'py, i32>,
    triangles: PyReadonlyArray2<'py, i32>,
    rows: PyReadonlyArray1<'py, i16>,
    columns: PyReadonlyArray1<'py, i16>,
    sample_x: i64,
    sample_y: i64,
    cull: i64,
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    within("shape", screen.shape()[1] == 4 && triangles.shape()[1] == 3)?;
    let [vertices, count] = [screen.shape()[0], triangles.shape()[0]];
    within("triangles", count <= 1 << TRIANGLE_BITS)?;
    let (screen, triangles) = (screen.as_slice()?, triangles.as_slice()?);
    let (rows, columns) = (rows.as_slice()?, columns.as_slice()?);
    check_screen(screen)?;
    check_numbers(triangles, vertices)?;
    check_ascending(rows)?;
    check_ascending(columns)?;
    let width = columns.len();
    let out = PyArray2::<i64>::zeros(py, [rows.len(), width], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        to.fill(NOTHING);
        let (xs, ys) = (points(columns, sample_x), points(rows, sample_y));
        let ready: Vec<Filled> = triangles
            .par_chunks_exact(3)
            .enumerate()
            .with_min_len(256)
            .filter_map(|(number, vertices)| prepare(screen, number, vertices, &xs, &ys, cull == 1))
            .collect();
        let mut bands: Vec<Vec<u32>> = vec![Vec::new(); rows.len().div_ceil(BAND)];
        for (place, filled) in ready.iter().enumerate() {
            for band in &mut bands[filled.rows.0 / BAND..=(filled.rows.1 - 1) / BAND] {
                band.push(place as u32);
            }
        }
        to.par_chunks_mut(width * BAND)
            .zip(&bands)
            .enumerate()
            .for_each(|(band, (to, places))| {
                let first = band * BAND;
                let last = first + to.len() / width;
                for filled in places.iter().map(|&place| &ready[place as usize]) {
                    let (left, right) = filled.columns;
                    for row in filled.rows.0.max(first)..filled.rows.1.min(last) {
                        let keys = &mut to[(row - first) * width..][left..right];
                        fill_row(filled, ys[row], &xs[left..right], keys);
                    }
                }
            });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn surface_weights<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray2<'py, i64>,
    screen: PyReadonlyArray2<'py, i32>,
    triangles: PyReadonlyArray2<'py, i32>,
    rows: PyReadonlyArray1<'py, i16>,
    columns: PyReadonlyArray1<'py, i16>,
    sample_x: i64,
    sample_y: i64,
) -> PyResult<Bound<'py, PyArray3<i32>>> {
    within("shape", screen.shape()[1] == 4 && triangles.shape()[1] == 3)?;
    within(
        "keys",
        keys.shape() == [rows.shape()[0], columns.shape()[0]],
    )?;
    let [vertices, count] = [screen.shape()[0], triangles.shape()[0]];
    let (keys, screen, triangles) = (keys.as_slice()?, screen.as_slice()?, triangles.as_slice()?);
    let (rows, columns) = (rows.as_slice()?, columns.as_slice()?);
    check_screen(screen)?;
    check_numbers(triangles, vertices)?;
    check_ascending(rows)?;
    check_ascending(columns)?;
    check_keys(keys, count)?;
    let width = columns.len();
    let out = PyArray3::<i32>::zeros(py, [rows.len(), width, 3], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let (xs, ys) = (points(columns, sample_x), points(rows, sample_y));
        each_row(to, width * 3, |row, to| {
            let keys = &keys[row * width..][..width];
            for ((&key, &x), to) in keys.iter().zip(&xs).zip(to.chunks_exact_mut(3)) {
                if key == NOTHING {
                    continue;
                }
                let numbers = &triangles[triangle_of(key) * 3..][..3];
                let corners = [0, 1, 2].map(|i| corner(screen, numbers[i]));
                let area = edge(&corners[0], &corners[1], corners[2].x, corners[2].y).abs();
                let shares = [0, 1, 2].map(|i| {
                    let value = edge(&corners[(i + 1) % 3], &corners[(i + 2) % 3], x, ys[row]);
                    let flat = ((value.abs() << WEIGHT_BITS) as u64) / (area.max(1) as u64);
                    flat.min(1 << WEIGHT_BITS) * corners[i].reciprocal as u64
                });
                let total = (shares[0] + shares[1] + shares[2]).max(1);
                let first = ((shares[0] << WEIGHT_BITS) / total) as i32;
                let second = ((shares[1] << WEIGHT_BITS) / total) as i32;
                to.copy_from_slice(&[first, second, (1 << WEIGHT_BITS) - first - second]);
            }
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn interpolate<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray2<'py, i64>,
    weights: PyReadonlyArray3<'py, i32>,
    triangles: PyReadonlyArray2<'py, i32>,
    values: PyReadonlyArray2<'py, i32>,
) -> PyResult<Bound<'py, PyArray3<i32>>> {
    let [height, width] = [keys.shape()[0], keys.shape()[1]];
    let [vertices, channels] = [values.shape()[0], values.shape()[1]];
    within(
        "shape",
        weights.shape() == [height, width, 3] && triangles.shape()[1] == 3,
    )?;
    let (keys, weights) = (keys.as_slice()?, weights.as_slice()?);
    let (triangles, values) = (triangles.as_slice()?, values.as_slice()?);
    within(
        "weights",
        weights
            .iter()
            .all(|weight| (0..=1 << WEIGHT_BITS).contains(weight)),
    )?;
    check_numbers(triangles, vertices)?;
    check_keys(keys, triangles.len() / 3)?;
    let out = PyArray3::<i32>::zeros(py, [height, width, channels], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, width * channels, |row, to| {
            for (pixel, to) in (row * width..).zip(to.chunks_exact_mut(channels)) {
                if keys[pixel] == NOTHING {
                    continue;
                }
                let numbers = &triangles[triangle_of(keys[pixel]) * 3..][..3];
                let [a, b, c] =
                    [0, 1, 2].map(|i| &values[numbers[i] as usize * channels..][..channels]);
                let [u, v, w] = [0, 1, 2].map(|i| i64::from(weights[pixel * 3 + i]));
                for (((to, &a), &b), &c) in to.iter_mut().zip(a).zip(b).zip(c) {
                    let sum = u * i64::from(a) + v * i64::from(b) + w * i64::from(c);
                    let rounded = round_shift(sum, WEIGHT_BITS);
                    *to = rounded.clamp(-i64::from(i32::MAX), i64::from(i32::MAX)) as i32;
                }
            }
        });
    });
    drop(writable);
    Ok(out)
}

#[pyfunction]
fn sample_texture<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray2<'py, i64>,
    places: PyReadonlyArray3<'py, i32>,
    materials_of: PyReadonlyArray1<'py, i32>,
    materials: PyReadonlyArray2<'py, i32>,
    texels: PyReadonlyArray2<'py, u8>,
    bilinear: i64,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let [height, width] = [keys.shape()[0], keys.shape()[1]];
    within(
        "shape",
        places.shape() == [height, width, 2] && materials.shape()[1] == 6,
    )?;
    within("texels", texels.shape()[1] == 3)?;
    let (keys, places, of) = (
        keys.as_slice()?,
        places.as_slice()?,
        materials_of.as_slice()?,
    );
    let (materials, texels) = (materials.as_slice()?, texels.as_slice()?);
    check_numbers(of, materials.len() / 6)?;
    check_keys(keys, of.len())?;
    for material in materials.chunks_exact(6) {
        within(
            "texture",
            material[1..3].iter().all(|side| (1..=4096).contains(side)),
        )?;
        within(
            "colour",
            material[3..]
                .iter()
                .all(|factor| (0..=256).contains(factor)),
        )?;
        let end = i64::from(material[0]) + i64::from(material[1]) * i64::from(material[2]);
        within(
            "texels",
            material[0] >= 0 && end <= (texels.len() / 3) as i64,
        )?;
    }
    let out = PyArray3::<u8>::zeros(py, [height, width, 3], false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        each_row(to, width * 3, |row, to| {
            for (pixel, to) in (row * width..).zip(to.chunks_exact_mut(3)) {
                if keys[pixel] == NOTHING {
                    continue;
                }
                let material = &materials[of[triangle_of(keys[pixel])] as usize * 6..][..6];
                let [first, across, down] = [0, 1, 2].map(|i| i64::from(material[i]));
                let [u, v] = [places[pixel * 2], places[pixel * 2 + 1]].map(i64::from);
                let texel = |x: i64, y: i64| {
                    let place = first + y.rem_euclid(down) * across + x.rem_euclid(across);
                    let found = &texels[place as usize * 3..][..3];
                    [0, 1, 2].map(|i| i64::from(found[i]))
                };
                let found = if bilinear == 1 {
                    let (left, top) = (((u * across) >> 8) - 128, ((v * down) >> 8) - 128);
                    let (x, y, right, low) = (left >> 8, top >> 8, left & 255, top & 255);
                    let (a, b) = (texel(x, y), texel(x + 1, y));
                    let (c, d) = (texel(x, y + 1), texel(x + 1, y + 1));
                    [0, 1, 2].map(|i| {
                        let upper = a[i] * (256 - right) + b[i] * right;
                        let lower = c[i] * (256 - right) + d[i] * right;
                        round_shift(upper * (256 - low) + lower * low, 16)
                    })
                } else {
                    texel((u * across) >> 16, (v * down) >> 16)
                };
                for i in 0..3 {
                    to[i] = round_shift(found[i] * i64::from(material[3 + i]), 8).min(255) as u8;
                }
            }
        });
    });
    drop(writable);
    Ok(out)
}

/// The largest r with r * r <= x, for 0 <= x < 2^34: f64 holds x, and its root rounds to within one.
fn floor_root(x: i64) -> i64 {
    let root = (x as f64).sqrt() as i64;
    root - i64::from(root * root > x)
}

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn shade<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray2<'py, i64>,
    colours: PyReadonlyArray3<'py, u8>,
    normals: PyReadonlyArray3<'py, i32>,
    light: PyReadonlyArray1<'py, i32>,
    sky: PyReadonlyArray2<'py, u8>,
    rows: PyReadonlyArray1<'py, i16>,
    view: PyReadonlyArray1<'py, i32>,
    ambient: i64,
    diffuse: i64,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let [height, width] = [keys.shape()[0], keys.shape()[1]];
    let shape = [height, width, 3];
    within(
        "shape",
        colours.shape() == shape && normals.shape() == shape && sky.shape() == [2, 3],
    )?;
    within("shape", light.shape() == [3] && rows.shape() == [height])?;
    let (keys, colours, normals) = (keys.as_slice()?, colours.as_slice()?, normals.as_slice()?);
    let (light, sky, rows, view) = (
        light.as_slice()?,
        sky.as_slice()?,
        rows.as_slice()?,
        view.as_slice()?,
    );
    check_view(view)?;
    check_ascending(rows)?;
    let small = |entry: &i32| (-NORMAL_MAX..=NORMAL_MAX).contains(entry);
    within(
        "normals",
        normals.iter().all(small) && light.iter().all(small),
    )?;
    within(
        "levels",
        (0..=1024).contains(&ambient) && (0..=1024).contains(&diffuse),
    )?;
    let out = PyArray3::<u8>::zeros(py, shape, false);
    let mut writable = out.readwrite();
    let to = writable.as_slice_mut()?;
    py.detach(|| {
        let light = [0, 1, 2].map(|i| i64::from(light[i]));
        each_row(to, width * 3, |row, to| {
            let behind = [0, 1, 2].map(|i| {
                let (top, bottom) = (i64::from(sky[i]), i64::from(sky[3 + i]));
                let down = ((bottom - top) * i64::from(rows[row])).div_euclid(i64::from(view[6]));
                (top + down).clamp(0, 255) as u8
            });
            for (pixel, to) in (row * width..).zip(to.chunks_exact_mut(3)) {
                if keys[pixel] == NOTHING {
                    to.copy_from_slice(&behind);
                    continue;
                }
                let normal = [0, 1, 2].map(|i| i64::from(normals[pixel * 3 + i]));
                let along = normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2];
                let square: i64 = normal.iter().map(|part| part * part).sum();
                let cosine = (along.max(0) / floor_root(square).max(1)).min(1 << UNIT_BITS);
                let level = ambient + round_shift(diffuse * cosine, UNIT_BITS);
                for i in 0..3 {
                    to[i] =
                        round_shift(i64::from(colours[pixel * 3 + i]) * level, 8).min(255) as u8;
                }
            }
        });
    });
    drop(writable);
    Ok(out)
}

/// Adds to the module `operators`, which `operators.rs` has made.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let found = module.getattr("operators")?;
    let operators = found.cast::<PyModule>()?;
    operators.add_function(wrap_pyfunction!(transform_vertices, operators)?)?;
    operators.add_function(wrap_pyfunction!(project, operators)?)?;
    operators.add_function(wrap_pyfunction!(rasterize, operators)?)?;
    operators.add_function(wrap_pyfunction!(surface_weights, operators)?)?;
    operators.add_function(wrap_pyfunction!(interpolate, operators)?)?;
    operators.add_function(wrap_pyfunction!(sample_texture, operators)?)?;
    operators.add_function(wrap_pyfunction!(shade, operators)?)
}

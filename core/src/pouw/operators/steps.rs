//! A subgraph of linear layers and attention in one call: no array is made for what nobody sees.

use super::attention::{self, KEYS_MAX, Keys, Powers, Scratch, Values};
use super::fused::Linear;
use super::{SERIAL, check_heads, collect, columns, each_part, same, unset2, within};
use crate::pouw::matmul::Pool;
use numpy::{PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

/// Scores, weights and means of all heads.
#[pyclass(frozen)]
pub struct Attention {
    powers: Powers,
    heads: usize,
    head_size: usize,
    offsets: [usize; 3],
    shift: u32,
}

impl Attention {
    pub fn new(
        table: &[i16],
        heads: usize,
        head_size: usize,
        offsets: [usize; 3],
        shift: u32,
    ) -> PyResult<Self> {
        within("shift", (1..=40).contains(&shift))?;
        same("table", table.len(), 1024)?;
        Ok(Attention {
            powers: Powers::new(table),
            heads,
            head_size,
            offsets,
            shift,
        })
    }

    /// Columns of the output.
    pub fn width(&self) -> usize {
        self.heads * self.head_size
    }

    /// Refuse what `apply` does not take: shapes of queries, keys and values.
    pub fn check(&self, shapes: [[usize; 2]; 3]) -> PyResult<()> {
        for (shape, offset) in shapes.into_iter().zip(self.offsets) {
            check_heads(shape[1], self.heads, self.head_size, offset)?;
        }
        let [m, n] = [shapes[0][0], shapes[1][0]];
        within("rows", m >= 1 && (1..KEYS_MAX).contains(&n))?;
        same("values", shapes[2][0], n)
    }

    /// `out[m][heads * head_size]`, shapes checked.
    pub fn apply(
        &self,
        [queries, keys, values]: [&[i16]; 3],
        shapes: [[usize; 2]; 3],
        out: &mut [i16],
    ) {
        let (head_size, width) = (self.head_size, self.width());
        let [m, n] = [shapes[0][0], shapes[1][0]];
        let parallel = self.heads * m * n * 16 >= SERIAL;
        let by_head = collect(parallel, self.heads, |head| {
            let [_, key, value] = self.offsets.map(|offset| offset + head * head_size);
            let keys = columns(keys, shapes[1][1], key, head_size);
            let values = columns(values, shapes[2][1], value, head_size);
            (Keys::new(keys, n, self.shift), Values::new(values, n))
        });
        each_part(parallel, out, width, |first, rows, out| {
            let mut scratch = Scratch::default();
            for (head, (keys, values)) in by_head.iter().enumerate() {
                let column = self.offsets[0] + head * head_size;
                let queries = columns(queries, shapes[0][1], column, head_size);
                let parts = out.chunks_mut(attention::ROWS * width).enumerate();
                for (part, out) in parts {
                    let done = part * attention::ROWS;
                    let at = [first + done, attention::ROWS.min(rows - done)];
                    attention::attend(
                        (keys, values, &self.powers),
                        queries,
                        at,
                        &mut scratch,
                        (&mut out[head * head_size..], width),
                    );
                }
            }
        });
    }
}

#[pymethods]
impl Attention {
    #[new]
    fn of(
        table: PyReadonlyArray1<'_, i16>,
        heads: usize,
        head_size: usize,
        offsets: [usize; 3],
        shift: u32,
    ) -> PyResult<Self> {
        Attention::new(table.as_slice()?, heads, head_size, offsets, shift)
    }
}

enum Work {
    Linear(Py<Linear>),
    Attention(Py<Attention>),
}

/// One step; its sources count the inputs first, then the outputs of the steps.
struct Step {
    work: Work,
    sources: Vec<usize>,
}

/// Steps in an order in which everything is made before it is read.
#[pyclass(frozen)]
pub struct Steps {
    steps: Vec<Step>,
    inputs: usize,
    outputs: Vec<usize>,
    buffers: Pool<Vec<Vec<i16>>>,
}

impl Steps {
    /// Shapes of the inputs and of every step's output, or what does not fit.
    fn shapes(&self, inputs: &[[usize; 2]]) -> PyResult<Vec<[usize; 2]>> {
        let mut shapes = inputs.to_vec();
        for step in &self.steps {
            let of = |place: usize| shapes[step.sources[place]];
            let [rows, k] = of(0);
            let width = match &step.work {
                Work::Linear(linear) => {
                    let residual = step.sources.get(1).map(|&source| shapes[source]);
                    let linear = linear.get();
                    linear.check((rows, k), residual.map(|[rows, width]| (rows, width)))?;
                    linear.width()
                }
                Work::Attention(attention) => {
                    let attention = attention.get();
                    attention.check([of(0), of(1), of(2)])?;
                    attention.width()
                }
            };
            shapes.push([rows, width]);
        }
        Ok(shapes)
    }

    fn run_all(&self, inputs: &[&[i16]], shapes: &[[usize; 2]], made: &mut Vec<Vec<i16>>) {
        made.resize_with(self.steps.len(), Vec::new);
        for (index, step) in self.steps.iter().enumerate() {
            let [rows, width] = shapes[self.inputs + index];
            let (before, now) = made.split_at_mut(index);
            let out = &mut now[0];
            out.resize(rows * width, 0);
            let source = |place: usize| -> &[i16] {
                let at = step.sources[place];
                match at.checked_sub(self.inputs) {
                    Some(step) => &before[step],
                    None => inputs[at],
                }
            };
            match &step.work {
                Work::Linear(linear) => {
                    let residual = (step.sources.len() > 1).then(|| source(1));
                    linear.get().apply(source(0), residual, out);
                }
                Work::Attention(attention) => {
                    let places = [0, 1, 2];
                    let shapes = places.map(|place| shapes[step.sources[place]]);
                    attention.get().apply(places.map(source), shapes, out);
                }
            }
        }
    }
}

#[pymethods]
impl Steps {
    /// Each step with its sources; `outputs` are the steps whose outputs are wanted.
    #[new]
    fn new(
        inputs: usize,
        steps: Vec<(Bound<'_, PyAny>, Vec<usize>)>,
        outputs: Vec<usize>,
    ) -> PyResult<Self> {
        within("outputs", outputs.iter().all(|&step| step < steps.len()))?;
        let mut taken = Vec::new();
        for (known, (step, sources)) in (inputs..).zip(steps) {
            let (work, places) = match step.cast::<Linear>() {
                Ok(linear) => (Work::Linear(linear.clone().unbind()), 1..=2),
                Err(_) => {
                    let attention = step.cast::<Attention>()?;
                    (Work::Attention(attention.clone().unbind()), 3..=3)
                }
            };
            within("number of sources", places.contains(&sources.len()))?;
            within("sources", sources.iter().all(|&source| source < known))?;
            taken.push(Step { work, sources });
        }
        Ok(Steps {
            steps: taken,
            inputs,
            outputs,
            buffers: Pool::new(),
        })
    }

    /// The outputs wanted, `int16[rows, columns]` each.
    fn run<'py>(
        &self,
        py: Python<'py>,
        inputs: Vec<PyReadonlyArray2<'py, i16>>,
    ) -> PyResult<Vec<Bound<'py, PyArray2<i16>>>> {
        same("inputs", inputs.len(), self.inputs)?;
        let given: Vec<_> = inputs
            .iter()
            .map(|input| [input.shape()[0], input.shape()[1]])
            .collect();
        let shapes = self.shapes(&given)?;
        let mut slices = Vec::with_capacity(inputs.len());
        for input in &inputs {
            slices.push(input.as_slice()?);
        }
        self.buffers.with(|made| {
            py.detach(|| self.run_all(&slices, &shapes, made));
            let copy = |&step: &usize| {
                let out = unset2::<i16>(py, shapes[self.inputs + step]);
                out.readwrite().as_slice_mut()?.copy_from_slice(&made[step]);
                Ok(out)
            };
            self.outputs.iter().map(copy).collect()
        })
    }
}

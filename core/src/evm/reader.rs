//! Reading state: one Python callback `read_many(keys) -> values`, in front of it a bounded cache.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use alloy_primitives::Bytes;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use revm::database_interface::DBErrorMarker;

create_exception!(
    hyperdust_core,
    StateFault,
    PyException,
    "The state that was read cannot be: a missing or altered node, a malformed account, a failed system call."
);

pub type Key = Vec<u8>;
pub type Value = Option<Bytes>;
/// Key and new value; `None` removes.
pub type Writes = Vec<(Key, Value)>;

/// A read failed; the Python error waits in the reader.
#[derive(Debug, Clone, Copy)]
pub struct ReadFault;

impl fmt::Display for ReadFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("state read failed")
    }
}

impl std::error::Error for ReadFault {}
impl DBErrorMarker for ReadFault {}

#[derive(Default)]
struct Cached {
    values: HashMap<Key, Value>,
    size_bytes: usize,
    generation: u64,
}

impl Cached {
    fn put(&mut self, key: Key, value: Value, limit: usize) {
        // 64: what an entry costs besides its bytes, roughly.
        let added = key.len() + value.as_ref().map_or(0, |bytes| bytes.len()) + 64;
        if self.size_bytes + added > limit {
            self.values.clear();
            self.size_bytes = 0;
        }
        self.size_bytes += added;
        self.values.insert(key, value);
    }
}

/// State values of the head, bounded in bytes; emptied when full.
///
/// Correct only for one state at a time: pass it when reading the head, `apply` the writes when the head moves by them,
/// `clear` it when the head moves in any other way. A reader that began before either no longer uses it.
#[pyclass(frozen, module = "hyperdust_core")]
pub struct StateCache {
    inner: Arc<RwLock<Cached>>,
    limit: usize,
}

#[pymethods]
impl StateCache {
    #[new]
    #[pyo3(signature = (limit_bytes = 256 << 20))]
    fn new(limit_bytes: usize) -> Self {
        Self {
            inner: Arc::default(),
            limit: limit_bytes,
        }
    }

    /// The head moved by these writes.
    fn apply(&self, writes: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut entries = Vec::new();
        for write in writes.try_iter()? {
            let (key, value): (Bound<'_, PyBytes>, Option<Bound<'_, PyBytes>>) =
                write?.extract()?;
            entries.push((
                key.as_bytes().to_vec(),
                value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            ));
        }
        let mut cached = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        cached.generation += 1;
        for (key, value) in entries {
            cached.put(key, value, self.limit);
        }
        Ok(())
    }

    /// The head moved in another way (reorganisation).
    fn clear(&self) {
        let mut cached = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        cached.generation += 1;
        cached.values.clear();
        cached.size_bytes = 0;
    }

    fn __len__(&self) -> usize {
        self.inner
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values
            .len()
    }
}

/// Answers reads of one state.
pub struct Reader {
    read_many: Py<PyAny>,
    cache: Option<(Arc<RwLock<Cached>>, usize, u64)>,
    fault: Mutex<Option<PyErr>>,
}

impl Reader {
    pub fn new(read_many: Py<PyAny>, cache: Option<&StateCache>) -> Self {
        let cache = cache.map(|cache| {
            let generation = cache
                .inner
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .generation;
            (Arc::clone(&cache.inner), cache.limit, generation)
        });
        Self {
            read_many,
            cache,
            fault: Mutex::new(None),
        }
    }

    /// Keeps the first error, to be raised when execution has unwound.
    pub fn fail(&self, error: PyErr) -> ReadFault {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert(error);
        ReadFault
    }

    pub fn corrupt(&self, what: impl Into<String>) -> ReadFault {
        self.fail(StateFault::new_err(what.into()))
    }

    /// The error behind a `ReadFault`.
    pub fn take_fault(&self) -> PyErr {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault
            .take()
            .unwrap_or_else(|| StateFault::new_err("state read failed"))
    }

    pub fn faulted(&self) -> bool {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    pub fn read_one(&self, key: Key) -> Result<Value, ReadFault> {
        Ok(self.read_many(vec![key])?.pop().flatten())
    }

    pub fn read_many(&self, keys: Vec<Key>) -> Result<Vec<Value>, ReadFault> {
        let mut values: Vec<Value> = vec![None; keys.len()];
        let mut missing: Vec<usize> = Vec::new();
        if let Some((cache, _, generation)) = &self.cache {
            let cached = cache.read().unwrap_or_else(PoisonError::into_inner);
            let current = cached.generation == *generation;
            for (index, key) in keys.iter().enumerate() {
                match cached.values.get(key).filter(|_| current) {
                    Some(value) => values[index].clone_from(value),
                    None => missing.push(index),
                }
            }
        } else {
            missing.extend(0..keys.len());
        }
        if missing.is_empty() {
            return Ok(values);
        }
        let answers = self
            .ask(&keys, &missing)
            .map_err(|error| self.fail(error))?;
        for (index, value) in missing.iter().zip(&answers) {
            values[*index].clone_from(value);
        }
        if let Some((cache, limit, generation)) = &self.cache {
            let mut cached = cache.write().unwrap_or_else(PoisonError::into_inner);
            if cached.generation == *generation {
                let mut keys = keys;
                for (index, value) in missing.into_iter().zip(answers) {
                    cached.put(std::mem::take(&mut keys[index]), value, *limit);
                }
            }
        }
        Ok(values)
    }

    fn ask(&self, keys: &[Key], missing: &[usize]) -> PyResult<Vec<Value>> {
        Python::attach(|py| {
            let asked = PyList::new(
                py,
                missing.iter().map(|index| PyBytes::new(py, &keys[*index])),
            )?;
            let answers = self.read_many.bind(py).call1((asked,))?;
            let mut values = Vec::with_capacity(missing.len());
            for answer in answers.try_iter()? {
                let answer: Option<Bound<'_, PyBytes>> = answer?.extract()?;
                values.push(answer.map(|bytes| Bytes::copy_from_slice(bytes.as_bytes())));
            }
            if values.len() != missing.len() {
                let text = format!(
                    "read_many answered {} values to {} keys",
                    values.len(),
                    missing.len()
                );
                return Err(StateFault::new_err(text));
            }
            Ok(values)
        })
    }
}

//! State without execution: genesis, account proofs, tries.

use alloy_primitives::{B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles, TrieAccount};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::block::python_writes;
use super::convert::{address_of, bytes_of, hash_of, integer_of, python_bytes, python_integer};
use super::environment::fork_of;
use super::overlay::{Overlay, Override};
use super::reader::{ReadFault, Reader, StateCache};
use super::trie::{Trie, account_prefix, prefetch, storage_prefix};

fn slots_of(slots: &Bound<'_, PyAny>) -> PyResult<Vec<(U256, U256)>> {
    let one = |(slot, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        Ok((integer_of(&slot)?, integer_of(&value)?))
    };
    slots.cast::<PyDict>()?.iter().map(one).collect()
}

/// From an object with `balance`, `nonce`, `code`, `state`, `state_diff`, each of which may be None.
pub fn override_of(object: &Bound<'_, PyAny>) -> PyResult<Override> {
    let field = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
        Ok(Some(object.getattr(name)?).filter(|value| !value.is_none()))
    };
    Ok(Override {
        balance: field("balance")?.as_ref().map(integer_of).transpose()?,
        nonce: field("nonce")?.map(|value| value.extract()).transpose()?,
        code: field("code")?.as_ref().map(bytes_of).transpose()?,
        state: field("state")?.as_ref().map(slots_of).transpose()?,
        state_diff: field("state_diff")?
            .as_ref()
            .map(slots_of)
            .transpose()?
            .unwrap_or_default(),
    })
}

/// Writes and root of a state that holds these accounts (a dict from address to overrides) and nothing else.
#[pyfunction]
pub fn genesis_state<'py>(
    py: Python<'py>,
    accounts: &Bound<'py, PyDict>,
    fork: &str,
) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyAny>)> {
    let spec = fork_of(fork)?;
    let mut changes = Vec::new();
    for (address, account) in accounts.iter() {
        changes.push((address_of(&address)?, override_of(&account)?));
    }
    let nothing = py.eval(c"lambda keys: [None] * len(keys)", None, None)?;
    let reader = Reader::new(nothing.unbind(), None);
    let build = || {
        let mut overlay = Overlay::new(&reader, spec);
        let addresses: Vec<_> = changes.iter().map(|(address, _)| *address).collect();
        overlay.prefetch(&addresses, &[])?;
        for (address, change) in changes {
            overlay.set(&address, change)?;
        }
        overlay.finish()
    };
    let (root, writes) = build().map_err(|ReadFault| reader.take_fault())?;
    Ok((
        python_writes(py, &writes)?,
        python_bytes(py, root).into_any(),
    ))
}

struct Proof {
    account: Option<TrieAccount>,
    nodes: Vec<Bytes>,
    storage: Vec<(U256, U256, Vec<Bytes>)>,
}

/// EIP-1186: (balance, nonce, code hash, storage hash, account nodes, ((slot, value, nodes), ...)).
#[pyfunction]
#[pyo3(signature = (address, slots, read_many, cache=None))]
pub fn account_proof<'py>(
    py: Python<'py>,
    address: &Bound<'py, PyAny>,
    slots: &Bound<'py, PyAny>,
    read_many: Py<PyAny>,
    cache: Option<&StateCache>,
) -> PyResult<Bound<'py, PyTuple>> {
    let address = address_of(address)?;
    let slots: Vec<U256> = slots
        .try_iter()?
        .map(|slot| integer_of(&slot?))
        .collect::<PyResult<_>>()?;
    let reader = Reader::new(read_many, cache);
    let build = || {
        let hash = keccak256(address);
        let path = Nibbles::unpack(hash);
        let mut trie = Trie::open(account_prefix(), &reader)?;
        let value = trie.get(&path)?;
        let decode = |rlp: Bytes| TrieAccount::decode(&mut rlp.as_ref());
        let account = value
            .map(decode)
            .transpose()
            .map_err(|error| reader.corrupt(format!("account: {error}")))?;
        let root = account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
        let mut storage = Trie::with_root(storage_prefix(&hash), root, &reader);
        let mut proofs = Vec::new();
        for slot in slots {
            let path = Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()));
            let value = storage
                .get(&path)?
                .map(|rlp| U256::decode(&mut rlp.as_ref()))
                .transpose();
            let value = value.map_err(|error| reader.corrupt(format!("slot: {error}")))?;
            proofs.push((slot, value.unwrap_or_default(), storage.prove(&path)?));
        }
        Ok(Proof {
            account,
            nodes: trie.prove(&path)?,
            storage: proofs,
        })
    };
    let proof = py.detach(build).map_err(|ReadFault| reader.take_fault())?;

    let account = proof.account.unwrap_or(TrieAccount {
        nonce: 0,
        balance: U256::ZERO,
        storage_root: EMPTY_ROOT_HASH,
        code_hash: KECCAK_EMPTY,
    });
    let nodes = |nodes: &[Bytes]| PyTuple::new(py, nodes.iter().map(|node| python_bytes(py, node)));
    let mut storage = Vec::new();
    for (slot, value, path) in &proof.storage {
        storage.push((
            python_integer(py, slot)?,
            python_integer(py, value)?,
            nodes(path)?,
        ));
    }
    PyTuple::new(
        py,
        [
            python_integer(py, &account.balance)?,
            account.nonce.into_pyobject(py)?.into_any(),
            python_bytes(py, account.code_hash).into_any(),
            python_bytes(py, account.storage_root).into_any(),
            nodes(&proof.nodes)?.into_any(),
            PyTuple::new(py, storage)?.into_any(),
        ],
    )
}

/// Applies (32-byte key, value or None) to the trie stored under `prefix`: root and writes. For tests of the trie.
#[pyfunction]
pub fn trie_update<'py>(
    py: Python<'py>,
    prefix: &Bound<'py, PyAny>,
    updates: &Bound<'py, PyAny>,
    read_many: Py<PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
    let prefix = bytes_of(prefix)?;
    let mut changes: Vec<(B256, Option<Bytes>)> = Vec::new();
    for update in updates.try_iter()? {
        let (key, value): (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>) = update?.extract()?;
        changes.push((hash_of(&key)?, value.as_ref().map(bytes_of).transpose()?));
    }
    let reader = Reader::new(read_many, None);
    let update = || {
        let mut trie = Trie::open(prefix.to_vec(), &reader)?;
        let mut paths: Vec<Nibbles> = changes
            .iter()
            .map(|(key, _)| Nibbles::unpack(key))
            .collect();
        paths.sort_unstable();
        prefetch(&mut [(&mut trie, &paths)], &reader)?;
        for (key, value) in changes {
            let path = Nibbles::unpack(key);
            match value {
                Some(value) => trie.insert(&path, value)?,
                None => trie.remove(&path)?,
            }
        }
        Ok(trie.commit())
    };
    let (root, writes) = py.detach(update).map_err(|ReadFault| reader.take_fault())?;
    Ok((
        python_bytes(py, root).into_any(),
        python_writes(py, &writes)?,
    ))
}

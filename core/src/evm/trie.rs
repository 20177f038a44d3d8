//! A Merkle Patricia trie keyed by path: loads what it walks over, returns the nodes that an update adds and removes.
//!
//! All keys have 32 bytes (hashes), so branches hold no values. A node is stored when its parent refers to it by hash
//! (32 bytes of RLP or more) and always when it is the root. Nodes below an untouched reference never change their path:
//! splitting an extension or collapsing a branch only moves leaves and extensions.

use std::collections::HashSet;

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::{Decodable, Encodable};
use alloy_trie::nodes::{BranchNode, ExtensionNodeRef, LeafNodeRef, RlpNode, TrieNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieMask};
use rayon::prelude::*;

use super::reader::{Key, ReadFault, Reader, Writes};

#[derive(Debug, Default)]
enum Node {
    #[default]
    Empty,
    /// Stored, not loaded yet.
    Hash(B256),
    Leaf(Nibbles, Bytes),
    Extension(Nibbles, Box<Slot>),
    Branch(Box<[Slot; 16]>),
}

/// A node and, while it is unchanged, how its parent refers to it.
#[derive(Debug, Default)]
struct Slot {
    node: Node,
    reference: Option<RlpNode>,
}

impl Slot {
    fn changed(node: Node) -> Self {
        Self {
            node,
            reference: None,
        }
    }

    fn from_reference(reference: &RlpNode) -> alloy_rlp::Result<Self> {
        let node = match reference.as_hash() {
            Some(hash) => Node::Hash(hash),
            None => decode(reference.as_slice())?,
        };
        Ok(Self {
            node,
            reference: Some(reference.clone()),
        })
    }
}

fn decode(rlp: &[u8]) -> alloy_rlp::Result<Node> {
    let mut rest = rlp;
    let node = TrieNode::decode(&mut rest)?;
    if !rest.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength);
    }
    Ok(match node {
        TrieNode::EmptyRoot => Node::Empty,
        TrieNode::Leaf(leaf) => Node::Leaf(leaf.key, leaf.value.into()),
        TrieNode::Extension(extension) => Node::Extension(
            extension.key,
            Box::new(Slot::from_reference(&extension.child)?),
        ),
        TrieNode::Branch(branch) => {
            let mut children: Box<[Slot; 16]> = Box::default();
            for (child, index) in branch.stack.iter().zip(branch.state_mask.iter()) {
                children[index as usize] = Slot::from_reference(child)?;
            }
            Node::Branch(children)
        }
    })
}

/// Where the nodes of one trie are stored, and which have been loaded.
struct Store<'a> {
    prefix: Key,
    reader: &'a Reader,
    loaded: HashSet<Nibbles>,
}

impl Store<'_> {
    fn key(&self, path: &Nibbles) -> Key {
        [self.prefix.as_slice(), &path.to_vec()].concat()
    }

    fn resolve(&mut self, slot: &mut Slot, path: &Nibbles) -> Result<(), ReadFault> {
        if let Node::Hash(hash) = slot.node {
            let value = self.reader.read_one(self.key(path))?;
            slot.node = open_node(path, hash, value).map_err(|text| self.reader.corrupt(text))?;
            self.loaded.insert(*path);
        }
        Ok(())
    }
}

/// The stored node, checked against what its parent says.
fn open_node(path: &Nibbles, hash: B256, value: Option<Bytes>) -> Result<Node, String> {
    let rlp = value.ok_or_else(|| format!("trie node {path:?} is missing"))?;
    if keccak256(&rlp) != hash {
        return Err(format!("trie node {path:?} does not hash to {hash}"));
    }
    decode(&rlp).map_err(|error| format!("trie node {path:?}: {error}"))
}

/// What an update did.
#[derive(Default)]
struct Changes {
    written: Vec<(Nibbles, Bytes)>,
    kept: Vec<Nibbles>,
}

pub struct Trie<'a> {
    root: Slot,
    store: Store<'a>,
}

/// Prefix of the account trie's nodes.
pub fn account_prefix() -> Key {
    b"n".to_vec()
}

/// Prefix of a storage trie's nodes.
pub fn storage_prefix(hashed_address: &B256) -> Key {
    [b"m".as_slice(), hashed_address.as_slice()].concat()
}

impl<'a> Trie<'a> {
    /// A trie with a known root.
    pub fn with_root(prefix: Key, root: B256, reader: &'a Reader) -> Self {
        let node = if root == EMPTY_ROOT_HASH {
            Node::Empty
        } else {
            Node::Hash(root)
        };
        let reference = matches!(node, Node::Hash(_)).then(|| RlpNode::word_rlp(&root));
        Self {
            root: Slot { node, reference },
            store: Store {
                prefix,
                reader,
                loaded: HashSet::new(),
            },
        }
    }

    /// A trie whose root is whatever node is stored at the empty path.
    pub fn open(prefix: Key, reader: &'a Reader) -> Result<Self, ReadFault> {
        let root = reader
            .read_one(prefix.clone())?
            .map_or(EMPTY_ROOT_HASH, keccak256);
        Ok(Self::with_root(prefix, root, reader))
    }

    pub fn get(&mut self, key: &Nibbles) -> Result<Option<Bytes>, ReadFault> {
        Ok(self.walk(key)?.0)
    }

    /// The stored nodes from the root towards `key`: a Merkle proof of presence or absence.
    pub fn prove(&mut self, key: &Nibbles) -> Result<Vec<Bytes>, ReadFault> {
        let keys = self
            .walk(key)?
            .1
            .iter()
            .map(|path| self.store.key(path))
            .collect();
        Ok(self
            .store
            .reader
            .read_many(keys)?
            .into_iter()
            .flatten()
            .collect())
    }

    /// The value at `key`, and the paths of the stored nodes on the way.
    fn walk(&mut self, key: &Nibbles) -> Result<(Option<Bytes>, Vec<Nibbles>), ReadFault> {
        let mut slot = &mut self.root;
        let mut depth = 0;
        let mut stored = Vec::new();
        loop {
            let path = key.slice(..depth);
            if slot.reference.as_ref().is_some_and(RlpNode::is_hash) {
                stored.push(path);
            }
            self.store.resolve(slot, &path)?;
            match &mut slot.node {
                Node::Empty | Node::Hash(_) => return Ok((None, stored)),
                Node::Leaf(rest, value) => {
                    let found = (*rest == key.slice(depth..)).then(|| value.clone());
                    return Ok((found, stored));
                }
                Node::Extension(part, child) => {
                    if !key.slice(depth..).starts_with(part) {
                        return Ok((None, stored));
                    }
                    depth += part.len();
                    slot = child;
                }
                Node::Branch(children) => {
                    slot = &mut children[key.get_unchecked(depth) as usize];
                    depth += 1;
                }
            }
        }
    }

    pub fn insert(&mut self, key: &Nibbles, value: Bytes) -> Result<(), ReadFault> {
        insert(&mut self.root, key, 0, value, &mut self.store)
    }

    pub fn remove(&mut self, key: &Nibbles) -> Result<(), ReadFault> {
        remove(&mut self.root, key, 0, &mut self.store).map(drop)
    }

    /// Root and what has to be written for it.
    pub fn commit(&mut self) -> (B256, Writes) {
        let mut changes = Changes::default();
        let root = match self.root.node {
            Node::Empty => EMPTY_ROOT_HASH,
            _ => match (&self.root.node, &self.root.reference) {
                (Node::Hash(hash), _) => *hash,
                _ => seal_root(&mut self.root, &mut changes),
            },
        };
        let mut dead = std::mem::take(&mut self.store.loaded);
        let mut writes: Writes = Vec::with_capacity(changes.written.len());
        for path in &changes.kept {
            dead.remove(path);
        }
        for (path, rlp) in changes.written {
            dead.remove(&path);
            writes.push((self.store.key(&path), Some(rlp)));
        }
        let mut dead: Vec<_> = dead.into_iter().collect();
        dead.sort_unstable();
        writes.extend(dead.iter().map(|path| (self.store.key(path), None)));
        (root, writes)
    }

    /// Everything in the trie: keys of its leaves, keys under which its nodes are stored.
    pub fn enumerate(&mut self) -> Result<(Vec<B256>, Vec<Key>), ReadFault> {
        let mut leaves = Vec::new();
        enumerate(
            &mut self.root,
            &Nibbles::new(),
            &mut self.store,
            &mut leaves,
        )?;
        let nodes = self
            .store
            .loaded
            .iter()
            .map(|path| self.store.key(path))
            .collect();
        Ok((leaves, nodes))
    }
}

fn enumerate(
    slot: &mut Slot,
    path: &Nibbles,
    store: &mut Store<'_>,
    out: &mut Vec<B256>,
) -> Result<(), ReadFault> {
    store.resolve(slot, path)?;
    match &mut slot.node {
        Node::Empty | Node::Hash(_) => {}
        Node::Leaf(rest, _) => out.push(B256::from_slice(&path.join(rest).pack())),
        Node::Extension(part, child) => enumerate(child, &path.join(part), store, out)?,
        Node::Branch(children) => {
            for (index, child) in children.iter_mut().enumerate() {
                enumerate(child, &extended(path, index), store, out)?;
            }
        }
    }
    Ok(())
}

/// Loads, level by level and in one batch each, what lies between the roots and the keys (sorted) of several tries.
pub fn prefetch(
    tries: &mut [(&mut Trie<'_>, &[Nibbles])],
    reader: &Reader,
) -> Result<(), ReadFault> {
    loop {
        let mut wanted: Vec<(usize, Nibbles, B256)> = Vec::new();
        for (index, (trie, keys)) in tries.iter().enumerate() {
            missing(&trie.root, keys, 0, &mut |path, hash| {
                wanted.push((index, path, hash))
            });
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let keys = wanted
            .iter()
            .map(|(index, path, _)| tries[*index].0.store.key(path))
            .collect();
        let values = reader.read_many(keys)?;
        let nodes: Result<Vec<Node>, String> = wanted
            .par_iter()
            .zip(values)
            .with_min_len(64)
            .map(|((_, path, hash), value)| open_node(path, *hash, value))
            .collect();
        for ((index, path, _), node) in wanted
            .iter()
            .zip(nodes.map_err(|text| reader.corrupt(text))?)
        {
            let Trie { root, store } = &mut *tries[*index].0;
            store.loaded.insert(*path);
            place(root, path, 0, node);
        }
    }
}

fn missing(slot: &Slot, keys: &[Nibbles], depth: usize, want: &mut dyn FnMut(Nibbles, B256)) {
    let Some(first) = keys.first() else { return };
    match &slot.node {
        Node::Empty | Node::Leaf(..) => {}
        Node::Hash(hash) => want(first.slice(..depth), *hash),
        Node::Extension(part, child) => {
            let end = depth + part.len();
            let start = keys.partition_point(|key| key.slice(depth..end) < *part);
            let stop = keys.partition_point(|key| key.slice(depth..end) <= *part);
            missing(child, &keys[start..stop], end, want);
        }
        Node::Branch(children) => {
            let mut rest = keys;
            while let Some(first) = rest.first() {
                let nibble = first.get_unchecked(depth);
                let stop = rest.partition_point(|key| key.get_unchecked(depth) <= nibble);
                missing(&children[nibble as usize], &rest[..stop], depth + 1, want);
                rest = &rest[stop..];
            }
        }
    }
}

/// Puts a loaded node where its reference is.
fn place(slot: &mut Slot, path: &Nibbles, depth: usize, node: Node) {
    match &mut slot.node {
        Node::Hash(_) => slot.node = node,
        Node::Extension(part, child) => place(child, path, depth + part.len(), node),
        Node::Branch(children) => {
            place(
                &mut children[path.get_unchecked(depth) as usize],
                path,
                depth + 1,
                node,
            );
        }
        Node::Empty | Node::Leaf(..) => {}
    }
}

fn extended(path: &Nibbles, index: usize) -> Nibbles {
    let mut path = *path;
    path.push(index as u8);
    path
}

fn single(index: usize) -> Nibbles {
    extended(&Nibbles::new(), index)
}

/// `node` below `part`, which may be empty.
fn below(part: Nibbles, slot: Slot) -> Slot {
    if part.is_empty() {
        slot
    } else {
        Slot::changed(Node::Extension(part, Box::new(slot)))
    }
}

fn insert(
    slot: &mut Slot,
    key: &Nibbles,
    depth: usize,
    value: Bytes,
    store: &mut Store<'_>,
) -> Result<(), ReadFault> {
    store.resolve(slot, &key.slice(..depth))?;
    let rest = key.slice(depth..);
    match &mut slot.node {
        Node::Empty | Node::Hash(_) => slot.node = Node::Leaf(rest, value),
        Node::Leaf(part, old) if *part == rest => {
            if *old == value {
                return Ok(());
            }
            *old = value;
        }
        Node::Leaf(part, old) => {
            let common = part.common_prefix_length(&rest);
            let mut children: Box<[Slot; 16]> = Box::default();
            children[part.get_unchecked(common) as usize] =
                Slot::changed(Node::Leaf(part.slice(common + 1..), std::mem::take(old)));
            children[rest.get_unchecked(common) as usize] =
                Slot::changed(Node::Leaf(rest.slice(common + 1..), value));
            *slot = below(rest.slice(..common), Slot::changed(Node::Branch(children)));
        }
        Node::Extension(part, child) => {
            let common = part.common_prefix_length(&rest);
            if common == part.len() {
                insert(child, key, depth + common, value, store)?;
            } else {
                let mut children: Box<[Slot; 16]> = Box::default();
                children[part.get_unchecked(common) as usize] =
                    below(part.slice(common + 1..), std::mem::take(child));
                children[rest.get_unchecked(common) as usize] =
                    Slot::changed(Node::Leaf(rest.slice(common + 1..), value));
                *slot = below(rest.slice(..common), Slot::changed(Node::Branch(children)));
            }
        }
        Node::Branch(children) => {
            insert(
                &mut children[rest.get_unchecked(0) as usize],
                key,
                depth + 1,
                value,
                store,
            )?;
        }
    }
    slot.reference = None;
    Ok(())
}

/// Whether anything was removed.
fn remove(
    slot: &mut Slot,
    key: &Nibbles,
    depth: usize,
    store: &mut Store<'_>,
) -> Result<bool, ReadFault> {
    store.resolve(slot, &key.slice(..depth))?;
    let rest = key.slice(depth..);
    match &mut slot.node {
        Node::Empty | Node::Hash(_) => return Ok(false),
        Node::Leaf(part, _) => {
            if *part != rest {
                return Ok(false);
            }
            slot.node = Node::Empty;
        }
        Node::Extension(part, child) => {
            if !rest.starts_with(part) || !remove(child, key, depth + part.len(), store)? {
                return Ok(false);
            }
            let part = *part;
            slot.node = prepend(part, std::mem::take(child));
        }
        Node::Branch(children) => {
            if !remove(
                &mut children[rest.get_unchecked(0) as usize],
                key,
                depth + 1,
                store,
            )? {
                return Ok(false);
            }
            let mut left = (0..16).filter(|index| !matches!(children[*index].node, Node::Empty));
            if let (Some(index), None) = (left.next(), left.next()) {
                // Only a loaded node says whether it merges with what is above it.
                store.resolve(&mut children[index], &extended(&key.slice(..depth), index))?;
                slot.node = prepend(single(index), std::mem::take(&mut children[index]));
            }
        }
    }
    slot.reference = None;
    Ok(true)
}

/// The node that stands for `slot` reached through `part`.
fn prepend(part: Nibbles, slot: Slot) -> Node {
    match slot.node {
        Node::Empty => Node::Empty,
        Node::Leaf(rest, value) => Node::Leaf(part.join(&rest), value),
        Node::Extension(rest, child) => Node::Extension(part.join(&rest), child),
        Node::Hash(_) | Node::Branch(_) => Node::Extension(part, Box::new(slot)),
    }
}

fn seal_root(slot: &mut Slot, changes: &mut Changes) -> B256 {
    let path = Nibbles::new();
    if let Some(hash) = slot.reference.as_ref().and_then(RlpNode::as_hash) {
        keep(slot, &path, changes);
        return hash;
    }
    let rlp = encode(slot, &path, changes, true);
    let hash = keccak256(&rlp);
    changes.written.push((path, rlp.into()));
    slot.reference = Some(RlpNode::word_rlp(&hash));
    hash
}

/// How the parent refers to this node, after writing what changed below it.
fn seal(slot: &mut Slot, path: &Nibbles, changes: &mut Changes) -> RlpNode {
    if let Some(reference) = &slot.reference {
        let reference = reference.clone();
        keep(slot, path, changes);
        return reference;
    }
    let rlp = encode(slot, path, changes, false);
    let reference = RlpNode::from_rlp(&rlp);
    if reference.is_hash() {
        changes.written.push((*path, rlp.into()));
    }
    slot.reference = Some(reference.clone());
    reference
}

/// Loaded and unchanged: stays stored where it is.
fn keep(slot: &Slot, path: &Nibbles, changes: &mut Changes) {
    if slot.reference.as_ref().is_some_and(RlpNode::is_hash) && !matches!(slot.node, Node::Hash(_))
    {
        changes.kept.push(*path);
    }
    match &slot.node {
        Node::Extension(part, child) => keep(child, &path.join(part), changes),
        Node::Branch(children) => {
            for (index, child) in children.iter().enumerate() {
                if !matches!(child.node, Node::Empty | Node::Hash(_)) {
                    keep(child, &extended(path, index), changes);
                }
            }
        }
        _ => {}
    }
}

fn encode(slot: &mut Slot, path: &Nibbles, changes: &mut Changes, parallel: bool) -> Vec<u8> {
    let mut out = Vec::new();
    match &mut slot.node {
        Node::Empty | Node::Hash(_) => out.push(alloy_rlp::EMPTY_STRING_CODE),
        Node::Leaf(rest, value) => LeafNodeRef { key: rest, value }.encode(&mut out),
        Node::Extension(part, child) => {
            let reference = seal(child, &path.join(part), changes);
            ExtensionNodeRef {
                key: part,
                child: &reference,
            }
            .encode(&mut out);
        }
        Node::Branch(children) => {
            let mut stack = Vec::with_capacity(16);
            let mut mask = TrieMask::default();
            let one = |(index, child): (usize, &mut Slot), changes: &mut Changes| {
                (!matches!(child.node, Node::Empty))
                    .then(|| seal(child, &extended(path, index), changes))
            };
            let references: Vec<Option<RlpNode>> = if parallel {
                let parts: Vec<_> = children
                    .par_iter_mut()
                    .enumerate()
                    .map(|child| {
                        let mut own = Changes::default();
                        (one(child, &mut own), own)
                    })
                    .collect();
                let merge = |(reference, own): (Option<RlpNode>, Changes)| {
                    changes.written.extend(own.written);
                    changes.kept.extend(own.kept);
                    reference
                };
                parts.into_iter().map(merge).collect()
            } else {
                children
                    .iter_mut()
                    .enumerate()
                    .map(|child| one(child, changes))
                    .collect()
            };
            for (index, reference) in references.into_iter().enumerate() {
                if let Some(reference) = reference {
                    stack.push(reference);
                    mask.set_bit(index as u8);
                }
            }
            BranchNode::new(stack, mask).encode(&mut out);
        }
    }
    out
}

//! The state during execution: what was read, what changed; at the end flat writes, trie nodes and the state root.

use std::collections::{BTreeMap, HashMap, HashSet};

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::{Decodable, Encodable};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles, TrieAccount};
use revm::bytecode::Bytecode;
use revm::database_interface::{Database, DatabaseRef};
use revm::primitives::hardfork::SpecId;
use revm::state::{AccountInfo, EvmState};

use super::reader::{Key, ReadFault, Reader, Value, Writes};
use super::trie::{Trie, account_prefix, prefetch, storage_prefix};

pub fn account_key(address: &Address) -> Key {
    [b"a".as_slice(), address.as_slice()].concat()
}

pub fn slot_key(address: &Address, slot: &U256) -> Key {
    [
        b"s".as_slice(),
        address.as_slice(),
        &slot.to_be_bytes::<32>(),
    ]
    .concat()
}

pub fn code_key(hash: &B256) -> Key {
    [b"c".as_slice(), hash.as_slice()].concat()
}

/// Preimage of a hashed slot, written under rules that can wipe a contract's storage (before Cancun) only.
fn preimage_key(hash: &B256) -> Key {
    [b"p".as_slice(), hash.as_slice()].concat()
}

fn block_hash_key(number: u64) -> Key {
    [b"h".as_slice(), &number.to_be_bytes()].concat()
}

/// One account: as it was, as it is.
#[derive(Default)]
struct Entry {
    original: Option<TrieAccount>,
    info: Option<AccountInfo>,
    /// Everything that was stored before is gone.
    wiped: bool,
    slots: HashMap<U256, U256>,
    original_slots: HashMap<U256, U256>,
    changed: bool,
}

impl Entry {
    fn new(original: Option<TrieAccount>) -> Self {
        let info = original.map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            code: (account.code_hash == KECCAK_EMPTY).then(Bytecode::default),
            ..AccountInfo::default()
        });
        Self {
            original,
            info,
            ..Self::default()
        }
    }

    /// Whether a slot that is not in `slots` may hold something.
    fn may_store(&self) -> bool {
        !self.wiped && self.stored_root() != EMPTY_ROOT_HASH
    }

    fn stored_root(&self) -> B256 {
        self.original
            .map_or(EMPTY_ROOT_HASH, |account| account.storage_root)
    }
}

/// Fields of an account that a caller replaces for one call.
#[derive(Clone, Default)]
pub struct Override {
    pub balance: Option<U256>,
    pub nonce: Option<u64>,
    pub code: Option<Bytes>,
    pub state: Option<Vec<(U256, U256)>>,
    pub state_diff: Vec<(U256, U256)>,
}

pub struct Overlay<'a> {
    reader: &'a Reader,
    spec: SpecId,
    accounts: HashMap<Address, Entry>,
    codes: HashMap<B256, Bytecode>,
    new_codes: HashSet<B256>,
    block_hashes: BTreeMap<u64, B256>,
}

impl<'a> Overlay<'a> {
    pub fn new(reader: &'a Reader, spec: SpecId) -> Self {
        Self {
            reader,
            spec,
            accounts: HashMap::new(),
            codes: HashMap::new(),
            new_codes: HashSet::new(),
            block_hashes: BTreeMap::new(),
        }
    }

    pub fn reader(&self) -> &'a Reader {
        self.reader
    }

    /// Reads, in two batches, accounts and slots that will be needed, then the accounts' code.
    pub fn prefetch(
        &mut self,
        addresses: &[Address],
        slots: &[(Address, U256)],
    ) -> Result<(), ReadFault> {
        let mut wanted: Vec<Address> = addresses
            .iter()
            .filter(|address| !self.accounts.contains_key(*address))
            .copied()
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let keys = wanted
            .iter()
            .map(account_key)
            .chain(slots.iter().map(|(address, slot)| slot_key(address, slot)));
        let mut values = self.reader.read_many(keys.collect())?.into_iter();
        let mut hashes = Vec::new();
        for (address, value) in wanted.iter().zip(values.by_ref()) {
            let account = self.decode_account(value)?;
            hashes.extend(
                account
                    .map(|account| account.code_hash)
                    .filter(|hash| *hash != KECCAK_EMPTY),
            );
            self.accounts.insert(*address, Entry::new(account));
        }
        for ((address, slot), value) in slots.iter().zip(values) {
            let value = self.decode_slot(value)?;
            if let Some(entry) = self
                .accounts
                .get_mut(address)
                .filter(|entry| entry.may_store())
                && !entry.slots.contains_key(slot)
            {
                entry.slots.insert(*slot, value);
                entry.original_slots.insert(*slot, value);
            }
        }
        hashes.retain(|hash| !self.codes.contains_key(hash));
        hashes.sort_unstable();
        hashes.dedup();
        if !hashes.is_empty() {
            let codes = self
                .reader
                .read_many(hashes.iter().map(code_key).collect())?;
            for (hash, code) in hashes.into_iter().zip(codes) {
                let code = self.decode_code(&hash, code)?;
                self.codes.insert(hash, code);
            }
        }
        Ok(())
    }

    fn decode_account(&self, value: Value) -> Result<Option<TrieAccount>, ReadFault> {
        let decode = |bytes: Bytes| TrieAccount::decode(&mut bytes.as_ref());
        value
            .map(decode)
            .transpose()
            .map_err(|error| self.reader.corrupt(format!("account: {error}")))
    }

    fn decode_slot(&self, value: Value) -> Result<U256, ReadFault> {
        let bytes = value.unwrap_or_default();
        U256::try_from_be_slice(&bytes)
            .ok_or_else(|| self.reader.corrupt("a slot has more than 32 bytes"))
    }

    fn decode_code(&self, hash: &B256, value: Value) -> Result<Bytecode, ReadFault> {
        let bytes = value.ok_or_else(|| self.reader.corrupt(format!("code {hash} is missing")))?;
        Ok(Bytecode::new_raw(bytes))
    }

    fn entry(&mut self, address: &Address) -> Result<&mut Entry, ReadFault> {
        if !self.accounts.contains_key(address) {
            let account = self.decode_account(self.reader.read_one(account_key(address))?)?;
            self.accounts.insert(*address, Entry::new(account));
        }
        Ok(self.accounts.entry(*address).or_default())
    }

    pub fn has_code(&mut self, address: &Address) -> Result<bool, ReadFault> {
        Ok(self
            .entry(address)?
            .info
            .as_ref()
            .is_some_and(|info| info.code_hash != KECCAK_EMPTY))
    }

    /// Takes over what one transaction did.
    pub fn commit(&mut self, state: EvmState) {
        let clears_empty = self.spec.is_enabled_in(SpecId::SPURIOUS_DRAGON);
        for (address, account) in state {
            if !account.is_touched() {
                continue;
            }
            let entry = self.accounts.entry(address).or_default();
            entry.changed = true;
            if account.is_selfdestructed() || (clears_empty && account.is_empty()) {
                entry.info = None;
                entry.wiped = true;
                entry.slots.clear();
                continue;
            }
            if account.is_created() {
                entry.wiped = true;
                entry.slots.clear();
            }
            for (slot, value) in &account.storage {
                if value.is_changed() {
                    entry.slots.insert(*slot, value.present_value());
                }
            }
            let mut info = account.info;
            if let Some(code) = info.code.take().filter(|code| !code.is_empty()) {
                if entry
                    .original
                    .is_none_or(|original| original.code_hash != info.code_hash)
                {
                    self.new_codes.insert(info.code_hash);
                }
                self.codes.entry(info.code_hash).or_insert(code);
            }
            entry.info = Some(info);
        }
    }

    /// Adds to a balance outside of any transaction (withdrawals).
    pub fn credit(&mut self, address: &Address, amount: U256) -> Result<(), ReadFault> {
        let clears_empty = self.spec.is_enabled_in(SpecId::SPURIOUS_DRAGON);
        let entry = self.entry(address)?;
        if amount.is_zero() && (clears_empty || entry.info.is_some()) {
            // EIP-161: touching an empty account removes it.
            if entry.info.as_ref().is_some_and(AccountInfo::is_empty) {
                entry.info = None;
                entry.changed = true;
            }
            return Ok(());
        }
        entry.changed = true;
        let info = entry.info.get_or_insert_default();
        info.balance = info.balance.saturating_add(amount);
        Ok(())
    }

    /// Sets an account as given (genesis, call overrides).
    pub fn set(&mut self, address: &Address, change: Override) -> Result<(), ReadFault> {
        let code = change
            .code
            .map(|code| (keccak256(&code), Bytecode::new_raw(code)));
        if let Some((hash, code)) = &code {
            self.codes.insert(*hash, code.clone());
            if *hash != KECCAK_EMPTY {
                self.new_codes.insert(*hash);
            }
        }
        let entry = self.entry(address)?;
        entry.changed = true;
        let info = entry.info.get_or_insert_default();
        if let Some(balance) = change.balance {
            info.balance = balance;
        }
        if let Some(nonce) = change.nonce {
            info.nonce = nonce;
        }
        if let Some((hash, code)) = code {
            info.code_hash = hash;
            info.code = Some(code);
        }
        if let Some(state) = change.state {
            entry.wiped = true;
            entry.slots = state.into_iter().collect();
        }
        entry.slots.extend(change.state_diff);
        Ok(())
    }

    /// State root after everything committed so far, and all writes that lead to it.
    pub fn finish(&self) -> Result<(B256, Writes), ReadFault> {
        let reader = self.reader;
        let mut writes: Writes = Vec::new();
        let mut changed: Vec<(B256, &Address, &Entry)> = self
            .accounts
            .iter()
            .filter(|(_, entry)| entry.changed)
            .map(|(address, entry)| (keccak256(address), address, entry))
            .collect();
        changed.sort_unstable_by_key(|(hash, ..)| *hash);
        let remembers = !self.spec.is_enabled_in(SpecId::CANCUN);

        let mut storages: Vec<StorageUpdate<'_>> = Vec::new();
        for (index, (hash, address, entry)) in changed.iter().enumerate() {
            if let Some(update) =
                StorageUpdate::new(index, hash, address, entry, remembers, reader, &mut writes)?
            {
                storages.push(update);
            }
        }
        let mut accounts = Trie::open(account_prefix(), reader)?;
        let account_paths: Vec<Nibbles> = changed
            .iter()
            .map(|(hash, ..)| Nibbles::unpack(hash))
            .collect();
        let mut tries: Vec<(&mut Trie<'_>, &[Nibbles])> = storages
            .iter_mut()
            .map(|update| (&mut update.trie, update.paths.as_slice()))
            .collect();
        tries.push((&mut accounts, &account_paths));
        prefetch(&mut tries, reader)?;

        let mut roots: HashMap<usize, B256> = HashMap::new();
        for update in storages {
            let index = update.account;
            roots.insert(index, update.apply(&mut writes)?);
        }
        for (index, ((_, address, entry), path)) in changed.iter().zip(&account_paths).enumerate() {
            let storage_root = roots.get(&index).copied();
            let kept = if entry.wiped {
                EMPTY_ROOT_HASH
            } else {
                entry.stored_root()
            };
            let account = entry.info.as_ref().map(|info| TrieAccount {
                nonce: info.nonce,
                balance: info.balance,
                storage_root: storage_root.unwrap_or(kept),
                code_hash: info.code_hash,
            });
            if account == entry.original {
                continue;
            }
            let value = account.map(|account| {
                let mut rlp = Vec::with_capacity(account.length());
                account.encode(&mut rlp);
                Bytes::from(rlp)
            });
            match &value {
                Some(rlp) => accounts.insert(path, rlp.clone())?,
                None => accounts.remove(path)?,
            }
            writes.push((account_key(address), value));
        }
        let mut hashes: Vec<_> = self.new_codes.iter().collect();
        hashes.sort_unstable();
        for hash in hashes {
            writes.push((
                code_key(hash),
                self.codes.get(hash).map(Bytecode::original_bytes),
            ));
        }
        let (root, nodes) = accounts.commit();
        writes.extend(nodes);
        if changed.iter().any(|(.., entry)| entry.wiped) {
            writes = last_of_each(writes);
        }
        Ok((root, writes))
    }
}

/// One write per key: storage that was wiped and filled again is removed first.
fn last_of_each(writes: Writes) -> Writes {
    let mut seen = HashSet::new();
    let mut kept: Writes = writes
        .into_iter()
        .rev()
        .filter(|(key, _)| seen.insert(key.clone()))
        .collect();
    kept.reverse();
    kept
}

/// The changed slots of one account, by the order of their hashes.
struct StorageUpdate<'a> {
    account: usize,
    trie: Trie<'a>,
    paths: Vec<Nibbles>,
    values: Vec<U256>,
}

impl<'a> StorageUpdate<'a> {
    /// Flat writes go to `writes` at once.
    fn new(
        account: usize,
        hash: &B256,
        address: &Address,
        entry: &Entry,
        remembers: bool,
        reader: &'a Reader,
        writes: &mut Writes,
    ) -> Result<Option<Self>, ReadFault> {
        let stored_root = entry.stored_root();
        let wipes = entry.wiped && stored_root != EMPTY_ROOT_HASH;
        if wipes {
            let (hashes, nodes) =
                Trie::with_root(storage_prefix(hash), stored_root, reader).enumerate()?;
            writes.extend(nodes.into_iter().map(|key| (key, None)));
            let preimages = reader.read_many(hashes.iter().map(preimage_key).collect())?;
            let slots = preimages
                .iter()
                .flatten()
                .filter_map(|bytes| U256::try_from_be_slice(bytes));
            let known = entry.original_slots.keys().copied();
            let gone: HashSet<U256> = slots
                .chain(known)
                .filter(|slot| !entry.slots.contains_key(slot))
                .collect();
            let mut gone: Vec<U256> = gone.into_iter().collect();
            gone.sort_unstable();
            writes.extend(gone.iter().map(|slot| (slot_key(address, slot), None)));
        }
        if entry.info.is_none() {
            return Ok(None);
        }
        let mut changed: Vec<(B256, U256, U256)> = Vec::new();
        for (slot, value) in &entry.slots {
            let before = entry.original_slots.get(slot).copied();
            // An unread slot may hold anything; a wiped one has to be written again.
            let same = if entry.wiped {
                !wipes && value.is_zero()
            } else {
                before == Some(*value)
            };
            if !same {
                changed.push((keccak256(slot.to_be_bytes::<32>()), *slot, *value));
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        changed.sort_unstable();
        for (hash, slot, value) in &changed {
            let bytes = Bytes::from(value.to_be_bytes_trimmed_vec());
            writes.push((slot_key(address, slot), (!value.is_zero()).then_some(bytes)));
            if remembers && !value.is_zero() {
                writes.push((
                    preimage_key(hash),
                    Some(Bytes::copy_from_slice(&slot.to_be_bytes::<32>())),
                ));
            }
        }
        let root = if entry.wiped {
            EMPTY_ROOT_HASH
        } else {
            stored_root
        };
        Ok(Some(Self {
            account,
            trie: Trie::with_root(storage_prefix(hash), root, reader),
            paths: changed
                .iter()
                .map(|(hash, ..)| Nibbles::unpack(hash))
                .collect(),
            values: changed.iter().map(|(.., value)| *value).collect(),
        }))
    }

    fn apply(mut self, writes: &mut Writes) -> Result<B256, ReadFault> {
        // Removing first would collapse branches that an insertion opens again.
        for (path, value) in self
            .paths
            .iter()
            .zip(&self.values)
            .filter(|(_, value)| !value.is_zero())
        {
            self.trie.insert(path, alloy_rlp::encode(value).into())?;
        }
        for (path, _) in self
            .paths
            .iter()
            .zip(&self.values)
            .filter(|(_, value)| value.is_zero())
        {
            self.trie.remove(path)?;
        }
        let (root, nodes) = self.trie.commit();
        writes.extend(nodes);
        Ok(root)
    }
}

impl Database for Overlay<'_> {
    type Error = ReadFault;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, ReadFault> {
        Ok(self.entry(&address)?.info.clone())
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, ReadFault> {
        if let Some(code) = self.codes.get(&hash) {
            return Ok(code.clone());
        }
        let code = self.code_by_hash_ref(hash)?;
        self.codes.insert(hash, code.clone());
        Ok(code)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, ReadFault> {
        let entry = self.entry(&address)?;
        if let Some(value) = entry.slots.get(&slot) {
            return Ok(*value);
        }
        if !entry.may_store() {
            return Ok(U256::ZERO);
        }
        let value = self.decode_slot(self.reader.read_one(slot_key(&address, &slot))?)?;
        let entry = self.entry(&address)?;
        entry.slots.insert(slot, value);
        entry.original_slots.insert(slot, value);
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, ReadFault> {
        if let Some(hash) = self.block_hashes.get(&number) {
            return Ok(*hash);
        }
        let hash = self.block_hash_ref(number)?;
        self.block_hashes.insert(number, hash);
        Ok(hash)
    }
}

/// For tracers, which look at the state without changing it.
impl DatabaseRef for Overlay<'_> {
    type Error = ReadFault;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, ReadFault> {
        if let Some(entry) = self.accounts.get(&address) {
            return Ok(entry.info.clone());
        }
        Ok(Entry::new(self.decode_account(self.reader.read_one(account_key(&address))?)?).info)
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, ReadFault> {
        if hash == KECCAK_EMPTY || hash.is_zero() {
            return Ok(Bytecode::default());
        }
        match self.codes.get(&hash) {
            Some(code) => Ok(code.clone()),
            None => self.decode_code(&hash, self.reader.read_one(code_key(&hash))?),
        }
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, ReadFault> {
        let entry = self.accounts.get(&address);
        if let Some(value) = entry.and_then(|entry| entry.slots.get(&slot)) {
            return Ok(*value);
        }
        if entry.is_some_and(|entry| !entry.may_store()) {
            return Ok(U256::ZERO);
        }
        self.decode_slot(self.reader.read_one(slot_key(&address, &slot))?)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, ReadFault> {
        let value = self.reader.read_one(block_hash_key(number))?;
        match value {
            Some(bytes) if bytes.len() == 32 => Ok(B256::from_slice(&bytes)),
            Some(_) => Err(self.reader.corrupt("a block hash does not have 32 bytes")),
            None => Ok(B256::ZERO),
        }
    }
}

//! Block environment: from Python, and as revm wants it.

use std::str::FromStr;

use alloy_primitives::{Address, B256, U256};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use revm::context::{BlockEnv, CfgEnv};
use revm::primitives::hardfork::SpecId;

use super::convert::{address_of, hash_of, integer_of, optional};

/// EIP-7594: blobs in one transaction from Osaka on.
const MAX_BLOBS_PER_TRANSACTION: u64 = 6;

pub struct Environment {
    pub spec: SpecId,
    pub chain_id: u64,
    pub number: u64,
    pub timestamp: u64,
    pub coinbase: Address,
    pub gas_limit: u64,
    pub base_fee: u64,
    pub prev_randao: B256,
    pub difficulty: U256,
    pub parent_hash: Option<B256>,
    pub parent_beacon_root: Option<B256>,
    pub excess_blob_gas: u64,
    pub max_blobs: u64,
    pub blob_update_fraction: u64,
    pub allow_blobs: bool,
}

pub fn fork_of(name: &str) -> PyResult<SpecId> {
    Ok(match name {
        "TangerineWhistle" => SpecId::TANGERINE,
        "SpuriousDragon" => SpecId::SPURIOUS_DRAGON,
        // Only test networks ran Constantinople without Petersburg.
        "Constantinople" | "ConstantinopleFix" => SpecId::PETERSBURG,
        "Paris" => SpecId::MERGE,
        "BPO1" | "BPO2" => SpecId::OSAKA,
        other => SpecId::from_str(other)
            .ok()
            .filter(|spec| !spec.is_enabled_in(SpecId::AMSTERDAM))
            .ok_or_else(|| PyValueError::new_err(format!("no fork {other:?}")))?,
    })
}

impl Environment {
    pub fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            spec: fork_of(&object.getattr("fork")?.extract::<String>()?)?,
            chain_id: object.getattr("chain_id")?.extract()?,
            number: object.getattr("number")?.extract()?,
            timestamp: object.getattr("timestamp")?.extract()?,
            coinbase: address_of(&object.getattr("coinbase")?)?,
            gas_limit: object.getattr("gas_limit")?.extract()?,
            base_fee: object.getattr("base_fee")?.extract()?,
            prev_randao: hash_of(&object.getattr("prev_randao")?)?,
            difficulty: integer_of(&object.getattr("difficulty")?)?,
            parent_hash: optional(object, "parent_hash", hash_of)?,
            parent_beacon_root: optional(object, "parent_beacon_root", hash_of)?,
            excess_blob_gas: object.getattr("excess_blob_gas")?.extract()?,
            max_blobs: object.getattr("max_blobs")?.extract()?,
            blob_update_fraction: object.getattr("blob_update_fraction")?.extract()?,
            allow_blobs: object.getattr("allow_blobs")?.extract()?,
        })
    }

    pub fn is(&self, spec: SpecId) -> bool {
        self.spec.is_enabled_in(spec)
    }

    pub fn config(&self) -> CfgEnv {
        let mut config = CfgEnv::new_with_spec(self.spec).with_chain_id(self.chain_id);
        let per_transaction = if self.is(SpecId::OSAKA) {
            MAX_BLOBS_PER_TRANSACTION
        } else {
            u64::MAX
        };
        config.max_blobs_per_tx = Some(self.max_blobs.min(per_transaction));
        config.blob_base_fee_update_fraction = Some(self.blob_update_fraction);
        config
    }

    pub fn block(&self) -> BlockEnv {
        let mut block = BlockEnv {
            number: U256::from(self.number),
            beneficiary: self.coinbase,
            timestamp: U256::from(self.timestamp),
            gas_limit: self.gas_limit,
            basefee: self.base_fee,
            difficulty: self.difficulty,
            prevrandao: self.is(SpecId::MERGE).then_some(self.prev_randao),
            blob_excess_gas_and_price: None,
            ..BlockEnv::default()
        };
        if self.is(SpecId::CANCUN) {
            block.set_blob_excess_gas_and_price(
                self.excess_blob_gas,
                self.blob_update_fraction.max(1),
            );
        }
        block
    }
}

//! EVM engine, state trie, transaction decoding. Used by `chain/engine.py` alone.

mod block;
mod call;
mod convert;
mod environment;
mod machine;
mod overlay;
mod precompiles;
mod reader;
mod receipt;
mod state;
mod transaction;
mod trie;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("StateFault", py.get_type::<reader::StateFault>())?;
    module.add(
        "TransactionRejected",
        py.get_type::<transaction::TransactionRejected>(),
    )?;
    module.add_class::<reader::StateCache>()?;
    module.add_class::<transaction::Transaction>()?;
    module.add_class::<receipt::Receipt>()?;
    module.add_class::<receipt::Log>()?;
    module.add_function(wrap_pyfunction!(transaction::decode_transactions, module)?)?;
    module.add_function(wrap_pyfunction!(block::execute, module)?)?;
    module.add_function(wrap_pyfunction!(call::call, module)?)?;
    module.add_function(wrap_pyfunction!(call::create_access_list, module)?)?;
    module.add_function(wrap_pyfunction!(call::simulate, module)?)?;
    module.add_function(wrap_pyfunction!(call::trace_transactions, module)?)?;
    module.add_function(wrap_pyfunction!(state::genesis_state, module)?)?;
    module.add_function(wrap_pyfunction!(state::account_proof, module)?)?;
    module.add_function(wrap_pyfunction!(state::trie_update, module)?)
}

//! The proxy-wasm adapter: the only code that knows the host.
//!
//! It turns the host's callbacks into [`crate::exchange::Event`]s and carries out the commands that come back. Nothing
//! is decided here, and nothing here may panic: a panic ends the virtual machine and with it every request in it.

mod abi;
mod approval_calls;
mod documents;
mod gateway;
mod host;
mod kept_lists;
mod metrics;
mod poller;
mod root;
mod shared_documents;
mod stream;
mod trail;
mod verifier;

use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    // Installs the hook that logs the place of a panic before the virtual machine dies.
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|context_id| Box::new(root::Root::new(context_id)));
}}

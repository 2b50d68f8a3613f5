//! Toolgate: authorisation for MCP servers inside Envoy.
//!
//! The crate is a core without any input or output, and one adapter:
//!
//! ```text
//! filter/    host callbacks ──► exchange::Event        commands ──► host calls        (the only proxy-wasm code)
//!                                    │                     ▲
//! exchange/  headers ─► oauth, jwt ─► identity::Principal  │
//!            session ids ─► session::SessionKeys          │
//!            body ────► mcp::Body ──► mcp::Call ──► policy::decide ─► Permit | Denial
//! config/    document ─► CompiledPolicy, which all of the above are held against
//! ```
//!
//! The core takes time, keys and the way to check signatures as arguments. So the same code runs in the filter, in
//! native tests, as WebAssembly in Node, and in benchmarks. Whatever it cannot read or does not know, it denies.

pub mod approval;
pub mod audit;
pub mod config;
pub mod exchange;
mod grown;
pub mod http;
pub mod identity;
pub mod json;
pub mod jwt;
pub mod keys;
pub mod limits;
pub mod mcp;
pub mod oauth;
pub mod pattern;
pub mod policy;
pub mod polled;
pub mod session;
pub mod units;

#[cfg(all(feature = "replay", target_family = "wasm"))]
compile_error!("`replay` makes callers that no signature vouches for: it is for the command line only");

#[cfg(all(feature = "filter", target_arch = "wasm32", target_os = "wasi"))]
mod filter;

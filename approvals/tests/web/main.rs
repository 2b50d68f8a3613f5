//! The page and the approvers' API over HTTP, with an OpenID provider that signs real tokens.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]

mod api;
mod attacks;
mod deciding;
mod provider;
mod signing_in;
mod site;

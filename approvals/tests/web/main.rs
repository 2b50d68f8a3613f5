//! The page and the approvers' API over HTTP, with an OpenID provider that signs real tokens.

mod api;
mod attacks;
mod deciding;
mod provider;
mod signing_in;
mod site;

//! `toolgate access-report`: who used what they may, and how much less would do.

mod edit;
mod yaml;

//! Messages to other systems: written in the transaction of what they tell of, and sent until they are taken.

mod hook;
mod message;
mod sender;

pub use hook::Hook;
pub use message::Announcer;
pub(crate) use sender::Sender;

//! HTTP as the filter sees it: header lists in bytes, and the replies it gives itself.

mod headers;
mod reply;

pub use headers::{Field, HeaderList, Single};
pub use reply::{LocalReply, header_value};

//! Reading logs: files and streams to lines, lines to records.
//!
//! `input` yields lines in constant memory, `line` finds the records in one of them, `keys` tells whether a record is
//! sealed. [`visit`] is all that a command needs which only wants the records.

pub mod input;
pub mod keys;
pub mod line;
mod wrapped;

pub use input::{End, InputError, Log, Names, Place, RawLine, Source};
pub use keys::{KeyArgument, KeyError, Keys, Seal};
pub use line::{Damage, Entry, Envelope, Form, Line, PersonalPart, Reading};

use toolgate::audit::record::Record;

/// What [`visit`] passed over.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PassedOver {
    /// Lines without a record, or with one that cannot be read.
    pub lines: u64,
    /// The first of them.
    pub first: Option<Place>,
}

impl PassedOver {
    fn add(&mut self, place: Place) {
        self.lines = self.lines.saturating_add(1);
        self.first.get_or_insert(place);
    }
}

/// Calls `visit` for each record of the log that can be read, of whatever kind, in order.
///
/// Seals are not looked at: that is the task of `toolgate verify-log`.
///
/// # Errors
/// When an input cannot be read, and what `visit` returns.
pub fn visit<E: From<InputError>>(
    log: &mut Log<'_>,
    mut visit: impl FnMut(Place, &Entry<'_>, &Record<'_>, Option<&PersonalPart<'_>>) -> Result<(), E>,
) -> Result<PassedOver, E> {
    let mut passed_over = PassedOver::default();
    while let Some(raw) = log.next_line()? {
        let Line::Records(entries) = Line::read(raw.bytes) else {
            passed_over.add(raw.place);
            continue;
        };
        for entry in &entries {
            match (entry.envelope.record(), entry.envelope.personal()) {
                (Ok(record), Ok(personal)) => visit(raw.place, entry, &record, personal.as_ref())?,
                (Err(_), _) | (_, Err(_)) => passed_over.add(raw.place),
            }
        }
    }
    Ok(passed_over)
}

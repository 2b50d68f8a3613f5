//! Envoy's response flags.

/// Bit, short name, and whether the exchange was broken off, of each flag in the property `response.flags`
/// (`envoy/stream_info/stream_info.h`, `CoreResponseFlag`; names: access log documentation, `%RESPONSE_FLAGS%`).
const FLAGS: [(u32, &str, bool); 30] = [
    (0, "LH", false),
    (1, "UH", false),
    (2, "UT", true),
    (3, "LR", true),
    (4, "UR", true),
    (5, "UF", true),
    (6, "UC", true),
    (7, "UO", false),
    (8, "NR", false),
    (9, "DI", false),
    (10, "FI", false),
    (11, "RL", false),
    (12, "UAEX", false),
    (13, "RLSE", false),
    (14, "DC", true),
    (15, "URX", false),
    (16, "SI", true),
    (17, "IH", false),
    (18, "DPE", true),
    (19, "UMSDR", true),
    (20, "RFCF", false),
    (21, "NFCF", false),
    (22, "DT", true),
    (23, "UPE", true),
    (24, "NC", false),
    (25, "OM", true),
    (26, "DF", false),
    (27, "DO", false),
    (28, "DR", true),
    (29, "UDO", false),
];

fn set(flags: u64) -> impl Iterator<Item = &'static (u32, &'static str, bool)> {
    FLAGS.iter().filter(move |(bit, ..)| flags.checked_shr(*bit).is_some_and(|rest| rest & 1 == 1))
}

/// The short names of the flags that are set, as in `%RESPONSE_FLAGS%`.
pub fn names_of_flags(flags: u64) -> impl Iterator<Item = &'static str> {
    set(flags).map(|(_, name, _)| *name)
}

/// Whether the exchange was broken off: by the client, the upstream, a timeout or the proxy.
pub fn is_broken_off(flags: u64) -> bool {
    set(flags).any(|(.., broken_off)| *broken_off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_the_names_of_the_access_log() {
        assert_eq!(names_of_flags(0x4000 | 0x40).collect::<Vec<_>>(), ["UC", "DC"]);
        assert_eq!(names_of_flags(0).count(), 0);
        assert!(is_broken_off(0x4000) && is_broken_off(0x4) && !is_broken_off(0x100));
        assert!(FLAGS.iter().enumerate().all(|(place, (bit, ..))| u32::try_from(place) == Ok(*bit)));
    }
}

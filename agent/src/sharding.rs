//! Spreads the families of a shared registry over keys.

use metrics_model::{Escaping, FamilySpec, FamilyType};

/// Returns the shard of a family, out of `shards`: CRC-32 (IEEE) of its name, a counter's without
/// `_total`, an info's without `_info`, modulo their number. For a name that is not legal in older
/// formats, its form in the scheme `underscores` counts. So families that the scheme makes equal
/// are in one shard, which notices it. This is part of the contract: every client computes the
/// same.
pub fn shard_of(family: &FamilySpec<'_>, shards: usize) -> usize {
    if shards < 2 {
        return 0;
    }
    let name = match family.family_type {
        FamilyType::Counter => family.name.strip_suffix("_total").unwrap_or(family.name),
        FamilyType::Info => family.name.strip_suffix("_info").unwrap_or(family.name),
        _ => family.name,
    };
    crc32fast::hash(Escaping::Underscores.name(name).as_bytes()) as usize % shards
}

#[cfg(test)]
mod tests {
    use metrics_model::GaugeMode;

    use super::*;

    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32fast::hash(b""), 0);
    }

    #[test]
    fn families_that_pages_would_call_the_same_are_in_one_shard() {
        let gauge = FamilyType::Gauge(GaugeMode::Sum);
        for name in ["a.b", "a-b", "a_b"] {
            let shard = shard_of(&FamilySpec::new(name, gauge), 64);
            assert_eq!(shard, crc32fast::hash(b"a_b") as usize % 64);
        }
    }

    #[test]
    fn a_counter_is_in_one_shard_with_and_without_its_ending() {
        let counter = |name| FamilySpec {
            name,
            family_type: FamilyType::Counter,
            help: "",
            unit: "",
        };
        for shards in 1..=64 {
            let shard = shard_of(&counter("hits"), shards);
            assert_eq!(shard, crc32fast::hash(b"hits") as usize % shards);
            assert_eq!(shard_of(&counter("hits_total"), shards), shard);
        }
    }
}

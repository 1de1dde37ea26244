//! Over which keys the families of a shared registry are spread.

use metrics_model::{FamilySpec, FamilyType};

/// In which of `shards` shards a family lives, wholly: CRC-32 (IEEE) of its name, a counter's
/// without `_total`, an info's without `_info`, modulo their number. Part of the contract: every client computes the same.
pub(crate) fn shard_of(family: &FamilySpec<'_>, shards: usize) -> usize {
    if shards < 2 {
        return 0;
    }
    let name = match family.family_type {
        FamilyType::Counter => family.name.strip_suffix("_total").unwrap_or(family.name),
        FamilyType::Info => family.name.strip_suffix("_info").unwrap_or(family.name),
        _ => family.name,
    };
    crc32(name.as_bytes()) as usize % shards
}

/// The polynomial of IEEE 802.3, bits reversed, as in zlib and PNG. Once for each new series: a
/// table would not pay.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes
        .iter()
        .fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
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
            assert_eq!(shard, crc32(b"hits") as usize % shards);
            assert_eq!(shard_of(&counter("hits_total"), shards), shard);
        }
    }
}

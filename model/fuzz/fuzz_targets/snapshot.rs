//! Decodes any bytes as a snapshot. If they are one, the registry must still be readable, writable,
//! able to end its writers, and able to encode itself again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics_model::{Batch, BatchHeader, BatchWriter, ExposeRequest, Labels, Limits, Registry};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut registry) = Registry::decode_snapshot(bytes) else {
        return;
    };
    // A decoded registry encodes to the same bytes, so that a replica equals its primary.
    let again = Registry::decode_snapshot(&registry.encode_snapshot()).expect("what was written reads back");
    assert_eq!(again.encode_snapshot(), registry.encode_snapshot());

    let limits = *registry.limits();
    let now_ms = registry.last_stamp_ms();
    drop(registry.expose(now_ms, &ExposeRequest::default()));
    registry.rolled_back(now_ms);
    for pause_ms in [0, 1, 100, 4_000_000, 1_000_000_000_000] {
        let now_ms = registry.last_stamp_ms().saturating_add(pause_ms);
        let stamp = registry.stamp(now_ms, &limits, false);
        let epoch = registry.epoch();
        let empty = BatchWriter::new().finish(BatchHeader::FULL);
        let batch = Batch::decode(&empty).expect("an empty batch is one");
        registry.push(&stamp, b"w", pause_ms + 1, Some(epoch), 1000, &batch);
        drop(registry.inc(&stamp, "c", &Labels::none(), 1.0, Some(50)));
        drop(registry.expose(now_ms, &ExposeRequest::default()));
        drop(registry.list_families(b"0"));
        drop(registry.list_writers(now_ms, b"0"));
    }
    drop(Registry::decode_snapshot(&registry.encode_snapshot()).expect("it is sound to the end"));
    let _ = Limits::default();
});

//! Decodes any bytes as a batch. If they are one, two writers apply it twice each to a registry,
//! which must still render its page and survive its own snapshot.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics_model::{Batch, Epoch, ExposeRequest, Limits, Registry};

fuzz_target!(|bytes: &[u8]| {
    let Ok(batch) = Batch::decode(bytes) else {
        return;
    };
    let epoch = Epoch(1);
    let mut registry = Registry::new(epoch, Limits::default(), 1000);
    for (now_ms, writer, seq) in [(2000, b"a", 1), (2001, b"b", 1), (3000, b"a", 2)] {
        let stamp = registry.stamp(now_ms, &Limits::default(), false);
        registry.push(&stamp, writer, seq, Some(epoch), 500, &batch);
    }
    drop(registry.expose(3000, &ExposeRequest::default()));
    let copy = Registry::decode_snapshot(&registry.encode_snapshot()).expect("what was written reads back");
    assert_eq!(copy.encode_snapshot(), registry.encode_snapshot());
    let stamp = registry.stamp(4000, &Limits::default(), false);
    registry.leave(&stamp, b"a", 2, Some(epoch));
    drop(registry.expose(9_999_999, &ExposeRequest::default()));
});

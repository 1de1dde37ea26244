//! Runs the interesting inputs that fuzzing has found (model/fuzz/corpus) through the same steps,
//! so that a fixed defect does not return.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

use std::path::Path;

use metrics_model::{Batch, Epoch, ExposeRequest, Format, Limits, Registry};

fn files(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

fn read_in_every_format(registry: &Registry, now_ms: u64) {
    for format in Format::EVERY {
        let request = ExposeRequest {
            format,
            ..ExposeRequest::default()
        };
        drop(registry.expose(now_ms, &request));
    }
}

#[test]
fn batches_of_the_corpus_are_refused_or_survived() {
    let files = files("batch");
    assert!(!files.is_empty());
    for bytes in files {
        let Ok(batch) = Batch::decode(&bytes) else {
            continue;
        };
        let mut registry = Registry::new(Epoch(1), Limits::default(), 1000);
        for (now_ms, writer, seq) in [(2000, b"a", 1), (2001, b"b", 1), (3000, b"a", 2)] {
            let stamp = registry.stamp(now_ms, &Limits::default(), false);
            registry.push(&stamp, writer, seq, Some(Epoch(1)), 500, &batch);
        }
        read_in_every_format(&registry, 3000);
        let copy = Registry::decode_snapshot(&registry.encode_snapshot()).unwrap();
        assert_eq!(copy.encode_snapshot(), registry.encode_snapshot());
    }
}

/// A snapshot of version 4 with one example of each kind, with a writer that has left and TTLs.
#[test]
fn a_snapshot_of_version_4_goes_on_as_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/snapshot");
    let bytes = std::fs::read(folder.join("version-4")).unwrap();
    assert_eq!(bytes[0], 4);
    let mut registry = Registry::decode_snapshot(&bytes).unwrap();
    let shown = |registry: &Registry, now_ms| {
        let page = registry.expose(now_ms, &ExposeRequest::default()).unwrap();
        let text = String::from_utf8(page.body).unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let names = samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned());
        let mut names = names.collect::<Vec<_>>();
        names.dedup();
        names
    };
    let at_first = shown(&registry, 9_000);
    assert!(
        at_first.contains(&"direct_total".to_owned()),
        "{at_first:?}"
    );
    assert!(at_first.contains(&"f1".to_owned()), "{at_first:?}");
    // The TTL of `f1` was set to a minute, that of `direct` to 58 days.
    let (minute_ms, later_ms) = (9_000 + 60_000, 2_000 + 5_000_000_000);
    assert_eq!(shown(&registry, minute_ms), ["direct_total"]);
    assert_eq!(shown(&registry, later_ms - 1), ["direct_total"]);
    let stamp = registry.stamp(later_ms, registry.limits(), false);
    registry.settle(&stamp);
    assert_eq!(shown(&registry, later_ms), [""; 0]);
    assert_eq!(registry.series_count(), 0);
}

#[test]
fn snapshots_of_the_corpus_are_refused_or_go_on() {
    let files = files("snapshot");
    assert!(!files.is_empty());
    for bytes in files {
        let Ok(mut registry) = Registry::decode_snapshot(&bytes) else {
            continue;
        };
        let limits = *registry.limits();
        for pause_ms in [0, 1, 4_000_000] {
            let now_ms = registry.last_stamp_ms().saturating_add(pause_ms);
            read_in_every_format(&registry, now_ms);
            let stamp = registry.stamp(now_ms, &limits, false);
            registry.leave(&stamp, b"w", 1, None);
        }
        Registry::decode_snapshot(&registry.encode_snapshot()).unwrap();
    }
}

//! The healing alone, with writers and without a catalogue.

use super::*;
use crate::Epoch;
use crate::registry::writers::Entry;

const LIMITS: Limits = Limits {
    healing_time_ms: 5000,
    max_series: 10,
    max_label_bytes: 10,
    writer_retention_ms: 10,
    tombstone_retention_ms: 10,
    default_ttl_ms: 0,
};

/// Two writers with leases, each of which owns two series.
fn two_writers(healing: &mut Healing) -> (Writers, [WriterId; 2]) {
    let mut writers = Writers::default();
    let ids = [b"one", b"two"].map(|name| {
        let id = writers.table.insert(Writer::new(name));
        writers.by_id.insert((*name).into(), id);
        writers.endless += 1;
        for series in [0, 1] {
            let mut entry = Entry::new(SeriesId::from_number(2 * id.number() + series), 0.0);
            entry.set_owned(true);
            writers[id].remember(entry);
        }
        writers.extend_lease(id, 1000, Some(15_000), healing);
        id
    });
    (writers, ids)
}

fn begin(healing: &mut Healing, writers: &mut Writers, now_ms: u64) {
    healing.roll_back(now_ms);
    let stamp = Stamp {
        healing_begins: healing.is_rolled_back(writers, 1000),
        ..Stamp::at(now_ms, Epoch(1))
    };
    assert!(stamp.healing_begins);
    healing.begin(writers, now_ms, 1000);
    healing.end_rollback(&stamp);
    healing.check(writers);
}

#[test]
fn it_waits_for_each_leased_writer_but_not_longer_than_the_healing_time() {
    let mut healing = Healing::default();
    let (mut writers, ids) = two_writers(&mut healing);
    assert_eq!(healing.ends_at_ms(&writers, 1000, &LIMITS), None);
    begin(&mut healing, &mut writers, 9000);
    for id in ids {
        assert_eq!(healing.ends_at_ms(&writers, 9000, &LIMITS), Some(14_000));
        healing.heal(&mut writers[id]);
        healing.check(&writers);
    }
    assert_eq!(healing.ends_at_ms(&writers, 9000, &LIMITS), Some(11_000));
}

#[test]
fn a_writer_whose_lease_ends_is_not_waited_for() {
    let mut healing = Healing::default();
    let (mut writers, ids) = two_writers(&mut healing);
    begin(&mut healing, &mut writers, 9000);
    for id in ids {
        writers.end_writer(id, &mut healing, &LIMITS);
        healing.check(&writers);
    }
    assert_eq!(healing.ends_at_ms(&writers, 9000, &LIMITS), Some(11_000));
}

#[test]
fn a_copy_without_leases_has_nothing_to_wait_for() {
    let (mut healing, writers) = (Healing::default(), Writers::default());
    healing.roll_back(9000);
    assert!(!healing.is_rolled_back(&writers, 1000));
    assert_eq!(healing.ends_at_ms(&writers, 1000, &LIMITS), None);
}

#[test]
fn series_of_a_writer_that_has_not_come_back_restart() {
    let mut healing = Healing::default();
    let (mut writers, [one, two]) = two_writers(&mut healing);
    begin(&mut healing, &mut writers, 9000);
    healing.heal(&mut writers[one]);
    healing.end(14_000);
    let steps = std::iter::from_fn(|| Some(healing.step(&mut writers)));
    let steps = steps.take_while(|step| *step != Step::Done);
    let restarted = steps.filter(|step| *step != Step::Nothing);
    let of_two = [2, 3].map(|number| Step::Restart(SeriesId::from_number(number), 14_000));
    assert_eq!(restarted.collect::<Vec<_>>(), of_two);
    assert!(healing.is_up_to_date(&writers[two]));
    healing.check(&writers);
}

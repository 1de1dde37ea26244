//! What the processes of an instance agree on.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which fail by panicking"
)]

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;

use metrics_store::{Control, Counter, MAX_ENDPOINT_BYTES, Process};

fn reopen(control: &Control) -> Control {
    Control::open(control.as_fd().try_clone_to_owned().unwrap()).unwrap()
}

/// A process that has ended.
fn gone() -> Process {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let process = Process::of(child.id()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    process
}

#[test]
fn the_lowest_free_slot_is_taken() {
    let control = Control::create().unwrap();
    let me = Process::current();
    let slots = [(); 3].map(|()| control.take_slot(me).unwrap());
    assert_eq!(slots, [0, 1, 2]);
    assert!(control.free_slot(1, me));
    assert_eq!(control.take_slot(me).unwrap(), 1);
    assert_eq!(control.slot_owner(1), Some(me));
}

#[test]
fn the_slot_of_a_process_that_is_gone_is_free() {
    let control = Control::create().unwrap();
    let me = Process::current();
    let slot = control.take_slot(me).unwrap();
    assert!(control.give_slot(slot, me, gone()));
    assert_eq!(control.take_slot(me).unwrap(), slot);
}

#[test]
fn a_slot_is_freed_by_its_owner_only() {
    let control = Control::create().unwrap();
    let me = Process::current();
    let slot = control.take_slot(me).unwrap();
    assert!(!control.free_slot(slot, gone()));
    assert_eq!(control.slot_owner(slot), Some(me));
}

#[test]
fn slots_taken_at_once_are_distinct() {
    let control = Control::create().unwrap();
    let barrier = Barrier::new(4);
    let taken = thread::scope(|scope| {
        let takers = [(); 4].map(|()| {
            // Each through its own mapping, as processes have.
            let control = reopen(&control);
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                [(); 50].map(|()| control.take_slot(Process::current()).unwrap())
            })
        });
        takers.map(|taker| taker.join().unwrap()).concat()
    });
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 200);
    assert_eq!(taken.iter().max(), Some(&199));
}

#[test]
fn endpoints_are_entered_once_and_up_to_the_limit() {
    let control = Control::create().unwrap();
    let other = reopen(&control);
    let me = Process::current();
    assert_eq!(control.endpoint("/a", 2, me), Some(0));
    assert_eq!(other.endpoint("/b", 2, me), Some(1));
    assert_eq!(other.endpoint("/a", 2, me), Some(0));
    assert_eq!(control.endpoint("/c", 2, me), None);
    assert_eq!(control.find_endpoint("/b"), Some(1));
    assert_eq!(control.find_endpoint("/c"), None);
    assert_eq!(control.endpoint_text(1).as_deref(), Some("/b"));
    assert_eq!(control.endpoint_text(2), None);
}

#[test]
fn the_longest_endpoint_is_kept_whole_and_a_longer_one_is_none() {
    let control = Control::create().unwrap();
    let longest = "x".repeat(MAX_ENDPOINT_BYTES);
    let entry = control.endpoint(&longest, 10, Process::current()).unwrap();
    assert_eq!(control.endpoint_text(entry), Some(longest.clone()));
    assert_eq!(
        control.endpoint(&(longest + "x"), 10, Process::current()),
        None
    );
}

#[test]
fn counters_and_store_numbers_are_shared() {
    let control = Control::create().unwrap();
    let other = reopen(&control);
    assert_eq!(control.count(Counter::Scrapes), 1);
    assert_eq!(other.count(Counter::Scrapes), 2);
    assert_eq!(control.counted(Counter::Scrapes), 2);
    assert_eq!(control.counted(Counter::Exporters), 0);
    assert_ne!(control.next_store_number(), other.next_store_number());
}

#[test]
fn another_file_is_no_control_memory() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert!(Control::open(file.into()).is_err());
}

#[test]
fn one_process_has_the_exporters_lock() {
    let control = Control::create().unwrap();
    assert!(control.try_lock_exporter().unwrap());
    // Another process, with the same file as its standard input.
    let script = "import fcntl,sys\ntry: fcntl.lockf(0, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept OSError: sys.exit(7)";
    let status = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::from(control.as_fd().try_clone_to_owned().unwrap()))
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(7));
}

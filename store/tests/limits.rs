//! A store that cannot grow says so, and goes on with what it has.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which fail by panicking"
)]

use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use metrics_model::{FamilySpec, FamilyType, Point};
use metrics_store::{Identity, Role, StoreError, StoreFile, StoreReader};

const PLAY: &str = "METRICS_TEST_PLAYS";

#[test]
#[ignore = "not a test: the worker process of the other"]
fn play_worker() {
    if std::env::var(PLAY).is_err() {
        return;
    }
    let store = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let store = StoreFile::from_fd(store).adopt().unwrap();
    let spec = FamilySpec::new("hits", FamilyType::Counter);
    let family = store.family(&spec, None).unwrap();
    let first = store.series(&family, &[]).unwrap();
    let refused = (0..1_000_000)
        .find_map(|i| store.series(&family, &[("i", &i.to_string())]).err())
        .unwrap();
    assert!(matches!(refused, StoreError::Grow { .. }), "{refused}");
    first.add(0, 42.0);
}

#[test]
fn a_limit_of_the_system_is_an_error_and_no_crash() {
    let identity = Identity {
        role: Role::Worker,
        number: 1,
        slot: 0,
        name: "shop:8000:0".to_owned(),
    };
    let file = StoreFile::create(&identity).unwrap();
    // Files may be 256 blocks long; as in Python, the signal that says so is ignored.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 256; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["play_worker", "--exact", "--ignored", "--nocapture"])
        .env(PLAY, "1")
        .stdin(Stdio::from(file.as_fd().try_clone_to_owned().unwrap()))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");

    let reader = StoreReader::open(file.as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(reader.point(0), Point::Scalar(42.0));
    assert!(reader.len() > 100, "{}", reader.len());
}

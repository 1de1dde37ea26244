use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::stores::InstanceLife;

/// Makes something from the first path at the second.
type Make = fn(&Path, &Path);

/// A temporary directory, removed at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let name = format!("metrics-directory-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn with_mode(name: &str, mode: u32) -> Self {
        let new = Self::new(name);
        fs::set_permissions(&new.0, fs::Permissions::from_mode(mode)).unwrap();
        new
    }

    fn open(&self) -> Result<Directory, DirectoryError> {
        Directory::open(&self.0, false)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _in_the_way_of_nothing = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_missing_directory_is_made_for_this_user_alone() {
    let parent = Temporary::new("missing");
    let path = parent.0.join("a/b");
    let directory = Directory::open(&path, false).unwrap();
    assert_eq!(directory.home_path(), path);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn in_one_that_others_can_write_there_is_one_that_they_cannot() {
    for mode in [0o777, 0o1777, 0o2777, 0o775] {
        let shared = Temporary::with_mode(&format!("open-{mode:o}"), mode);
        let directory = shared.open().unwrap();
        assert_eq!(directory.home_path().parent(), Some(&*shared.0));
        let found = fs::metadata(directory.home_path()).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o700);
        // Another process finds the same directory.
        assert_eq!(shared.open().unwrap().home_path(), directory.home_path());
    }
}

#[test]
fn a_private_directory_that_others_made_writable_is_refused() {
    let shared = Temporary::with_mode("planted", 0o777);
    let home = shared.open().unwrap().home_path().to_owned();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    let error = shared.open().unwrap_err();
    assert!(matches!(error, DirectoryError::Writable { .. }), "{error}");
    fs::remove_dir_all(&home).unwrap();
    symlink("/", &home).unwrap();
    assert!(shared.open().is_err(), "a link in its place");
}

#[test]
fn the_lock_is_a_file_of_this_directory_and_nothing_else() {
    let victim = Temporary::new("victim");
    fs::write(victim.0.join("kept"), "kept").unwrap();
    let kinds: [(&str, Make); 4] = [
        ("link", |victim, lock| symlink(victim, lock).unwrap()),
        ("hard", |victim, lock| fs::hard_link(victim, lock).unwrap()),
        ("folder", |_, lock| fs::create_dir(lock).unwrap()),
        ("socket", |_, lock| {
            std::os::unix::net::UnixListener::bind(lock)
                .map(drop)
                .unwrap();
        }),
    ];
    for (kind, make) in kinds {
        let directory = Temporary::new(kind);
        make(&victim.0.join("kept"), &directory.0.join(LOCK));
        let error = directory.open().unwrap_err().to_string();
        assert!(
            error.starts_with("exporter.lock in it cannot be used: it "),
            "{error}"
        );
    }
    assert_eq!(fs::read(victim.0.join("kept")).unwrap(), b"kept");
}

#[test]
fn what_is_written_takes_the_place_of_a_link_and_not_of_what_it_leads_to() {
    let (victim, directory) = (Temporary::new("target"), Temporary::new("links"));
    let kept = victim.0.join("kept");
    fs::write(&kept, "kept").unwrap();
    for name in ["registry-0.snapshot", "registry-1.snapshot.tmp"] {
        symlink(&kept, directory.0.join(name)).unwrap();
    }
    let opened = directory.open().unwrap();
    assert!(opened.read_snapshot().is_none());
    for generation in [1, 2] {
        opened.write_snapshot(generation, b"registry").unwrap();
        assert_eq!(
            opened.read_snapshot(),
            Some((generation, b"registry".to_vec()))
        );
    }
    assert_eq!(fs::read(&kept).unwrap(), b"kept");
    // The newest is damaged, so the one before counts.
    fs::write(directory.0.join("registry-0.snapshot"), [0; 100]).unwrap();
    assert_eq!(opened.read_snapshot(), Some((1, b"registry".to_vec())));
}

#[test]
fn a_link_to_the_directory_is_followed_if_it_is_this_users() {
    let (target, links) = (Temporary::new("real"), Temporary::new("named"));
    let link = links.0.join("metrics");
    symlink(&target.0, &link).unwrap();
    Directory::open(&link, false).unwrap();
    assert!(target.0.join(LOCK).exists());
    fs::write(links.0.join("file"), "").unwrap();
    for name in ["file", "file/below"] {
        let error = Directory::open(&links.0.join(name), false).unwrap_err();
        assert!(!error.to_string().is_empty(), "{error}");
    }
}

#[test]
fn an_instance_lives_while_its_file_is_held() {
    let directory = Temporary::new("life");
    let opened = directory.open().unwrap();
    assert_eq!(opened.life_of("a"), InstanceLife::Missing);
    let first = opened.hold_life("a").unwrap();
    let second = opened.hold_life("a").unwrap();
    drop(first);
    assert_eq!(opened.life_of("a"), InstanceLife::Held);
    let copy = second.try_clone().unwrap();
    drop(second);
    assert_eq!(opened.life_of("a"), InstanceLife::Held);
    drop(copy);
    assert_eq!(opened.life_of("a"), InstanceLife::Free);
}

#[test]
fn a_directory_that_was_emptied_or_moved_is_noticed() {
    let directory = Temporary::new("emptied");
    let opened = directory.open().unwrap();
    assert!(opened.is_current());
    fs::remove_file(directory.0.join(LOCK)).unwrap();
    assert!(!opened.is_current());
    let opened = directory.open().unwrap();
    assert!(opened.is_current());
    let moved = directory.0.with_extension("moved");
    fs::rename(&directory.0, &moved).unwrap();
    assert!(!opened.is_current());
    fs::rename(&moved, &directory.0).unwrap();
}

#[test]
fn a_path_that_becomes_a_link_is_not_followed_and_one_that_was_a_link_is() {
    let parent = Temporary::new("becomes-a-link");
    let (path, elsewhere) = (parent.0.join("metrics"), parent.0.join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    let before = Directory::open(&path, false).unwrap();
    assert!(before.is_current());
    fs::rename(&path, parent.0.join("away")).unwrap();
    for target in ["elsewhere", "away"] {
        symlink(target, &path).unwrap();
        assert!(!before.is_current(), "{target}");
        let again = Directory::open_like(&path, false, Some(before.origin()));
        let error = again.unwrap_err().to_string();
        assert!(error.starts_with("it is a symbolic link now"), "{error}");
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::rename(parent.0.join("away"), &path).unwrap();
    assert!(before.is_current());
    let link = parent.0.join("link");
    symlink("metrics", &link).unwrap();
    let linked = Directory::open(&link, false).unwrap();
    assert!(linked.is_current());
    fs::remove_file(&link).unwrap();
    symlink("elsewhere", &link).unwrap();
    assert!(!linked.is_current());
    Directory::open_like(&link, false, Some(linked.origin())).unwrap();
}

#[test]
fn a_link_in_place_of_the_subdirectory_is_named_with_its_path() {
    let shared = Temporary::with_mode("sub-link", 0o1777);
    let name = format!("gunicorn-metrics-{}", geteuid().as_raw());
    symlink("/tmp", shared.0.join(&name)).unwrap();
    let error = shared.open().unwrap_err().to_string();
    let path = shared.0.join(&name);
    let wanted = format!(
        "{} in it is a symbolic link, expected a directory: remove it",
        path.display()
    );
    assert_eq!(error, wanted);
}

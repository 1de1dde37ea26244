//! Laws of the table of requests.

use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::{Identity, Role, StoreFile, StoreReader};

thread_local! {
    /// How many more words this thread writes before it dies.
    static WRITES_LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    static STORE: Rc<(WorkerStore, RefCell<StoreReader>)> = {
        let (store, reader) = store();
        Rc::new((store, RefCell::new(reader)))
    };
}

/// Plays the death of a worker before one of its writes.
pub(super) fn dies_here() {
    WRITES_LEFT.with(|left| match left.get() {
        u32::MAX => {}
        0 => std::panic::resume_unwind(Box::new("killed")),
        writes => left.set(writes - 1),
    });
}

fn store() -> (WorkerStore, StoreReader) {
    let identity = Identity {
        role: Role::Worker,
        number: 1,
        slot: 0,
        name: "shop:0".to_owned(),
    };
    let file = StoreFile::create(&identity).unwrap();
    let reader = StoreReader::open(file.as_fd().try_clone_to_owned().unwrap()).unwrap();
    (file.adopt().unwrap(), reader)
}

fn request(start_ns: u64, path: &str) -> NewRequest<'_> {
    NewRequest {
        method: Method::named("POST"),
        start_ns,
        thread: start_ns + 1,
        trace: u128::from(start_ns) << 70 | u128::from(start_ns),
        endpoint: Endpoint::Path(path),
    }
}

fn read(reader: &mut StoreReader) -> OpenRequests {
    reader.refresh().unwrap();
    reader.requests()
}

fn entry(start_ns: u64, endpoint: Endpoint<&str>) -> OpenRequest {
    let of = request(start_ns, "");
    OpenRequest {
        method: of.method,
        start_ns,
        thread: of.thread,
        trace: of.trace,
        endpoint: match endpoint {
            Endpoint::Unknown => Endpoint::Unknown,
            Endpoint::Path(path) => Endpoint::Path(path.into()),
            Endpoint::Unmatched(path) => Endpoint::Unmatched(path.into()),
            Endpoint::Template(template) => Endpoint::Template(template.into()),
        },
    }
}

#[test]
fn a_request_is_there_from_its_begin_to_its_end() {
    let (store, mut reader) = store();
    let mut table = RequestTable::new(&store);
    assert!(read(&mut reader).is_empty());
    let second = table.begin(&store, &request(2, "/orders/17"));
    let first = table.begin(&store, &request(1, ""));
    table.name(second, "/orders/<int:id>");
    let both = [
        entry(1, Endpoint::Path("")),
        entry(2, Endpoint::Template("/orders/<int:id>")),
    ];
    assert_eq!(read(&mut reader).listed, both);
    table.end(second);
    assert_eq!(read(&mut reader).listed, both[..1]);
    table.end(first);
    assert!(read(&mut reader).is_empty());
}

#[test]
fn a_full_table_counts_the_others() {
    let (store, mut reader) = store();
    let mut table = RequestTable::new(&store);
    let all: Vec<_> = (0..MAX_REQUESTS as u64 + 3)
        .map(|start| table.begin(&store, &request(start, "/")))
        .collect();
    let open = read(&mut reader);
    assert_eq!((open.listed.len(), open.unlisted), (MAX_REQUESTS, 3));
    for request in all {
        table.end(request);
    }
    assert!(read(&mut reader).is_empty());
    table.begin(&store, &request(5, "/"));
    assert_eq!(read(&mut reader).listed.len(), 1);
}

#[test]
fn the_label_of_a_path_is_that_of_the_table_of_endpoints() {
    let label = |endpoint, known: &str| entry(1, endpoint).label(|path| path == known);
    assert_eq!(
        &*label(Endpoint::Path("/a%20b%C3"), "/a b\u{c3}"),
        "/a b\u{c3}"
    );
    assert_eq!(&*label(Endpoint::Path("/100%"), "/100%"), "/100%");
    assert_eq!(&*label(Endpoint::Path("/a"), "/b"), "<other>");
    assert_eq!(&*label(Endpoint::Unmatched("/a"), "/a"), "<unmatched>");
    assert_eq!(&*label(Endpoint::Template("/<id>"), ""), "/<id>");
}

#[test]
fn a_long_text_is_cut_off_between_characters() {
    let (store, mut reader) = store();
    let mut table = RequestTable::new(&store);
    let path = "/".to_owned() + &"é".repeat(MAX_TEXT);
    table.begin(&store, &request(1, &path));
    let Endpoint::Path(kept) = &read(&mut reader).listed[0].endpoint else {
        panic!("no path");
    };
    assert!(path.starts_with(&**kept) && kept.len() >= MAX_TEXT - 1);
}

#[test]
fn a_copy_has_no_requests() {
    let (store, mut reader) = store();
    let mut table = RequestTable::new(&store);
    let empty = reader.copy(false);
    table.begin(&store, &request(1, "/reset/secret-token"));
    reader.refresh().unwrap();
    let copy = reader.copy(false);
    let bytes = copy.to_bytes(1);
    assert!(!bytes.windows(12).any(|part| part == b"secret-token"));
    assert!(StoreReader::from_copy(&copy).unwrap().requests().is_empty());
    assert!(empty.generation() == copy.generation());
}

#[test]
fn damage_ends_the_list_and_harms_no_reader() {
    let (store, mut reader) = store();
    let mut table = RequestTable::new(&store);
    for start in 0..20 {
        table.begin(&store, &request(start, "/"));
    }
    let at = store.header(AT_REQUESTS).load(Relaxed);
    for damage in [1, 7, at + 1, u64::MAX, u64::MAX >> 3] {
        store.header(AT_REQUESTS).store(damage, Relaxed);
        read(&mut reader);
    }
    // A block that is its own successor.
    store.header(AT_REQUESTS).store(at, Relaxed);
    reader.segments[0][at as usize + AT_NEXT].store(at, Relaxed);
    assert!(read(&mut reader).listed.len() <= MAX_REQUESTS + LARGEST_BLOCK);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Begin,
    Name(usize),
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Begin),
        2 => any::<usize>().prop_map(Step::Name),
        2 => any::<usize>().prop_map(Step::End),
    ]
}

/// The steps that the worker has completed, as the reader should see them.
#[derive(Default, Clone)]
struct Expected {
    open: Vec<(RequestId, OpenRequest)>,
    begun: u64,
}

impl Expected {
    fn take(&mut self, table: &mut RequestTable, store: &WorkerStore, step: Step) {
        match step {
            Step::Begin => {
                let path = format!("/path/{}", self.begun);
                let id = table.begin(store, &request(self.begun, &path));
                self.open
                    .push((id, entry(self.begun, Endpoint::Path(&path))));
                self.begun += 1;
            }
            Step::Name(which) if !self.open.is_empty() => {
                let which = which % self.open.len();
                let template = format!("/template/{}/<id>", self.open[which].1.start_ns);
                table.name(self.open[which].0, &template);
                self.open[which].1.endpoint = Endpoint::Template(template.into());
            }
            Step::End(which) if !self.open.is_empty() => {
                let (id, _) = self.open[which % self.open.len()];
                table.end(id);
                self.open.remove(which % self.open.len());
            }
            Step::Name(_) | Step::End(_) => {}
        }
    }

    fn listed(&self) -> Vec<OpenRequest> {
        let mut listed: Vec<_> = self.open.iter().map(|(_, entry)| entry.clone()).collect();
        listed.sort_by_key(|entry| entry.start_ns);
        listed
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The last step has happened, or has not, or its request has no endpoint; every other request is whole.
    #[test]
    fn a_worker_that_dies_at_any_write_leaves_whole_requests(
        steps in prop::collection::vec(step(), 1..40),
        writes in 0_u32..400,
    ) {
        // One store for all cases: its memory stays mapped.
        let shared = STORE.with(Rc::clone);
        let (store, reader) = &*shared;
        let mut reader = reader.borrow_mut();
        let mut table = RequestTable::new(store);
        let (mut before, mut now) = (Expected::default(), Expected::default());
        WRITES_LEFT.set(writes);
        let mut last = None;
        for step in steps {
            before.clone_from(&now);
            last = Some(step);
            let taken = catch_unwind(AssertUnwindSafe(|| now.take(&mut table, store, step)));
            if taken.is_err() {
                break;
            }
            before.clone_from(&now);
            last = None;
        }
        WRITES_LEFT.set(u32::MAX);
        let found = read(&mut reader).listed;
        let mut allowed = vec![before.listed(), now.listed()];
        if let Some(Step::Name(which)) = last {
            let mut without = before.clone();
            let which = which % without.open.len();
            without.open[which].1.endpoint = Endpoint::Unknown;
            allowed.push(without.listed());
        }
        prop_assert!(allowed.contains(&found), "{found:?} is none of {allowed:?}");
    }
}

#[test]
fn a_reader_beside_a_busy_writer_never_sees_half_a_request() {
    let (store, mut reader) = store();
    let mut table = RequestTable::new(&store);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for start in 0..200_000_u64 {
                let path = format!("/{start}/{}", "x".repeat(start as usize % 50));
                let id = table.begin(&store, &request(start, &path));
                table.name(id, &format!("/<{start}>"));
                table.end(id);
            }
            is_over.store(true, Release);
        });
        let mut seen = 0;
        while !is_over.load(std::sync::atomic::Ordering::Acquire) {
            for found in read(&mut reader).listed {
                seen += 1;
                let start = found.start_ns;
                let whole = request(start, "");
                assert_eq!((found.thread, found.trace), (whole.thread, whole.trace));
                match &found.endpoint {
                    Endpoint::Unknown | Endpoint::Unmatched(_) => {}
                    Endpoint::Path(path) => assert!(path.starts_with(&format!("/{start}/"))),
                    Endpoint::Template(template) => assert_eq!(**template, format!("/<{start}>")),
                }
            }
        }
        assert!(seen > 0);
    });
}

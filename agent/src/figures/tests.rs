//! Laws of the store of figures.

use metrics_store::{Control, Identity, Role};

use super::*;

fn file(control: &Control) -> OwnedFd {
    let identity = Identity {
        role: Role::Exporter,
        number: control.next_store_number(),
        slot: 0,
        name: "exporter".to_owned(),
    };
    let file = StoreFile::create(&identity).unwrap();
    std::os::fd::AsFd::as_fd(&file)
        .try_clone_to_owned()
        .unwrap()
}

fn on_display(file: &OwnedFd) -> Vec<String> {
    let reader = StoreReader::open(file.try_clone().unwrap()).unwrap();
    let live = (0..reader.len()).filter(|&number| !reader.is_retired(number));
    let states = live.filter(|&number| &*reader.series(number).family.name == WORKER_STATE.name);
    let labels = states.map(|number| format!("{:?}", reader.series(number).labels));
    labels.collect()
}

#[test]
fn a_store_in_which_most_is_no_more_is_exchanged_for_a_small_one() {
    let control = Control::create().unwrap();
    let facts = Facts::default();
    let mut own = file(&control);
    let mut figures = Figures::open(&own, &facts).unwrap();
    let (mut stores, mut largest) = (1, 0);
    for second in 0..3_000 {
        figures
            .worker_started("shop:0", Process::current())
            .unwrap();
        figures.worker_stopped("shop:0", second).unwrap();
        let reader = StoreReader::open(own.try_clone().unwrap()).unwrap();
        largest = largest.max(reader.len());
        if figures.is_mostly_retired() {
            let next = file(&control);
            figures = figures.move_to(&next, &facts).unwrap();
            assert_eq!(on_display(&own), Vec::<String>::new());
            own = next;
            stores += 1;
        }
        let now = on_display(&own);
        assert_eq!(now.len(), 1, "{now:?}");
        assert!(now[0].contains(&format!("\"{second}\"")), "{now:?}");
    }
    assert_eq!(stores, 6);
    assert!(largest < 600, "{largest} series in one store");
}

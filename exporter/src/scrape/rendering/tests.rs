use metrics_model::{Epoch, Labels, Limits, Registry};

use super::*;
use metrics_agent::EmbeddedRegistry;

const SERIES: usize = 120_000;

fn backend() -> (Backend, Arc<Mutex<Registry>>) {
    let mut registry = Registry::new(Epoch(7), Limits::default(), 1);
    for number in 0..SERIES {
        let stamp = registry.stamp(1, &Limits::default(), false);
        let value = format!("{number:060}");
        let labels = Labels::new([("number", value.as_str())]).unwrap();
        registry.inc(&stamp, "of", &labels, 1.0, None).unwrap();
    }
    let registry = Arc::new(Mutex::new(registry));
    (
        Backend::Embedded(EmbeddedRegistry::new(Arc::clone(&registry))),
        registry,
    )
}

fn count(registry: &Mutex<Registry>) {
    let mut registry = registry.lock().unwrap();
    let stamp = registry.stamp(1, &Limits::default(), false);
    let none = Labels::none();
    registry.inc(&stamp, "late", &none, 1.0, None).unwrap();
}

async fn rest(reader: &mut Reader) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(page) = reader.next().await.unwrap() {
        text.extend_from_slice(&page);
    }
    text
}

#[tokio::test]
async fn scrapes_that_come_together_read_the_same_pages() {
    let (backend, _) = backend();
    let renderings = Renderings::default();
    let request = ExposeRequest::default();
    let join = || renderings.join(Scope::Instance, &backend, &request, true);
    let (mut one, mut other) = (join(), join());
    loop {
        let (page, same) = (one.next().await.unwrap(), other.next().await.unwrap());
        assert_eq!(
            page.as_ref().map(|page| page.as_ptr()),
            same.as_ref().map(|page| page.as_ptr())
        );
        if page.is_none() {
            break;
        }
    }
    assert!(Arc::ptr_eq(&one.rendering, &other.rendering));
}

#[tokio::test]
async fn what_is_under_way_or_different_is_not_joined() {
    let (backend, registry) = backend();
    let renderings = Renderings::default();
    let request = ExposeRequest::default();
    let mut first = renderings.join(Scope::Instance, &backend, &request, true);
    let of_late = ExposeRequest {
        names: vec!["late_total".to_owned()],
        ..ExposeRequest::default()
    };
    let other = renderings.join(Scope::Instance, &backend, &of_late, true);
    assert!(!Arc::ptr_eq(&first.rendering, &other.rendering));
    first.next().await.unwrap();
    count(&registry);
    let mut second = renderings.join(Scope::Instance, &backend, &request, true);
    let text = rest(&mut second).await;
    assert!(text.starts_with(b"# TYPE late_total counter\nlate_total 1\n"));
}

#[tokio::test]
async fn a_reader_that_is_left_behind_goes_on_by_itself() {
    let (backend, _) = backend();
    let renderings = Renderings::default();
    let request = ExposeRequest::default();
    let join = || renderings.join(Scope::Instance, &backend, &request, false);
    let (mut fast, mut slow) = (join(), join());
    let beginning = slow.next().await.unwrap().unwrap();
    let whole = rest(&mut fast).await;
    assert!(whole.len() > 2 * WINDOW_BYTES);
    assert!(fast.rendering.lock().bytes <= WINDOW_BYTES);
    let read = [beginning.to_vec(), rest(&mut slow).await].concat();
    assert!(slow.number.is_none());
    assert_eq!(read, whole);
    assert_eq!(slow.rendering.lock().bytes, 0);
}

#[tokio::test]
async fn a_reader_that_goes_away_leaves_its_pages_to_the_others() {
    let (backend, _) = backend();
    let renderings = Renderings::default();
    let request = ExposeRequest::default();
    let join = || renderings.join(Scope::Instance, &backend, &request, false);
    let (mut one, other) = (join(), join());
    let mut text = one.next().await.unwrap().unwrap().to_vec();
    assert!(one.rendering.lock().bytes > 0);
    drop(other);
    assert_eq!(one.rendering.lock().bytes, 0);
    text.extend(rest(&mut one).await);
    assert_eq!(text.split(|&byte| byte == b'\n').count(), SERIES + 2);
}

//! Shared code of the tests in this folder: a writer's series in plain vectors.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of it, and a failed test should stop here"
)]

use metrics_model::{
    ExposeRequest, FamilySpec, FamilyType, Format, Labels, Layout, Observation, Point, Registry,
    SeriesDef, SeriesLife, Source, SourceExemplar,
};

#[derive(Clone)]
pub struct TestSeries {
    pub name: &'static str,
    pub family_type: FamilyType,
    pub help: &'static str,
    pub layout: Option<Layout>,
    pub labels: Vec<(Box<str>, Box<str>)>,
    pub point: Point,
    pub ttl_ms: u64,
    pub is_retired: bool,
}

#[derive(Default)]
pub struct TestSource {
    pub pid: String,
    pub series: Vec<TestSeries>,
    /// Exemplars with the numbers of their series.
    pub exemplars: Vec<(usize, SourceExemplar)>,
}

impl TestSource {
    pub fn with_pid(pid: &str) -> Self {
        Self {
            pid: pid.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a series and returns its number.
    pub fn add(
        &mut self,
        name: &'static str,
        family_type: FamilyType,
        labels: &[(&str, &str)],
        point: Point,
    ) -> usize {
        let layout = match (&point, family_type) {
            (Point::Buckets { .. }, FamilyType::Histogram) => {
                Some(Layout::new(["1", "2"]).unwrap())
            }
            _ => None,
        };
        let labels = labels
            .iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect();
        let series = TestSeries {
            name,
            family_type,
            help: "",
            layout,
            labels,
            point,
            ttl_ms: 0,
            is_retired: false,
        };
        self.series.push(series);
        self.series.len() - 1
    }

    pub fn set(&mut self, number: usize, value: f64) {
        self.series[number].point = Point::Scalar(value);
    }

    pub fn scalar(&self, number: usize) -> f64 {
        match self.series[number].point {
            Point::Scalar(value) => value,
            ref other => panic!("{other:?} is no scalar"),
        }
    }
}

impl Source for TestSource {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn series(&self, number: usize) -> SeriesDef<'_> {
        let series = &self.series[number];
        SeriesDef {
            family: FamilySpec {
                help: series.help,
                ..FamilySpec::new(series.name, series.family_type)
            },
            layout: series.layout.as_ref(),
            labels: &series.labels,
            pid: &self.pid,
            ttl_ms: series.ttl_ms,
        }
    }

    fn point(&self, number: usize) -> Point {
        self.series[number].point.clone()
    }

    fn life(&self, number: usize) -> SeriesLife {
        if self.series[number].is_retired {
            SeriesLife::Removed
        } else {
            SeriesLife::Live
        }
    }

    fn exemplars(&self, number: usize) -> Vec<SourceExemplar> {
        let of_series = self.exemplars.iter().filter(|(of, _)| *of == number);
        of_series.map(|(_, exemplar)| exemplar.clone()).collect()
    }
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied()).unwrap()
}

/// Returns the whole page as text.
pub fn page(registry: &Registry, now_ms: u64) -> String {
    let page = registry.expose(now_ms, &ExposeRequest::default()).unwrap();
    assert_eq!(page.next, None);
    String::from_utf8(page.body).unwrap()
}

/// Returns the page in parts of `count` series.
pub fn pages(registry: &Registry, now_ms: u64, count: usize, format: Format) -> (String, usize) {
    let (mut body, mut cursor, mut parts) = (Vec::new(), "0".to_owned(), 0);
    loop {
        let request = ExposeRequest {
            format,
            cursor: Some(cursor.into_bytes()),
            count: Some(count),
            ..ExposeRequest::default()
        };
        let page = registry.expose(now_ms, &request).unwrap();
        body.extend(page.body);
        parts += 1;
        match page.next {
            Some(next) => cursor = next,
            None => return (String::from_utf8(body).unwrap(), parts),
        }
    }
}

/// Returns an observation without any options.
pub fn observation<'a>(
    family: &'a str,
    labels: &'a Labels,
    value: f64,
    layout: Option<&'a Layout>,
) -> Observation<'a> {
    Observation {
        family,
        labels,
        value,
        layout,
        exemplar: None,
        ttl_ms: None,
    }
}

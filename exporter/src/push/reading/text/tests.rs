use metrics_model::{Layout, Point};

use super::super::family::{Family, Series};
use super::*;

fn labels(pairs: &[(&str, &str)]) -> LabelPairs {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

fn scalar(pairs: &[(&str, &str)], value: f64) -> Series {
    Series {
        labels: labels(pairs),
        layout: None,
        point: Point::Scalar(value),
        start: None,
        exemplars: Vec::new(),
    }
}

fn family(name: &str, family_type: FamilyType, help: &str, series: Vec<Series>) -> Family {
    Family {
        name: name.to_owned(),
        family_type,
        help: help.to_owned(),
        unit: String::new(),
        series,
    }
}

#[test]
fn both_spellings_of_a_counter_are_one() {
    let mut expected = family(
        "jobs",
        FamilyType::Counter,
        "Jobs\nof \\ all",
        vec![
            scalar(&[("a", "x \"y\"\\\n"), ("b", "#,}")], 3.0),
            scalar(&[], 0.5),
        ],
    );
    let old = "# HELP jobs_total Jobs\\nof \\\\ all\n# TYPE jobs_total counter\n\
        jobs_total{b=\"#,}\",a=\"x \\\"y\\\"\\\\\\n\",} 3\njobs_total 0.5\n";
    assert_eq!(parse(old).unwrap().families, [expected.clone()]);
    let new = "# TYPE jobs counter\n# HELP jobs Jobs\\nof \\\\ all\n\
        jobs_total{b=\"#,}\",a=\"x \\\"y\\\"\\\\\\n\"} 3 # {trace_id=\"1\"} 1 1600000000.5\n\
        jobs_created{b=\"#,}\",a=\"x \\\"y\\\"\\\\\\n\"} 1600000000\njobs_total 0.5\n# EOF\n";
    expected.series[0].start = Some(1.6e9);
    expected.series[0].exemplars = vec![FileExemplar {
        labels: labels(&[("trace_id", "1")]),
        value: 1.0,
        time: Some(1_600_000_000.5),
    }];
    assert_eq!(parse(new).unwrap().families, [expected]);
}

#[test]
fn files_that_were_joined_are_read_to_their_end() {
    let part = "# TYPE a counter\na_total{n=\"1\"} 1\n# EOF\n";
    let joined = format!("{part}\u{feff}{}", part.replace("\"1\"", "\"2\""));
    let parsed = parse(&joined).unwrap();
    assert_eq!(parsed.families[0].series.len(), 2);
    assert_eq!(
        parse(&format!("{part}{part}")).unwrap_err().to_string(),
        "line 5: a_total has this sample twice"
    );
    assert_eq!(
        parse(&format!("{part}no sample")).unwrap_err().to_string(),
        "line 4: \"sample\" is no number"
    );
}

#[test]
fn a_gauge_that_is_called_as_a_start_time_is_a_gauge() {
    let counter = "# HELP x_total X\n# TYPE x_total counter\nx_total{n=\"1\"} 3\n";
    for gauge in [
        "# TYPE x_created gauge\nx_created{n=\"1\"} 7\n",
        "# HELP x_created X that were created\n# TYPE x_created gauge\nx_created{n=\"1\"} 7\n",
        "# HELP x_created X\n# TYPE x_created gauge\nx_created{n=\"2\"} 7\n",
        "x_created{n=\"1\"} 7\n",
    ] {
        let parsed = parse(&format!("{counter}{gauge}")).unwrap();
        let names: Vec<_> = parsed.families.iter().map(|family| &*family.name).collect();
        assert_eq!(names, ["x", "x_created"], "{gauge}");
        assert_eq!(parsed.families[1].series[0].point, Point::Scalar(7.0));
    }
    let start = "# HELP x_created X\n# TYPE x_created gauge\nx_created{n=\"1\"} 1600000000\n";
    let parsed = parse(&format!("{counter}{start}")).unwrap();
    assert_eq!(parsed.families.len(), 1);
    assert_eq!(parsed.families[0].series[0].start, Some(1.6e9));
}

#[test]
fn what_is_left_out_is_named() {
    let parsed = parse(
        "# TYPE g gauge\ng{a=\"1\"} 1 # {} 2\n# TYPE c counter\nc_total 1\nc_created{b=\"2\"} 5\n# EOF\n",
    )
    .unwrap();
    let left_out: Vec<_> = parsed
        .left_out
        .iter()
        .map(|LeftOut { sample, reason }| format!("{sample}: {reason}"))
        .collect();
    assert_eq!(
        left_out,
        [
            "the exemplar of g{a=\"1\"}: only counters and buckets have exemplars",
            "c_created: a start time without a value"
        ]
    );
}

#[test]
fn histograms_are_put_together() {
    let parsed = parse(
        "# TYPE wait histogram\n# UNIT wait seconds\nwait_bucket{q=\"m\",le=\"1.0\"} 2\n\
         wait_bucket{le=\"+Inf\",q=\"m\"} 5\nwait_bucket{q=\"m\",le=\"0.5\"} 1\n\
         wait_sum{q=\"m\"} 7.5\nwait_count{q=\"m\"} 5\n",
    )
    .unwrap();
    let mut expected = family("wait", FamilyType::Histogram, "", Vec::new());
    expected.unit = "seconds".to_owned();
    expected.series.push(Series {
        labels: labels(&[("q", "m")]),
        layout: Some(Layout::new(["0.5", "1.0"]).unwrap()),
        point: Point::Buckets {
            sum: 7.5,
            counts: vec![1, 1, 3],
        },
        start: None,
        exemplars: Vec::new(),
    });
    assert_eq!(parsed.families, [expected]);
}

#[test]
fn summaries_lose_their_quantiles_and_say_so() {
    let parsed = parse(
        "# TYPE size summary\nsize{quantile=\"0.5\"} 1\nsize{quantile=\"0.9\"} 2\nsize_sum 9\nsize_count 4\n",
    )
    .unwrap();
    let left_out: Vec<_> = parsed.left_out.iter().map(|out| &*out.sample).collect();
    assert_eq!(
        left_out,
        ["size{quantile=\"0.5\"}", "size{quantile=\"0.9\"}"]
    );
    let point = Point::Buckets {
        sum: 9.0,
        counts: vec![4],
    };
    assert_eq!(parsed.families[0].series[0].point, point);
}

#[test]
fn what_has_no_type_is_a_gauge() {
    let parsed = parse(
        "last_success 1.6e9\n# TYPE build info\nbuild_info{v=\"1\"} 1\n# TYPE s stateset\n\
         s{s=\"on\"} 1\n{\"a name\",\"a label\"=\"x\"} NaN\n",
    )
    .unwrap();
    let names: Vec<_> = parsed.families.iter().map(|family| &*family.name).collect();
    assert_eq!(names, ["last_success", "build_info", "s", "a name"]);
    assert!(
        parsed
            .families
            .iter()
            .all(|family| family.family_type == GAUGE)
    );
    assert_eq!(
        parsed.families[3].series[0].labels,
        labels(&[("a label", "x")])
    );
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, expected) in [
        ("a 1\nb\n", "line 2: a sample without a value"),
        ("a one\n", "line 1: \"one\" is no number"),
        (
            "a 1 1600000000\n",
            "line 1: a time stamp: what is pushed is what is now",
        ),
        ("a 1\na 2\n", "line 2: a has this sample twice"),
        (
            "a{x=\"1\",x=\"2\"} 2\n",
            "line 1: a label name is given twice",
        ),
        ("a{x=\"1} 2\n", "line 1: a quoted text does not end"),
        ("a{x} 2\n", "line 1: label x has no value"),
        ("a{x=\"1\" 2\n", "line 1: labels that do not end with }"),
        (
            "# TYPE a counter\na_total -1\n",
            "a: a counter is -1, allowed is a finite number from 0 on",
        ),
        (
            "# TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\n",
            "h: bucket le=\"+Inf\" counts less than the one below it",
        ),
        (
            "# TYPE h histogram\nh_bucket{le=\"1\"} 0.5\nh_count 1\n",
            "h: 0.5 is no count of observations",
        ),
        (
            "# TYPE g gaugehistogram\n",
            "line 1: type \"gaugehistogram\" of g, allowed is counter, gauge, histogram, summary, info, stateset, unknown or untyped",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
}

use metrics_model::{Layout, Point};

use super::super::family::{Family, FileExemplar, Series};
use super::*;

fn labels(pairs: &[(&str, &str)]) -> LabelPairs {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

fn scalar(pairs: &[(&str, &str)], value: f64) -> Series {
    Series {
        place: Place::Line(1),
        labels: labels(pairs),
        layout: None,
        point: Point::Scalar(value),
        start: None,
        exemplars: Vec::new(),
    }
}

fn family(name: &str, family_type: FamilyType, help: &str, series: Vec<Series>) -> Family {
    Family {
        place: Place::Line(1),
        name: name.to_owned(),
        family_type,
        help: help.to_owned(),
        unit: String::new(),
        series,
    }
}

/// Reads a text, and sets every place to the first line: other tests compare the places.
fn families(text: &str) -> Vec<Family> {
    let mut families = parse(text).unwrap().families;
    for family in &mut families {
        family.place = Place::Line(1);
        for series in &mut family.series {
            series.place = Place::Line(1);
        }
    }
    families
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
    assert_eq!(families(old), [expected.clone()]);
    let new = "# TYPE jobs counter\n# HELP jobs Jobs\\nof \\\\ all\n\
        jobs_total{b=\"#,}\",a=\"x \\\"y\\\"\\\\\\n\"} 3 # {trace_id=\"1\"} 1 1600000000.5\n\
        jobs_created{b=\"#,}\",a=\"x \\\"y\\\"\\\\\\n\"} 1600000000\njobs_total 0.5\n# EOF\n";
    expected.series[0].start = Some(1.6e9);
    expected.series[0].exemplars = vec![FileExemplar {
        labels: labels(&[("trace_id", "1")]),
        value: 1.0,
        time: Some(1_600_000_000.5),
    }];
    assert_eq!(families(new), [expected]);
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
        "line 4: \"sample\" is no number, allowed are decimal numbers, +Inf, -Inf and NaN"
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
        // As a start time, but no time.
        "# HELP x_created X\n# TYPE x_created gauge\nx_created{n=\"1\"} 7\n",
        // A series more than the counter has.
        "# HELP x_created X\n# TYPE x_created gauge\nx_created{n=\"1\"} 7\nx_created{n=\"2\"} 1600000000\n",
    ] {
        let parsed = parse(&format!("{counter}{gauge}")).unwrap();
        let names: Vec<_> = parsed.families.iter().map(|family| &*family.name).collect();
        assert_eq!(names, ["x", "x_created"], "{gauge}");
        assert_eq!(parsed.families[0].series[0].start, None, "{gauge}");
        assert_eq!(parsed.families[1].series[0].point, Point::Scalar(7.0));
    }
    let start = "# HELP x_created X\n# TYPE x_created gauge\nx_created{n=\"1\"} 1600000000\n";
    let parsed = parse(&format!("{counter}{start}")).unwrap();
    assert_eq!(parsed.families.len(), 1);
    assert_eq!(parsed.families[0].series[0].start, Some(1.6e9));
}

#[test]
fn a_counter_keeps_each_ending_but_one() {
    for (text, expected) in [
        (
            "# TYPE a_total_total counter\na_total_total 3\n",
            ["a_total"].as_slice(),
        ),
        (
            "# TYPE a_total counter\na_total_total 3\na_total_created 1600000000\n# EOF\n",
            &["a_total"],
        ),
        (
            "# TYPE a_total counter\na_total 3\n# TYPE a_total_total counter\na_total_total 3\n",
            &["a", "a_total"],
        ),
        (
            "# TYPE a counter\na_total 3\n# TYPE a_total counter\na_total_total 3\n# EOF\n",
            &["a", "a_total"],
        ),
    ] {
        let parsed = parse(text).unwrap();
        let names: Vec<_> = parsed.families.iter().map(|family| &*family.name).collect();
        assert_eq!(names, expected, "{text}");
        assert_eq!(parsed.left_out, []);
    }
    let text = "# TYPE x counter\nx{a=\"1\"} 1\n# TYPE x_total counter\nx_total{a=\"2\"} 2\n";
    assert_eq!(
        parse(text).unwrap_err().to_string(),
        "line 4: counters x (line 2) and x_total: pages show both as x_total, allowed is one of the two names"
    );
}

#[test]
fn a_sum_that_is_not_there_is_no_zero() {
    for text in [
        "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_count 2\n",
        "# TYPE h summary\nh_count 2\n",
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("h: it has no _sum"), "{error}");
        assert_eq!(
            parse(&format!("{text}h_sum NaN\n")).unwrap().families.len(),
            1
        );
    }
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
    let families = families(
        "# TYPE wait histogram\n# UNIT wait seconds\nwait_bucket{q=\"m\",le=\"1.0\"} 2\n\
         wait_bucket{le=\"+Inf\",q=\"m\"} 5\nwait_bucket{q=\"m\",le=\"0.5\"} 1\n\
         wait_sum{q=\"m\"} 7.5\nwait_count{q=\"m\"} 5\n",
    );
    let mut expected = family("wait", FamilyType::Histogram, "", Vec::new());
    expected.unit = "seconds".to_owned();
    expected.series.push(Series {
        place: Place::Line(1),
        labels: labels(&[("q", "m")]),
        layout: Some(Layout::new(["0.5", "1.0"]).unwrap()),
        point: Point::Buckets {
            sum: 7.5,
            counts: vec![1, 1, 3],
        },
        start: None,
        exemplars: Vec::new(),
    });
    assert_eq!(families, [expected]);
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
    const NUMBERS: &str = "allowed are decimal numbers, +Inf, -Inf and NaN";
    const NAMES: &str = "allowed are letters, digits, _ and :, no digit first; any other name stands in quotes, {\"a name\"}";
    const ENDS: &str =
        "a carriage return without a line feed, allowed as the end of a line are \\n and \\r\\n";
    for (text, expected) in [
        ("a 1\nb\n", "line 2: a sample without a value".to_owned()),
        ("a one\n", format!("line 1: \"one\" is no number, {NUMBERS}")),
        ("a 0x10\n", format!("line 1: \"0x10\" is no number, {NUMBERS}")),
        (
            "a 1\na 1e400\n",
            "line 2: \"1e400\" is too large, allowed are numbers up to 1.7976931348623157e308, and +Inf".to_owned(),
        ),
        ("2bad 1\n", format!("line 1: \"2bad\" is no name, {NAMES}")),
        ("a.b 1\n", format!("line 1: \"a.b\" is no name, {NAMES}")),
        ("# TYPE a-b counter\n", format!("line 1: TYPE: \"a-b\" is no name, {NAMES}")),
        (
            "a{b:c=\"1\"} 1\n",
            "line 1: \"b:c\" is no name, allowed are letters, digits and _, no digit first; any other name stands in quotes, \"a name\"=\"a value\"".to_owned(),
        ),
        (
            "# HELP a,b B\n",
            "line 1: HELP: \",b B\" after the name a, allowed is a blank".to_owned(),
        ),
        (
            "# TYPE a counter\na_total 1# {} 1\n# EOF\n",
            "line 2: an exemplar without a blank before #".to_owned(),
        ),
        (
            "# TYPE a counter\na_total 1 # {} 1 NaN\n# EOF\n",
            "line 2: \"NaN\" is no time of an exemplar, allowed are seconds".to_owned(),
        ),
        ("\"a\" 1\n", "line 1: a quoted name outside of braces, allowed is {\"a\"}".to_owned()),
        (
            "a 1 1600000000\n",
            "line 1: a time stamp: what is pushed is what is now".to_owned(),
        ),
        ("a 1 b\n", "line 1: \"b\" after the value, allowed is one number".to_owned()),
        ("a 1\rb 2\r", format!("line 1: {ENDS}")),
        ("# HELP a A\ra 1\r", format!("line 1: {ENDS}")),
        ("a 1\n# a comment\r# TYPE b counter\rb 1\r", format!("line 2: {ENDS}")),
        ("a 1\na 2\n", "line 2: a has this sample twice".to_owned()),
        ("{\"a\nb\"} 2\n", "line 1: a quoted text does not end".to_owned()),
        ("{\"a\\nb\"} one\n", format!("line 1: \"one\" is no number, {NUMBERS}")),
        ("{\"a\\nb\"} 2\n{\"a\\nb\"} 2\n", "line 2: a\\nb has this sample twice".to_owned()),
        ("a{x=\"1\",x=\"2\"} 2\n", "line 1: a label name is given twice".to_owned()),
        ("a{x=\"1} 2\n", "line 1: a quoted text does not end".to_owned()),
        ("a{x} 2\n", "line 1: label x has no value".to_owned()),
        ("a{x=\"1\" 2\n", "line 1: labels that do not end with }".to_owned()),
        (
            "b 1\na{le=\"1\"} 2\n",
            "line 2: a: label name 'le' is reserved: it belongs to the buckets of a family with a line # TYPE … histogram".to_owned(),
        ),
        (
            "# TYPE a counter\na_total -1\n",
            "line 2: a: a counter is -1, allowed is a finite number from 0 on".to_owned(),
        ),
        (
            "# TYPE g gaugehistogram\n",
            "line 1: type \"gaugehistogram\" of g, allowed is counter, gauge, histogram, summary, info, stateset, unknown or untyped".to_owned(),
        ),
        ("# TYPE a info\na_info 2\n", "line 2: info a has another value, allowed is 1".to_owned()),
        ("# TYPE s stateset\ns{s=\"x\"} 2\n", "line 2: stateset s has another value, allowed are 0 and 1".to_owned()),
        ("# TYPE s summary\ns{quantile=\"2\"} 1\n", "line 2: quantile \"2\", allowed is 0 to 1".to_owned()),
        (
            "# TYPE a counter\na_total 1 # {x=\"1\"} 1\n",
            "line 2: an exemplar, and no line # EOF follows; allowed are exemplars in OpenMetrics, which ends with # EOF: is the file cut off?".to_owned(),
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn a_histogram_that_does_not_add_up_is_named_with_its_line() {
    for (samples, expected) in [
        (
            "h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\n",
            "line 3: h: bucket le=\"+Inf\" counts less than the one below it: 2, allowed is 3 or more",
        ),
        (
            "h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 4\nh_sum 1\nh_count 5\n",
            "line 5: h: _count is 5, and bucket le=\"+Inf\" is 4; allowed are equal numbers",
        ),
        (
            "h_bucket{le=\"1\"} 3\nh_bucket{le=\"2\"} 4\nh_count 4\n",
            "line 3: h: bucket le=\"+Inf\" is missing, the last one is le=\"2\"; allowed are buckets up to le=\"+Inf\"",
        ),
        (
            "h_bucket{le=\"1\"} 3\nh_bucket{le=\"1.0\"} 3\nh_bucket{le=\"+Inf\"} 3\n",
            "line 3: h: bucket le=\"1.0\" is there twice",
        ),
        (
            "h_bucket{le=\"1\"} 0.5\nh_bucket{le=\"+Inf\"} 1\n",
            "line 2: h: 0.5 is no count of observations, allowed is a whole number from 0 on, below 2^53",
        ),
        (
            "h_bucket{le=\"NaN\"} 1\n",
            "line 2: le \"NaN\" is no bound, allowed are numbers and +Inf",
        ),
        ("h_sum 1\n", "line 2: h: it has neither buckets nor _count"),
    ] {
        let text = format!("# TYPE h histogram\n{samples}");
        assert_eq!(parse(&text).unwrap_err().to_string(), expected, "{text}");
    }
}

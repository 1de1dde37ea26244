use super::*;

/// A field with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

fn double_field(number: u8, value: f64) -> Vec<u8> {
    [&[number << 3 | 1], value.to_le_bytes().as_slice()].concat()
}

fn delimited(message: &[u8]) -> Vec<u8> {
    [&[message.len() as u8], message].concat()
}

#[test]
fn a_counter_with_labels_is_read() {
    let label = [field(1, b"queue"), field(2, b"mail")].concat();
    let metric = [field(1, &label), field(3, &double_field(1, 2.5))].concat();
    let bytes = delimited(
        &[
            field(1, b"jobs_total"),
            field(2, b"Jobs"),
            field(4, &metric),
        ]
        .concat(),
    );
    let parsed = parse(&bytes).unwrap();
    let [family] = parsed.families.as_slice() else {
        panic!("{parsed:?}");
    };
    assert_eq!(
        (&*family.name, family.family_type, &*family.help),
        ("jobs", FamilyType::Counter, "Jobs")
    );
    assert_eq!(
        family.series[0].labels,
        [("queue".to_owned(), "mail".to_owned())]
    );
    assert_eq!(family.series[0].point, Point::Scalar(2.5));
}

#[test]
fn a_native_histogram_is_read() {
    let histogram = [
        vec![1 << 3, 6],
        double_field(2, 9.5),
        vec![5 << 3, 6], // schema 3
        double_field(6, 0.001),
        vec![7 << 3, 1],
        // numbers -2, -1 and 3
        field(12, &[1 << 3, 3, 2 << 3, 2]),
        field(12, &[1 << 3, 6, 2 << 3, 1]),
        // counts 1, 3, 1
        field(13, &[2, 4, 3]),
    ]
    .concat();
    let metric = field(7, &histogram);
    let bytes = delimited(&[field(1, b"wait"), vec![3 << 3, 4], field(4, &metric)].concat());
    let parsed = parse(&bytes).unwrap();
    let expected = NativeHistogram {
        schema: 3,
        zero_threshold: 0.001,
        zero_count: 1,
        sum: 9.5,
        positive: vec![(-2, 1), (-1, 3), (3, 1)],
        negative: Vec::new(),
    };
    let point = Point::Native(Box::new(expected));
    assert_eq!(parsed.families[0].series[0].point, point);
}

#[test]
fn what_is_cut_off_is_refused_wherever_that_is() {
    let label = [field(1, b"queue"), field(2, b"mail")].concat();
    let metric = [field(1, &label), field(2, &double_field(1, 2.5))].concat();
    let whole = delimited(&[field(1, b"a"), vec![3 << 3, 1], field(4, &metric)].concat());
    assert!(parse(&whole).is_ok());
    for length in 1..whole.len() {
        assert!(parse(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_damaged_message_is_named_with_its_place() {
    let whole = delimited(&[field(1, b"a"), vec![3 << 3, 1]].concat());
    let cut = [&whole[..], &whole[..4]].concat();
    let error = parse(&cut).unwrap_err().to_string();
    let expected = "message 2: it is cut off or damaged, or the file has another format; it begins at byte 6 of 10: failed to decode Protobuf message: buffer underflow";
    assert_eq!(error, expected);
}

/// A histogram with one bucket, of the bound 1.
fn histogram(count: u8, bucket: u8) -> Vec<u8> {
    let bucket = [vec![1 << 3, bucket], double_field(2, 1.0)].concat();
    let histogram = [vec![1 << 3, count], field(3, &bucket)].concat();
    let metric = field(7, &histogram);
    delimited(&[field(1, b"wait"), vec![3 << 3, 4], field(4, &metric)].concat())
}

#[test]
fn the_last_bucket_of_a_message_is_its_count() {
    let parsed = parse(&histogram(3, 2)).unwrap();
    let point = Point::Buckets {
        sum: 0.0,
        counts: vec![2, 1],
    };
    assert_eq!(parsed.families[0].series[0].point, point);
    assert_eq!(
        parse(&histogram(2, 3)).unwrap_err().to_string(),
        "message 1: wait: bucket le=\"+Inf\" counts less than the one below it: 2, allowed is 3 or more"
    );
}

#[test]
fn joined_files_of_messages_are_one_family() {
    let one = |value: &[u8]| {
        let label = [field(1, b"queue"), field(2, value)].concat();
        let metric = [field(1, &label), field(2, &double_field(1, 2.5))].concat();
        delimited(&[field(1, b"a"), vec![3 << 3, 1], field(4, &metric)].concat())
    };
    let parsed = parse(&[one(b"mail"), one(b"pay")].concat()).unwrap();
    assert_eq!(parsed.families.len(), 1);
    assert_eq!(parsed.families[0].series.len(), 2);
}

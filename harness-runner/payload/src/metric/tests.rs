use super::*;
use crate::output::Collector;

fn output(text: &[u8]) -> Output {
    let mut collector = Collector::new(1 << 20);
    collector.push(text);
    collector.finish()
}

fn read_both(format: Format<'_>, stdout: &str, stderr: &str) -> Metrics {
    let (stdout, stderr) = (output(stdout.as_bytes()), output(stderr.as_bytes()));
    read(format, &stdout, &stderr, Status::Exited(0), 0)
}

fn values(format: Format<'_>, stdout: &str) -> Vec<(String, f64)> {
    let metrics = read_both(format, stdout, "").metrics.into_iter();
    metrics.map(|metric| (metric.name, metric.value)).collect()
}

fn pair(name: &str, value: f64) -> (String, f64) {
    (name.to_owned(), value)
}

#[test]
fn the_first_whole_json_value_inside_noise_is_flattened() {
    let text =
        "[info] {not json} \"{\" \n{\"a\": {\"b\": [1, 2.5, \"x\", true, null]}}\n{\"c\": 3}";
    assert_eq!(
        values(Format::Json, text),
        [pair("a.b.0", 1.0), pair("a.b.1", 2.5)]
    );
    // One without a number is passed by.
    assert_eq!(
        values(Format::Json, "{} [] {\"x\": -1e3}"),
        [pair("x", -1000.0)]
    );
}

#[test]
fn half_a_json_document_is_no_metrics_and_visible() {
    let read = read_both(Format::Json, "{\"a\": 1, \"b\": [1, 2", "");
    assert!(
        read.metrics.iter().all(|metric| !metric.name.contains('a')),
        "{:?}",
        read.metrics
    );
    let note = &read.notes[0];
    assert!(
        note.starts_with("stdout: no whole JSON document: the one at byte 0: EOF"),
        "{note}"
    );
    assert!(
        read.notes[1].contains("no metrics in the format `json`"),
        "{:?}",
        read.notes
    );
}

#[test]
fn a_number_that_is_too_large_is_visible_in_every_format() {
    let json = read_both(Format::Json, "{\"a\": 1e999}", "");
    assert!(
        json.metrics.is_empty() && json.notes[0].contains("number out of range"),
        "{:?}",
        json.notes
    );
    let lines = read_both(Format::KeyValue, "a=1e999\nb=2", "");
    assert_eq!(lines.metrics[0].value, f64::INFINITY);
    assert!(
        lines.notes[0].contains("`1e999` is too large"),
        "{:?}",
        lines.notes
    );
    assert_eq!(lines.metrics.len(), 2);
}

#[test]
fn levels_of_json_beyond_the_limit_are_left_out_and_said() {
    let deep = |levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(values(Format::Json, &deep(64)).len(), 1);
    let read = read_both(Format::Json, &deep(65), "");
    assert!(read.metrics.is_empty());
    assert!(
        read.notes[0].contains("deeper than 64 levels"),
        "{:?}",
        read.notes
    );
    let read = read_both(Format::Json, &deep(2000), "");
    assert!(!read.notes.is_empty());
}

#[test]
fn brackets_in_noise_take_no_quadratic_time() {
    // Each quote begins a string that the next bracket would be in, up to the end.
    let noise = "[\"aaaa".repeat(20_000);
    let begun = std::time::Instant::now();
    let read = read_both(Format::Json, &noise, "");
    assert!(read.metrics.is_empty());
    // Quadratic time would be minutes in this build.
    assert!(begun.elapsed() < std::time::Duration::from_secs(60));
    let open = format!("{}{{\"a\": 1}}", "[1,".repeat(100_000));
    let read = read_both(Format::Json, &open, "");
    assert!(
        read.notes
            .iter()
            .any(|note| note.contains("too many brackets")),
        "{:?}",
        read.notes
    );
}

#[test]
fn key_value_lines_have_numbers_only() {
    let text = "a=1\nb = 2.5 \nc=3 d=4,e=5\ncommit=12ab\nname=x\n=7\nratio=NaN\nquoted=\"8\"\n\u{e4}=9\r\n";
    let found = values(Format::KeyValue, text);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "ratio", "quoted", "ä"]);
    assert!(found[5].1.is_nan());
}

#[test]
fn of_several_numbers_with_one_name_the_last_counts() {
    assert_eq!(
        values(Format::KeyValue, "done=1\nx=0\ndone=2"),
        [pair("done", 2.0), pair("x", 0.0)]
    );
}

#[test]
fn output_of_benchmarks_of_the_standard_harness_is_read() {
    let text = "running 1 test\ntest sort::fast ... bench:   1,234.50 ns/iter (+/- 67.25) = 8 MB/s\n\
                test other ... ok\ntest old ... bench:          10 ns/iter (+/- 1)\n";
    let read = read_both(Format::Libtest, text, "").metrics;
    let found: Vec<_> = read
        .iter()
        .map(|m| (m.name.as_str(), m.value, m.unit.as_deref()))
        .collect();
    let unit = Some("ns/iter");
    let expected = [
        ("sort::fast", 1234.5, unit),
        ("sort::fast.deviation", 67.25, unit),
        ("old", 10.0, unit),
        ("old.deviation", 1.0, unit),
    ];
    assert_eq!(found, expected);
}

#[test]
fn output_of_criterion_is_read_in_nanoseconds() {
    let text = "Benchmarking fib 20\nfib 20                  time:   [1.5000 µs 2.0000 µs 2.5000 µs]\n\
                \x20                       thrpt:  [1.0 Melem/s 2.0 Melem/s 3.0 Melem/s]\n\
                \x20                change:\n\
                \x20                       time:   [-1.0% +0.0% +1.0%] (p = 0.9 > 0.05)\n\
                a group/with a long name\n\
                \x20                       time:   [1.0 ms 2.0 ms 3.0 ms]\n";
    let read = read_both(Format::Criterion, text, "").metrics;
    let of = |name: &str| {
        let metric = read.iter().find(|metric| metric.name == name)?;
        Some((metric.value, metric.unit.clone().unwrap_or_default()))
    };
    assert_eq!(of("fib 20.time"), Some((2000.0, "ns".to_owned())));
    assert_eq!(of("fib 20.time.low"), Some((1500.0, "ns".to_owned())));
    assert_eq!(of("fib 20.thrpt"), Some((2.0, "Melem/s".to_owned())));
    assert_eq!(
        of("a group/with a long name.time.high"),
        Some((3e6, "ns".to_owned()))
    );
    assert_eq!(read.len(), 9, "{read:?}");
}

#[test]
fn the_text_format_of_prometheus_is_read() {
    let text = "# HELP a text\n# TYPE a counter\na 1\nb{x=\"}\\\"\",y=\"z\"} 2.5 1700000000000\n\
                c +Inf\nd{x=\"1\"\nnot a metric line\n9 1\n";
    let read = read_both(Format::Prometheus, text, "");
    let names: Vec<&str> = read
        .metrics
        .iter()
        .map(|metric| metric.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b{x=\"}\\\"\",y=\"z\"}", "c"]);
    assert!(read.notes[0].contains("do not end"), "{:?}", read.notes);
}

#[cfg(feature = "regex")]
#[test]
fn groups_of_a_regular_expression_are_metrics() {
    let named = Format::Regex(r"took (?<ms>\S+) ms|(?<errors>\d+) errors");
    let found = values(named, "took 12.5 ms\n0 errors\n");
    assert_eq!(found, [pair("ms", 12.5), pair("errors", 0.0)]);
    let pairs = Format::Regex(r#""(?<name>[A-Z]+)","(?<value>[0-9.]+)""#);
    let found = values(pairs, "\"SET\",\"100.5\"\n\"GET\",\"200\"\n");
    assert_eq!(found, [pair("SET", 100.5), pair("GET", 200.0)]);
    let read = read_both(named, "took long ms", "");
    assert!(
        read.notes[0].contains("`ms`: `long` is not a number"),
        "{:?}",
        read.notes
    );
}

#[test]
fn stderr_is_read_only_if_stdout_has_no_metrics() {
    let both = read_both(Format::KeyValue, "a=1", "b=2").metrics;
    assert_eq!((both.len(), both[0].stream), (1, Some(Stream::Stdout)));
    let second = read_both(Format::KeyValue, "nothing", "b=2").metrics;
    assert_eq!((second.len(), second[0].stream), (1, Some(Stream::Stderr)));
    assert_eq!(second[0].source, "key-value");
}

#[test]
fn the_exit_code_and_a_function_are_formats_too() {
    let empty = output(b"");
    let of = |status| read(Format::ExitCode, &empty, &empty, status, 4).metrics;
    let exited = of(Status::Exited(7));
    assert_eq!(
        (exited[0].value, exited[0].stream, exited[0].invocation),
        (7.0, None, 4)
    );
    assert!(of(Status::Signalled { signal: 9 }).is_empty());
    let function = Format::Function(|bytes| vec![("length".to_owned(), bytes.len() as f64)]);
    assert_eq!(values(function, "four"), [pair("length", 4.0)]);
}

#[test]
fn more_metrics_than_the_limit_are_left_out_and_said() {
    let lines: String = (0..MOST_METRICS + 5)
        .map(|at| format!("m{at}={at}\n"))
        .collect();
    let read = read_both(Format::KeyValue, &lines, "");
    assert_eq!(read.metrics.len(), MOST_METRICS);
    assert!(
        read.notes[0].contains("5 numbers beyond the first"),
        "{:?}",
        read.notes
    );
}

#[test]
fn a_stream_with_a_part_left_out_says_so() {
    let mut collector = Collector::new(20);
    collector.push(b"a=1\n");
    collector.push(&b"x".repeat(100));
    collector.push(b"\nb=2\n");
    let read = read(
        Format::KeyValue,
        &collector.finish(),
        &output(b""),
        Status::Exited(0),
        0,
    );
    assert_eq!(read.metrics.len(), 2);
    assert!(
        read.notes[0].contains("89 bytes were left out"),
        "{:?}",
        read.notes
    );
}

#[test]
fn the_table_of_divan_is_read_with_its_groups() {
    let table = "Timer precision: 20 ns
b             fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ plain      0.27 ns       │ 0.273 ns      │ 0.273 ns      │ 0.272 ns      │ 100     │ 409600
├─ with_args                │               │               │               │         │
│  ├─ 10      5.692 ns      │ 5.733 ns      │ 5.714 ns      │ 5.713 ns      │ 100     │ 51200
│  ╰─ 1000    1.5 µs        │ 2.25 ms       │ 1 s           │ 2 s           │ 100     │ 400
╰─ group                    │               │               │               │         │
   ╰─ inner   0.27 ns       │ 0.273 ns      │ 0.275 ns      │ 0.272 ns      │ 100     │ 409600
              18.51 Gitem/s │ 18.31 Gitem/s │ 18.31 Gitem/s │ 18.38 Gitem/s │         │

not: a table │ 3 ns
";
    let metrics = Format::Divan.read(table.as_bytes());
    let value = |name: &str| {
        let metric = metrics.iter().find(|metric| metric.name == name);
        metric.map(|metric| (metric.value, metric.unit.clone().unwrap_or_default()))
    };
    let ns = |value: f64| Some((value, "ns".to_owned()));
    assert_eq!(value("b::plain.median"), ns(0.273));
    assert_eq!(value("b::with_args::10.fastest"), ns(5.692));
    assert_eq!(value("b::with_args::1000.fastest"), ns(1_500.0));
    assert_eq!(value("b::with_args::1000.slowest"), ns(2_250_000.0));
    assert_eq!(value("b::with_args::1000.mean"), ns(2e9));
    assert_eq!(value("b::group::inner.median"), ns(0.275));
    assert_eq!(metrics.len(), 16);
    assert!(Format::Divan.read(b"").is_empty());
}

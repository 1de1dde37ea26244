//! Upper bounds of the buckets of our histograms, ascending, spelled as on a page. Histograms by
//! endpoint have theirs in settings: `http.buckets` and `http.size_buckets`.

/// Request durations of a worker, in seconds.
pub(super) const WORKER_SECONDS: [&str; 8] =
    ["0.1", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0"];

/// Request and response sizes of a worker, in bytes.
pub(super) const WORKER_BYTES: [&str; 7] = [
    "1024.0",
    "4096.0",
    "16384.0",
    "65536.0",
    "262144.0",
    "1.048576e+06",
    "4.194304e+06",
];

/// The time that requests wait in front of the server, in seconds.
pub(super) const QUEUE_SECONDS: [&str; 12] = [
    "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "5.0", "30.0",
];

/// The time that the exporter needs to answer a scrape, in seconds.
pub(super) const SCRAPE_SECONDS: [&str; 13] = [
    "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0",
    "10.0",
];

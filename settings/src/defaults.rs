//! Every default, once. Settings that are off, empty or absent by default use the default of their
//! type.

use crate::{HttpSettings, InFlight, PrometheusSettings, RedisSettings, RedisTls, Scope, Settings};

impl Default for Settings {
    fn default() -> Self {
        Self {
            prometheus: PrometheusSettings::default(),
            redis: RedisSettings::default(),
            http: HttpSettings::default(),
            auth: None,
            cleanup_db_files: true,
            instance: None,
            flush_interval_ms: 1_000,
            sidecar_mode: false,
        }
    }
}

impl Default for PrometheusSettings {
    fn default() -> Self {
        Self {
            metrics_port: 9_091,
            bind_address: "0.0.0.0".to_owned(),
            multiproc_dir: None,
            multiproc_group: false,
            scope: Scope::Shared,
            ssl: Default::default(),
        }
    }
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            url: None,
            host: "127.0.0.1".to_owned(),
            port: 6_379,
            db: 0,
            username: None,
            password: None,
            key_prefix: "gunicorn".to_owned(),
            ttl_seconds: 300,
            ssl: RedisTls::default(),
            sentinel: None,
            cluster: false,
            shards: 1,
        }
    }
}

impl Default for RedisTls {
    fn default() -> Self {
        Self {
            enabled: false,
            ca_file: None,
            cert_file: None,
            key_file: None,
            verify: true,
        }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            endpoint_limit: 100,
            skip_paths: Vec::new(),
            skip_methods: Vec::new(),
            group_status: false,
            buckets: vec![
                0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
            ],
            size_buckets: vec![
                1_024.0,
                4_096.0,
                16_384.0,
                65_536.0,
                262_144.0,
                1_048_576.0,
                4_194_304.0,
            ],
            exemplars: false,
            in_flight: InFlight::Endpoint,
            stacks: true,
        }
    }
}

impl HttpSettings {
    /// The defaults where metrics outlive the instance that has counted them. A limit applies to
    /// the paths of one instance and one start, so the paths of all of them together have no limit:
    /// none becomes a label unless the user sets a limit.
    pub(crate) fn where_metrics_outlive_their_instance() -> Self {
        Self {
            endpoint_limit: 0,
            ..Self::default()
        }
    }
}

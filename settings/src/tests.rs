use std::path::Path;

use super::*;

const PATH: &str = "exporter.yml";

fn load(yaml: &str, variables: &[(&str, &str)]) -> Result<LoadResult, SettingsError> {
    let env = |name: &str| {
        variables
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let file = (!yaml.is_empty()).then(|| (Path::new(PATH), yaml));
    Settings::load(file, &env)
}

fn refused(yaml: &str, variables: &[(&str, &str)]) -> String {
    load(yaml, variables).unwrap_err().to_string()
}

#[test]
fn nothing_set_gives_the_documented_defaults() {
    let loaded = load("", &[]).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.gunicorn, GunicornSettings::default());
    assert_eq!(loaded.settings, Settings::default());
    let settings = loaded.settings;
    assert_eq!(settings.prometheus.metrics_port, 9_091);
    assert_eq!(settings.prometheus.bind_address, "0.0.0.0");
    assert_eq!(settings.prometheus.scope, Scope::Shared);
    assert!(!settings.redis.enabled);
    assert_eq!(
        (
            settings.redis.host.as_str(),
            settings.redis.port,
            settings.redis.db
        ),
        ("127.0.0.1", 6_379, 0)
    );
    assert_eq!(settings.redis.ttl_seconds, 300);
    assert_eq!(settings.registry_keys(), ["gunicorn:metrics"]);
    assert_eq!(settings.flush_interval_ms, 1_000);
    assert_eq!(settings.http, HttpSettings::default());
    assert!(settings.cleanup_db_files);
}

/// The YAML of the replaced package's README.
const DOCUMENTED: &str = r#"exporter:
  prometheus:
    metrics_port: 9091
    bind_address: "0.0.0.0"
    multiproc_dir: "/tmp/prometheus_multiproc"
  gunicorn:
    workers: 2
    timeout: 30
    keepalive: 2
  redis:
    enabled: false
    host: "localhost"
    port: 6379
    db: 0
    password: ""
    key_prefix: "gunicorn"
    ttl_seconds: 300
  ssl:
    enabled: false
    certfile: ""
    keyfile: ""
  cleanup:
    db_files: true
"#;

#[test]
fn the_documented_file_is_understood_whole() {
    let loaded = load(DOCUMENTED, &[]).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(
        loaded.gunicorn,
        GunicornSettings {
            workers: Some(2),
            timeout: Some(30),
            keepalive: Some(2),
        }
    );
    let settings = loaded.settings;
    assert_eq!(
        settings.prometheus.multiproc_dir.as_deref(),
        Some(Path::new("/tmp/prometheus_multiproc"))
    );
    assert_eq!(settings.redis.host, "localhost");
    assert_eq!(settings.redis.password, None);
    assert_eq!(settings.prometheus.ssl, ListenerTls::default());
}

#[test]
fn the_environment_comes_before_the_file() {
    let settings = load(
        DOCUMENTED,
        &[
            ("PROMETHEUS_METRICS_PORT", "9191"),
            ("REDIS_ENABLED", "on"),
            ("REDIS_PASSWORD", "s3cret"),
            ("REDIS_HOST", ""),
            ("GUNICORN_EXPORTER_FLUSH_INTERVAL", "0.25"),
            ("GUNICORN_EXPORTER_HTTP_SKIP_PATHS", "/a, /b"),
            ("SIDECAR_MODE", "true"),
        ],
    )
    .unwrap()
    .settings;
    assert_eq!(settings.prometheus.metrics_port, 9_191);
    assert!(settings.redis.enabled);
    assert_eq!(settings.redis.password, Some(Secret::new("s3cret")));
    assert_eq!(settings.redis.host, "localhost");
    assert_eq!(settings.flush_interval_ms, 250);
    assert_eq!(settings.http.skip_paths, ["/a", "/b"]);
    assert!(settings.sidecar_mode);
}

#[test]
fn a_flag_comes_before_the_environment_and_errors_name_it() {
    let env = |name: &str| (name == "PROMETHEUS_METRICS_PORT").then(|| "9191".to_owned());
    let with_port = |value: Option<&str>| {
        let flag = Flag {
            name: "--port",
            key: "prometheus.metrics_port",
            value: value.map(str::to_owned),
        };
        Settings::load_with_flags(None, &env, &[flag])
    };
    let port = |value| with_port(value).unwrap().settings.prometheus.metrics_port;
    assert_eq!(port(Some("9292")), 9_292);
    assert_eq!(port(None), 9_191);
    assert_eq!(port(Some("")), 9_091);
    assert_eq!(
        with_port(Some("web")).unwrap_err().to_string(),
        r#"--port is "web", allowed is a whole number from 1 to 65535"#
    );
}

#[test]
fn a_ttl_that_is_disabled_zero_or_negative_is_for_ever() {
    for (seconds, disabled, expected) in [
        ("300", "true", 0),
        ("-1", "false", 0),
        ("0", "no", 0),
        ("60", "0", 60),
    ] {
        let variables = [
            ("REDIS_TTL_SECONDS", seconds),
            ("REDIS_TTL_DISABLED", disabled),
        ];
        let settings = load("", &variables).unwrap().settings;
        assert_eq!(settings.redis.ttl_seconds, expected, "{variables:?}");
    }
}

#[test]
fn errors_of_the_replaced_package_keep_their_words() {
    for (yaml, words) in [
        (
            "- a\n",
            "Configuration file must contain a dictionary at the root level (exporter.yml)",
        ),
        (
            "# nothing\n",
            "Configuration file must contain a dictionary at the root level (exporter.yml)",
        ),
        (
            "redis:\n  port: 1\n",
            "Configuration must contain 'exporter' section (exporter.yml)",
        ),
        (
            "exporter: 3\n",
            "'exporter' section must be a dictionary (exporter.yml:1)",
        ),
        (
            "exporter:\n  redis: yes\n",
            "'exporter.redis' must be a dictionary (exporter.yml:2)",
        ),
        (
            "exporter:\n  prometheus: []\n",
            "'exporter.prometheus' must be a dictionary (exporter.yml:2)",
        ),
        (
            "exporter:\n  prometheus:\n    ssl: off\n",
            "'exporter.prometheus.ssl' must be a dictionary (exporter.yml:3)",
        ),
        (
            "exporter:\n  gunicorn: 2\n",
            "'exporter.gunicorn' must be a dictionary (exporter.yml:2)",
        ),
    ] {
        assert_eq!(refused(yaml, &[]), words);
    }
    let broken = refused("exporter: {\n", &[]);
    assert!(
        broken.starts_with("Invalid YAML in configuration file: exporter.yml:"),
        "{broken}"
    );
    assert_eq!(
        Settings::read_file(Path::new("/nowhere.yml"))
            .unwrap_err()
            .to_string(),
        "Configuration file not found: /nowhere.yml"
    );
    assert_eq!(
        Settings::read_file(Path::new("/")).unwrap_err().to_string(),
        "Path is not a file: /"
    );
}

#[test]
fn a_bad_value_is_named_with_its_place_and_what_is_allowed() {
    for (variable, value, words) in [
        (
            "PROMETHEUS_METRICS_PORT",
            "web",
            r#"PROMETHEUS_METRICS_PORT is "web", allowed is a whole number from 1 to 65535"#,
        ),
        (
            "PROMETHEUS_METRICS_PORT",
            "65536",
            r#"PROMETHEUS_METRICS_PORT is "65536", allowed is a whole number from 1 to 65535"#,
        ),
        (
            "REDIS_ENABLED",
            "maybe",
            r#"REDIS_ENABLED is "maybe", allowed is true, false, yes, no, on, off, 1 or 0"#,
        ),
        (
            "SIDECAR_MODE",
            "2",
            r#"SIDECAR_MODE is "2", allowed is true, false, yes, no, on, off, 1 or 0"#,
        ),
        (
            "REDIS_TTL_SECONDS",
            "5m",
            r#"REDIS_TTL_SECONDS is "5m", allowed is a whole number up to 4294967295, 0 or less for no end"#,
        ),
        (
            "REDIS_DB",
            "-1",
            r#"REDIS_DB is "-1", allowed is a whole number from 0 to 1000000"#,
        ),
        (
            "GUNICORN_WORKERS",
            "0",
            r#"GUNICORN_WORKERS is "0", allowed is a whole number from 1 to 4096"#,
        ),
        (
            "GUNICORN_EXPORTER_FLUSH_INTERVAL",
            "0",
            r#"GUNICORN_EXPORTER_FLUSH_INTERVAL is "0", allowed is a number of seconds from 0.05 to 10"#,
        ),
        (
            "GUNICORN_EXPORTER_PROMETHEUS_SCOPE",
            "all",
            r#"GUNICORN_EXPORTER_PROMETHEUS_SCOPE is "all", allowed is shared or instance"#,
        ),
        (
            "GUNICORN_EXPORTER_REDIS_URL",
            "http://:pw@h",
            "GUNICORN_EXPORTER_REDIS_URL is (not shown), allowed is redis://, rediss:// or unix:// and an address",
        ),
        (
            "GUNICORN_EXPORTER_AUTH_PASSWORD_HASH",
            "plain",
            "GUNICORN_EXPORTER_AUTH_PASSWORD_HASH is (not shown), allowed is a bcrypt hash, as htpasswd -nB prints it",
        ),
        (
            "GUNICORN_EXPORTER_HTTP_SKIP_PATHS",
            "/a,b",
            r#"GUNICORN_EXPORTER_HTTP_SKIP_PATHS is "b", allowed is a list of paths that begin with /"#,
        ),
        (
            "GUNICORN_EXPORTER_HTTP_BUCKETS",
            "1,x",
            r#"GUNICORN_EXPORTER_HTTP_BUCKETS is "x", allowed is a list of ascending finite numbers"#,
        ),
        (
            "GUNICORN_EXPORTER_HTTP_BUCKETS",
            "2,1",
            "GUNICORN_EXPORTER_HTTP_BUCKETS is [2.0, 1.0], allowed is a list of ascending finite numbers",
        ),
        (
            "GUNICORN_EXPORTER_REDIS_SENTINEL_HOSTS",
            "a:0",
            r#"GUNICORN_EXPORTER_REDIS_SENTINEL_HOSTS is "a:0", allowed is a list of host:port"#,
        ),
        (
            "GUNICORN_EXPORTER_REDIS_SHARDS",
            "0",
            r#"GUNICORN_EXPORTER_REDIS_SHARDS is "0", allowed is a whole number from 1 to 64"#,
        ),
    ] {
        assert_eq!(refused("", &[(variable, value)]), words);
    }
    assert_eq!(
        refused("exporter:\n  redis:\n    port: six\n", &[]),
        r#"exporter.yml:3: exporter.redis.port is "six", allowed is a whole number from 1 to 65535"#
    );
    assert_eq!(
        refused("exporter:\n  redis:\n    port: [1]\n", &[]),
        "exporter.yml:3: exporter.redis.port is a list, allowed is a whole number from 1 to 65535"
    );
    assert_eq!(
        refused("exporter:\n  redis:\n    port: {a: 1}\n", &[]),
        "exporter.yml:3: exporter.redis.port is a dictionary, allowed is a single value"
    );
}

#[test]
fn settings_that_need_each_other_are_set_together() {
    for (key, words) in [
        (
            "PROMETHEUS_SSL_CERTFILE",
            "exporter.prometheus.ssl.certfile is set and exporter.prometheus.ssl.keyfile is not: set both or neither",
        ),
        (
            "GUNICORN_EXPORTER_REDIS_SSL_KEY_FILE",
            "exporter.redis.ssl.key_file is set and exporter.redis.ssl.cert_file is not: set both or neither",
        ),
        (
            "GUNICORN_EXPORTER_AUTH_USERNAME",
            "exporter.auth.username is set and exporter.auth.password_hash is not: set both or neither",
        ),
        (
            "GUNICORN_EXPORTER_REDIS_SENTINEL_MASTER",
            "exporter.redis.sentinel.master is set and exporter.redis.sentinel.hosts is not: set both or neither",
        ),
        (
            "GUNICORN_EXPORTER_REDIS_USERNAME",
            "exporter.redis.username is set and exporter.redis.password is not: set both or neither",
        ),
    ] {
        assert_eq!(refused("", &[(key, "x")]), words);
    }
    assert_eq!(
        refused("", &[("PROMETHEUS_SSL_ENABLED", "true")]),
        "exporter.prometheus.ssl.enabled is set and exporter.prometheus.ssl.certfile is not: set both or neither"
    );
    let required = ("PROMETHEUS_SSL_CLIENT_AUTH_REQUIRED", "true");
    assert_eq!(
        refused("", &[required]),
        "exporter.prometheus.ssl.client_auth_required is set and exporter.prometheus.ssl.certfile is not: set both or neither"
    );
    let pair = [
        ("PROMETHEUS_SSL_CERTFILE", "c"),
        ("PROMETHEUS_SSL_KEYFILE", "k"),
    ];
    assert_eq!(
        refused("", &[required, pair[0], pair[1]]),
        "exporter.prometheus.ssl.client_auth_required is set and exporter.prometheus.ssl.client_cafile is not: set both or neither"
    );
    assert_eq!(
        refused(
            "",
            &[
                ("REDIS_KEY_PREFIX", "a{b}"),
                ("GUNICORN_EXPORTER_REDIS_SHARDS", "2")
            ]
        ),
        r#"exporter.redis.key_prefix is "a{b}", allowed with more than one shard is a prefix without braces"#
    );
}

#[test]
fn a_key_prefix_is_up_to_200_bytes_of_any_kind() {
    let load = |prefix: &str| load("", &[("REDIS_KEY_PREFIX", prefix)]);
    let keys = load(" a\t{b} ").unwrap().settings.registry_keys();
    assert_eq!(keys, [" a\t{b} :metrics"]);
    let long = "x".repeat(201);
    assert_eq!(
        load(&long).unwrap_err().to_string(),
        format!("REDIS_KEY_PREFIX is \"{long}\", allowed is 1 to 200 bytes")
    );
}

#[test]
fn an_unknown_key_is_a_warning_with_the_nearest_name() {
    let yaml = "exporter:\n  redis:\n    prot: 1\n  flush_intervall: 1\nredis: {}\n";
    assert_eq!(
        load(yaml, &[]).unwrap().warnings,
        [
            "exporter.yml:3: unknown key exporter.redis.prot, the nearest known is exporter.redis.port",
            "exporter.yml:4: unknown key exporter.flush_intervall, the nearest known is exporter.flush_interval",
            "exporter.yml:5: unknown key redis, the nearest known is exporter.redis",
        ]
    );
}

#[test]
fn a_url_turns_redis_on_unless_it_is_turned_off() {
    let url = ("GUNICORN_EXPORTER_REDIS_URL", "redis://h/0");
    assert!(load("", &[url]).unwrap().settings.redis.enabled);
    let off = load("", &[url, ("REDIS_ENABLED", "false")]).unwrap();
    assert!(!off.settings.redis.enabled);
}

#[test]
fn secrets_are_kept_in_json_and_hidden_everywhere_else() {
    let settings = load(
        "",
        &[
            ("REDIS_PASSWORD", "pw-1"),
            ("GUNICORN_EXPORTER_REDIS_URL", "redis://:pw-2@h"),
        ],
    )
    .unwrap()
    .settings;
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
    assert!(json.contains("pw-1") && json.contains("pw-2"));
    for shown in [
        format!("{settings:?}"),
        serde_json::to_string(&settings.redacted()).unwrap(),
    ] {
        assert!(!shown.contains("pw-"), "{shown}");
    }
}

#[test]
fn what_kubernetes_puts_into_the_environment_is_no_setting() {
    let link = "tcp://10.0.0.1:6379";
    let loaded = load(
        "",
        &[("REDIS_PORT", link), ("PROMETHEUS_METRICS_PORT", link)],
    )
    .unwrap();
    assert_eq!(loaded.settings.redis.port, 6_379);
    assert_eq!(loaded.settings.prometheus.metrics_port, 9_091);
    assert_eq!(
        refused("", &[("REDIS_PORT", "ten")]),
        "REDIS_PORT is \"ten\", allowed is a whole number from 1 to 65535"
    );
}

//! Where values come from: variables in the file, files of secrets, and the place of each value.

#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

use std::path::{Path, PathBuf};

use metrics_settings::{LoadResult, Settings, SettingsError};

fn load(yaml: &str, variables: &[(&str, &str)]) -> Result<LoadResult, SettingsError> {
    let env = |name: &str| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let file = (!yaml.is_empty()).then(|| (Path::new("exporter.yml"), yaml));
    Settings::load(file, &env)
}

fn refused(yaml: &str, variables: &[(&str, &str)]) -> String {
    load(yaml, variables).unwrap_err().to_string()
}

/// Writes a file for one test; returns its path.
fn secret(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("settings-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_file_may_name_variables() {
    let yaml = "exporter:\n  prometheus:\n    metrics_port: ${PORT:-9200}\n  redis:\n    host: ${HOST}\n    password: ${PASSWORD:-}\n  http:\n    skip_paths: [\"/${HEALTH:-health}\"]\n";
    let settings = load(yaml, &[("HOST", "cache.internal")]).unwrap().settings;
    assert_eq!(settings.prometheus.metrics_port, 9_200);
    assert_eq!(settings.redis.host, "cache.internal");
    assert_eq!(settings.redis.password, None);
    assert_eq!(settings.http.skip_paths, ["/health"]);
    let missing = refused(yaml, &[]);
    assert_eq!(
        missing,
        "exporter.yml:5: exporter.redis.host is \"${HOST}\", allowed is a variable that is set, and HOST is not; ${HOST:-default} gives it a default"
    );
    let spelled = refused("exporter:\n  redis:\n    password: hush${\n", &[]);
    assert!(spelled.starts_with(
        "exporter.yml:3: exporter.redis.password is (not shown), allowed is ${VARIABLE}"
    ));
    // The environment replaces the value, so the variable is not needed.
    let replaced = load(yaml, &[("REDIS_HOST", "other")]).unwrap().settings;
    assert_eq!(replaced.redis.host, "other");
}

#[test]
fn every_secret_may_stand_in_a_file() {
    let hash = "$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK";
    let files = [
        secret("password", "hush-1\n"),
        secret("sentinel", "hush-2\r\n"),
        secret("url", "redis://cache:7000/2\n"),
    ];
    let path = |number: usize| files[number].to_str().unwrap();
    let variables = [
        ("REDIS_PASSWORD_FILE", path(0)),
        ("GUNICORN_EXPORTER_REDIS_SENTINEL_PASSWORD_FILE", path(1)),
        ("GUNICORN_EXPORTER_REDIS_SENTINEL_HOSTS", "one:26379"),
        ("GUNICORN_EXPORTER_REDIS_SENTINEL_MASTER", "metrics"),
        ("GUNICORN_EXPORTER_REDIS_URL_FILE", path(2)),
    ];
    let mut loaded = load("", &variables).unwrap();
    let redis = loaded.settings.redis.clone();
    let sentinel = redis.sentinel.unwrap();
    assert_eq!(redis.password.unwrap().reveal(), "hush-1");
    assert_eq!(sentinel.password.unwrap().reveal(), "hush-2");
    assert_eq!(redis.url.unwrap().reveal(), "redis://cache:7000/2");
    assert!(redis.enabled);
    loaded.warn_of_variables(variables.iter().map(|(name, _)| *name));
    assert_eq!(loaded.warnings, Vec::<String>::new());

    let yaml = format!("exporter:\n  redis:\n    password_file: {}\n", path(0));
    let loaded = load(&yaml, &[]).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.settings.redis.password.unwrap().reveal(), "hush-1");

    let hash = secret("hash", hash);
    let variables = [
        ("GUNICORN_EXPORTER_AUTH_USERNAME", "prometheus"),
        (
            "GUNICORN_EXPORTER_AUTH_PASSWORD_HASH_FILE",
            hash.to_str().unwrap(),
        ),
    ];
    assert!(load("", &variables).unwrap().settings.auth.is_some());
    for file in files.iter().chain([&hash]) {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_file_without_a_secret_is_named() {
    let (empty, large) = (secret("empty", "\n"), secret("large", &"x".repeat(70_000)));
    for (path, reason) in [
        ("/none", "No such file or directory (os error 2)"),
        ("/", "Is a directory (os error 21)"),
        (empty.to_str().unwrap(), "this one is empty"),
        (
            large.to_str().unwrap(),
            "this one has more than 65536 bytes",
        ),
    ] {
        assert_eq!(
            refused("", &[("REDIS_PASSWORD_FILE", path)]),
            format!(
                "REDIS_PASSWORD_FILE is {path:?}, allowed is a file that contains the secret ({reason})"
            )
        );
    }
    let both = [("REDIS_PASSWORD", "x"), ("REDIS_PASSWORD_FILE", "/none")];
    assert_eq!(
        refused("", &both),
        "REDIS_PASSWORD and REDIS_PASSWORD_FILE are both set: set one of them"
    );
    let yaml = "exporter:\n  redis:\n    password: x\n    password_file: /none\n";
    assert_eq!(
        refused(yaml, &[]),
        "exporter.redis.password and exporter.redis.password_file are both set: set one of them"
    );
    std::fs::remove_file(empty).unwrap();
    std::fs::remove_file(large).unwrap();
}

#[test]
fn hosts_and_addresses_are_checked() {
    for right in [
        "0.0.0.0",
        "::",
        "[::1]",
        "fe80::1%eth0",
        "localhost",
        "redis_1",
        "a-b.example.com.",
    ] {
        let variables = [("PROMETHEUS_BIND_ADDRESS", right), ("REDIS_HOST", right)];
        let bound = load("", &variables)
            .unwrap()
            .settings
            .prometheus
            .bind_address;
        assert_eq!(bound, right.trim_matches(['[', ']']));
    }
    for wrong in [
        "0.0.0.0:9091",
        "300.1.1.1",
        "127.0.0.1.",
        "10.0.0",
        "http://x",
        "a b",
        "*",
        "-x",
        "x..y",
        "[localhost]",
        "redis:6379",
        "[::1",
        "::1]",
        "1:2:3",
    ] {
        let allowed =
            format!("is {wrong:?}, allowed is an IP address or a host name, without a port");
        let variable = refused("", &[("PROMETHEUS_BIND_ADDRESS", wrong)]);
        assert_eq!(variable, format!("PROMETHEUS_BIND_ADDRESS {allowed}"));
        assert_eq!(
            refused("", &[("REDIS_HOST", wrong)]),
            format!("REDIS_HOST {allowed}")
        );
        let sentinel = [(
            "GUNICORN_EXPORTER_REDIS_SENTINEL_HOSTS",
            &*format!("{wrong}:26379"),
        )];
        assert!(
            refused("", &sentinel).ends_with("allowed is a list of host:port"),
            "{wrong}"
        );
    }
}

#[test]
fn the_place_of_each_value_is_known() {
    let yaml = "exporter:\n  redis:\n    port: 7000\n  ssl:\n    enabled: false\n";
    let loaded = load(yaml, &[("REDIS_DB", "3")]).unwrap();
    let place = |key| loaded.source(key).map(ToString::to_string);
    assert_eq!(
        place("redis.port").as_deref(),
        Some("exporter.yml:3: exporter.redis.port")
    );
    assert_eq!(place("redis.db").as_deref(), Some("REDIS_DB"));
    assert_eq!(
        place("prometheus.ssl.enabled").as_deref(),
        Some("exporter.yml:5: exporter.ssl.enabled")
    );
    assert_eq!(place("redis.host"), None);
}

#[test]
fn a_redis_that_is_named_and_not_used_gets_one_line() {
    let hints = |variables: &[(&str, &str)]| load("", variables).unwrap().hints;
    let host = hints(&[("REDIS_HOST", "cache"), ("REDIS_URL", "redis://cache")]);
    assert_eq!(host.len(), 1);
    assert!(
        host[0].starts_with("REDIS_HOST is set and REDIS_ENABLED is not"),
        "{host:?}"
    );
    assert!(hints(&[("REDIS_URL", "redis://cache")])[0].contains("GUNICORN_EXPORTER_REDIS_URL"));
    for enabled in ["true", "false"] {
        assert!(hints(&[("REDIS_HOST", "cache"), ("REDIS_ENABLED", enabled)]).is_empty());
    }
    assert!(hints(&[("REDIS_HOST", " ")]).is_empty());
    assert!(
        hints(&[
            ("GUNICORN_EXPORTER_REDIS_URL", "redis://x"),
            ("REDIS_HOST", "y")
        ])
        .is_empty()
    );
}

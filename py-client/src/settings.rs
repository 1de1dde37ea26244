//! The settings for Python, parsed by the crate `metrics-settings`.

use std::collections::HashMap;
use std::path::PathBuf;

use metrics_settings::{LoadResult, Secret, Settings, SettingsError};
use pyo3::exceptions::{PyFileNotFoundError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The settings from the YAML file and the environment.
#[pyclass(
    frozen,
    eq,
    name = "Settings",
    module = "gunicorn_prometheus_exporter._native"
)]
#[derive(Debug, PartialEq)]
pub(crate) struct LoadedSettings {
    pub(crate) loaded: LoadResult,
}

/// Reads and checks the settings: the environment first, then the file, then the defaults.
#[pyfunction]
pub(crate) fn load_settings(
    path: Option<PathBuf>,
    environment: &Bound<'_, PyDict>,
) -> PyResult<LoadedSettings> {
    let text = path
        .as_ref()
        .map(|path| Settings::read_file(path))
        .transpose()
        .map_err(|error| python_error(&error))?;
    let file = path.zip(text);
    let file = file.as_ref().map(|(path, text)| (&**path, &**text));
    let variable = |name: &str| environment.get_item(name).ok()??.extract().ok();
    let mut loaded = Settings::load(file, &variable).map_err(|error| python_error(&error))?;
    let names: Vec<String> = environment
        .keys()
        .iter()
        .filter_map(|name| name.extract().ok())
        .collect();
    loaded.warn_of_variables(names.iter().map(String::as_str));
    Ok(LoadedSettings { loaded })
}

/// Uses this YAML file; called from a Gunicorn configuration file.
///
/// `workers`, `timeout` and `keepalive` of its section `exporter.gunicorn` become settings of the
/// calling file, unless the file has set them before. Later lines of that file, and the command
/// line, take precedence. The environment takes precedence over the YAML file.
///
/// Raises `FileNotFoundError` or `ValueError`, with one line that names the place and the error.
//
// Gunicorn prints the traceback of what a configuration file raises. It should end in that file:
// native code has no frames, and those of the Python code below are removed.
#[pyfunction]
#[pyo3(text_signature = "(config_file)")]
pub(crate) fn load_yaml_config(config_file: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = config_file.py();
    let used = py
        .import("gunicorn_prometheus_exporter.config")
        .and_then(|config| config.call_method1("use_for_caller", (config_file,)));
    used.map(drop)
        .inspect_err(|error| error.set_traceback(py, None))
}

#[pymethods]
impl LoadedSettings {
    /// The port of `/metrics`.
    #[getter]
    fn metrics_port(&self) -> u16 {
        self.settings().prometheus.metrics_port
    }

    /// The address of the listener.
    #[getter]
    fn bind_address(&self) -> &str {
        &self.settings().prometheus.bind_address
    }

    /// The directory for files, if there is one.
    #[getter]
    fn multiproc_dir(&self) -> Option<PathBuf> {
        self.settings().prometheus.multiproc_dir.clone()
    }

    /// Whether metrics are shared.
    #[getter]
    fn redis_enabled(&self) -> bool {
        self.settings().redis.enabled
    }

    /// The password, if there is one.
    #[getter]
    fn redis_password(&self) -> Option<&str> {
        self.settings().redis.password.as_ref().map(Secret::reveal)
    }

    /// The URL, with its password, if one was given.
    #[getter]
    fn redis_url(&self) -> Option<&str> {
        self.settings().redis.url.as_ref().map(Secret::reveal)
    }

    /// The first part of `worker_id`, if it was given.
    #[getter]
    fn instance(&self) -> Option<&str> {
        self.settings().instance.as_deref()
    }

    /// Whether another process serves the metrics.
    #[getter]
    fn sidecar_mode(&self) -> bool {
        self.settings().sidecar_mode
    }

    /// One line for each unknown key.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.loaded.warnings.clone()
    }

    /// Lines about variables that are set and have no effect.
    #[getter]
    fn hints(&self) -> Vec<String> {
        self.loaded.hints.clone()
    }

    /// `workers`, `timeout` and `keepalive`, if they are set.
    #[getter]
    fn gunicorn(&self) -> HashMap<&'static str, u32> {
        let gunicorn = &self.loaded.gunicorn;
        [
            ("workers", gunicorn.workers),
            ("timeout", gunicorn.timeout),
            ("keepalive", gunicorn.keepalive),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// Returns everything as JSON, without passwords.
    fn to_json(&self) -> PyResult<String> {
        serde_json::to_string(&self.settings().redacted())
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

impl LoadedSettings {
    pub(crate) fn settings(&self) -> &Settings {
        &self.loaded.settings
    }
}

fn python_error(error: &SettingsError) -> PyErr {
    match error {
        SettingsError::NotFound(_) => PyFileNotFoundError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

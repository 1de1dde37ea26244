//! The exporter: reads the stores of Gunicorn's workers, pushes to registries, answers `/metrics`.

#![forbid(unsafe_code)]

pub mod settings;

pub use settings::Settings;

//! The native part of the Python package `gunicorn_prometheus_exporter`.
//!
//! ```text
//! arbiter   Instance: control memory, stores, listener, exporter process     instance.rs
//! worker    WorkerSlot.adopt ─▶ Recorder: pre_request, post_request          recorder.rs
//! any       Value: the numbers of prometheus_client's metrics                value.rs
//! tests     Processes: several processes played by one                       processes.rs
//! exporter  run_instance: the exporter's crate                               exporter_process.rs
//! ```

mod catalogue;
mod endpoints;
mod exporter_process;
mod failure;
mod heartbeat;
mod instance;
mod process;
mod processes;
mod recorder;
mod settings;
mod store;
mod value;

use pyo3::prelude::*;

/// Lists everything that Python sees.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::catalogue::{Described, described};
    #[pymodule_export]
    use super::exporter_process::{run_instance, run_program};
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const MARKER: &str = super::exporter_process::MARKER;
    #[pymodule_export]
    use super::failure::report_failure;
    #[pymodule_export]
    use super::heartbeat::Heartbeat;
    #[pymodule_export]
    use super::instance::{Instance, WorkerSlot};
    #[pymodule_export]
    use super::process::{become_child, forked};
    #[pymodule_export]
    use super::processes::Processes;
    #[pymodule_export]
    use super::recorder::Recorder;
    #[pymodule_export]
    use super::settings::{LoadedSettings, load_settings, load_yaml_config};
    #[pymodule_export]
    use super::store::{count_event, say_end, say_stack, set_worker_state};
    #[pymodule_export]
    use super::value::{Value, set_unit};
}

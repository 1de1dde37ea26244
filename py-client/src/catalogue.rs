//! The catalogue of our families for Python: `make docs` writes a page from it.

use metrics_store::catalogue;
use pyo3::prelude::*;

/// One family that we export, with its description for users.
#[pyclass(frozen, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct Described(&'static catalogue::Described);

/// Returns all families that we export.
#[pyfunction]
pub(crate) fn described() -> Vec<Described> {
    catalogue::every().map(Described).collect()
}

#[pymethods]
impl Described {
    /// The name; a counter's is without `_total`.
    #[getter]
    fn name(&self) -> &str {
        self.0.name
    }

    /// `counter`, `gauge`, `histogram` or `info`.
    #[getter]
    fn kind(&self) -> &str {
        self.0.family_type.name()
    }

    /// How the values of several processes become one, for a gauge.
    #[getter]
    fn mode(&self) -> Option<&str> {
        match self.0.family_type {
            metrics_model::FamilyType::Gauge(mode) => Some(mode.name()),
            _ => None,
        }
    }

    /// The text of `# UNIT`; may be empty.
    #[getter]
    fn unit(&self) -> &str {
        self.0.unit
    }

    /// The text of `# HELP`.
    #[getter]
    fn help(&self) -> &str {
        self.0.help
    }

    /// The labels that its series may have.
    #[getter]
    fn labels(&self) -> Vec<&str> {
        self.0.labels.to_vec()
    }

    /// Bounds of a histogram's buckets; empty if a setting has them.
    #[getter]
    fn bounds(&self) -> Vec<f64> {
        let bounds = self.0.bounds.iter();
        bounds.filter_map(|bound| bound.parse().ok()).collect()
    }

    /// What one line of help cannot say.
    #[getter]
    fn meaning(&self) -> &str {
        self.0.meaning
    }

    /// An example query in `PromQL`.
    #[getter]
    fn query(&self) -> &str {
        self.0.query
    }

    /// The path of the page that shows it.
    #[getter]
    fn page(&self) -> &str {
        self.0.page.path()
    }
}

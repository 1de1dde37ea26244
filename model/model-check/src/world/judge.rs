//! What a Prometheus sees of the world, and whether that keeps the promises.

use metrics_model::{ExposeRequest, Format};

use super::World;
use crate::writer::Writer;

impl World {
    /// Returns the counter as a page shows it now: value and start time.
    pub(super) fn page(&self) -> Option<(f64, f64)> {
        let request = ExposeRequest {
            format: Format::OpenMetrics,
            created: true,
            ..ExposeRequest::default()
        };
        let page = self.primary.as_ref()?.expose(self.now_ms, &request).ok()?;
        let page = String::from_utf8_lossy(&page.body).into_owned();
        let sample = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|number| number.parse().ok())
        };
        Some((sample("c_total ")?, sample("c_created ")?))
    }

    pub(super) fn scrape(&mut self) {
        let Some((value, start)) = self.page() else {
            return;
        };
        let seen = &mut self.scraped;
        let fell = value < seen.value;
        seen.has_dipped |= fell && start <= seen.start;
        seen.increase += if fell { value } else { value - seen.value };

        (seen.value, seen.start) = (value, start);
    }

    pub(super) fn counted(&self) -> f64 {
        self.writers.iter().map(|writer| writer.value).sum()
    }

    pub(crate) fn increase_is_true(&self) -> bool {
        let most = self.counted() + self.forgiven;
        self.scraped.increase <= most
    }

    pub(crate) fn was_told_gone(&self) -> bool {
        self.was_told_gone
    }

    pub(crate) fn has_dipped(&self) -> bool {
        self.scraped.has_dipped
    }

    /// Returns whether the registry has heard every writer, and pages are shown.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_quiet = |writer: &Writer| {
            let is_complete = writer.session.left_out_count() == 0;
            writer.has_left || is_complete && !writer.has_news(self.now_ms)
        };
        self.writers.iter().all(is_quiet)
            && self.primary.as_ref().is_some_and(|primary| {
                !primary.is_healing(self.now_ms)
                    && self.writers.iter().all(|writer| {
                        writer.has_left || writer.session.epoch() == Some(primary.epoch())
                    })
            })
    }

    pub(crate) fn is_exact(&self) -> bool {
        let expected = self.writers.iter().map(|writer| writer.value - writer.lost);
        let shown = self.page().map_or(0.0, |(value, _)| value);
        self.has_given_up || shown == expected.sum::<f64>()
    }

    pub(crate) fn has_no_faults_left(&self) -> bool {
        self.faults_left == 0
    }

    pub(crate) fn summary(&self) -> String {
        let expected = self.writers.iter().map(|writer| writer.value - writer.lost);
        format!(
            "counted {}, of which the registry should show {}; it shows {:?}; Prometheus: {:?}, forgiven {}",
            self.counted(),
            expected.sum::<f64>(),
            self.page(),
            self.scraped,
            self.forgiven,
        )
    }
}

//! The time of a registry in Redis.
//!
//! # How it works
//!
//! A wall clock may step: by NTP, by hand, or with a machine that was suspended or moved. That must
//! not end a lease early or make it longer. So a registry's time continues by a *steady* clock,
//! which only counts elapsed time, and approaches the wall clock by at most a tenth of the elapsed
//! time. If the clock is not set, both run alike and the registry's time is the wall clock's.
//!
//! # What it costs
//!
//! After a step of one hour it takes ten hours until start times and the times of `mostrecent`
//! gauges are those of the wall clock again.

/// Fraction of the elapsed time by which the registry's time approaches the wall clock after a
/// step.
const APPROACH: u64 = 10;
/// The resolution of the wall clock, in microseconds.
const WALL_TICK_US: u64 = 1000;

/// A registry's clock; see the [module](self). It is not part of the state: each server has its
/// own.
///
/// ```
/// use metrics_model::RegistryTime;
///
/// let time = RegistryTime::begin(1_000, 0, 0);
/// // A second later by both clocks.
/// assert_eq!(time.at(2_000, 1_000_000), 2_000);
/// // A second later, in which the wall clock was set forward by an hour.
/// assert_eq!(time.at(3_602_000, 1_000_000), 2_100);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RegistryTime {
    /// Unix time, in microseconds.
    time_us: u64,
    /// The steady clock at that time, in microseconds.
    steady_us: u64,
}

impl RegistryTime {
    /// Starts the time of a registry that was created or loaded: at the wall clock's time, but not
    /// before its last stamp.
    pub fn begin(wall_ms: u64, last_stamp_ms: u64, steady_us: u64) -> Self {
        Self {
            time_us: wall_ms.max(last_stamp_ms).saturating_mul(1000),
            steady_us,
        }
    }

    /// Returns the Unix time in milliseconds for these times of the two clocks.
    pub fn at(&self, wall_ms: u64, steady_us: u64) -> u64 {
        self.moved(wall_ms, steady_us).time_us / 1000
    }

    /// Moves on to that time, and returns it.
    pub fn move_to(&mut self, wall_ms: u64, steady_us: u64) -> u64 {
        *self = self.moved(wall_ms, steady_us);
        self.time_us / 1000
    }

    /// Takes over the time of a write that another server has stamped.
    pub fn follow(&mut self, stamp_ms: u64, steady_us: u64) {
        if stamp_ms > self.time_us / 1000 {
            *self = Self::begin(stamp_ms, 0, steady_us);
        }
    }

    fn moved(&self, wall_ms: u64, steady_us: u64) -> Self {
        let passed_us = steady_us.saturating_sub(self.steady_us);
        let time_us = self.time_us.saturating_add(passed_us);
        let wall_us = wall_ms.saturating_mul(1000);
        let (earliest, latest) = (wall_us, wall_us.saturating_add(WALL_TICK_US - 1));
        let most = passed_us / APPROACH;
        let time_us = if time_us < earliest {
            time_us + (earliest - time_us).min(most)
        } else {
            time_us - time_us.saturating_sub(latest).min(most)
        };
        Self { time_us, steady_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START_MS: u64 = 1_700_000_000_000;

    #[test]
    fn without_steps_it_is_the_wall_clock() {
        let mut time = RegistryTime::begin(START_MS, 0, 5_000_000);
        for passed_us in (0..10_000_000).step_by(337) {
            let wall_ms = START_MS + passed_us / 1000;
            assert_eq!(time.move_to(wall_ms, 5_000_000 + passed_us), wall_ms);
        }
    }

    #[test]
    fn a_step_is_absorbed_in_ten_times_its_length() {
        let mut time = RegistryTime::begin(START_MS, 0, 0);
        let step_ms = 3_600_000;
        assert_eq!(time.move_to(START_MS + step_ms, 0), START_MS);
        let passed_ms = 10 * step_ms;
        let wall_ms = START_MS + step_ms + passed_ms;
        assert_eq!(
            time.at(wall_ms - 1000, (passed_ms - 1000) * 1000),
            wall_ms - 1100
        );
        assert_eq!(time.move_to(wall_ms, passed_ms * 1000), wall_ms);
    }

    #[test]
    fn a_stamp_that_is_later_is_followed() {
        let mut time = RegistryTime::begin(START_MS, START_MS + 500, 0);
        assert_eq!(time.at(START_MS, 0), START_MS + 500);
        time.follow(START_MS + 200, 0);
        assert_eq!(time.at(START_MS, 0), START_MS + 500);
        time.follow(START_MS + 900, 0);
        assert_eq!(time.at(START_MS, 0), START_MS + 900);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_wall_clock_does_time_passes_as_it_does(
            moves in prop::collection::vec((0..3_000_000_u64, 0..u64::MAX / 2000), 1..40),
        ) {
            let mut time = RegistryTime::begin(START_MS, 0, 0);
            let mut steady_us = 0;
            for (passed_us, wall_ms) in moves {
                steady_us += passed_us;
                time.move_to(wall_ms, steady_us);
                let passed_ms = steady_us as f64 / 1000.0;
                let moved_ms = (time.time_us - START_MS * 1000) as f64 / 1000.0;
                prop_assert!(moved_ms >= passed_ms * 0.9 - 1.0, "{moved_ms} of {passed_ms}");
                prop_assert!(moved_ms <= passed_ms * 1.1 + 1.0, "{moved_ms} of {passed_ms}");
            }
        }
    }
}

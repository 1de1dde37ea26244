//! The settings `metrics.*`: CONFIG where the server has it for modules (7.0), `loadmodule`
//! arguments everywhere.
//!
//! These are what this server proposes. The limits that a registry enforces are part of its state,
//! and a replicated write changes them ([`Registry::stamp`](metrics_model::Registry::stamp)).

use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};
use std::str;
use std::sync::atomic::{AtomicI64, Ordering};

use metrics_model::{Limits, MAX_LABEL_SET_BYTES};
use redis_module::raw;

use crate::api::{Context, OK};
use crate::guard::guard;
use crate::refusal::shown;

/// A setting: a whole number within bounds.
struct Setting {
    name: &'static CStr,
    least: i64,
    most: i64,
    value: AtomicI64,
}

static MAX_SERIES: Setting = Setting::new(c"max-series", 1);
static MAX_LABEL_BYTES: Setting = Setting {
    most: MAX_LABEL_SET_BYTES.cast_signed() as i64,
    ..Setting::new(c"max-label-bytes", 0)
};
static WRITER_RETENTION: Setting = Setting::new(c"writer-retention", 0);
static TOMBSTONE_RETENTION: Setting = Setting::new(c"tombstone-retention", 0);
static HEALING_TIME: Setting = Setting::new(c"healing-time", 0);
static DEFAULT_TTL: Setting = Setting::new(c"default-ttl", 0);

static SETTINGS: [&Setting; 6] = [
    &MAX_SERIES,
    &MAX_LABEL_BYTES,
    &WRITER_RETENTION,
    &TOMBSTONE_RETENTION,
    &HEALING_TIME,
    &DEFAULT_TTL,
];

/// Returns the limits that are configured on this server.
pub(crate) fn limits() -> Limits {
    Limits {
        max_series: MAX_SERIES.get(),
        max_label_bytes: MAX_LABEL_BYTES.get(),
        writer_retention_ms: WRITER_RETENTION.get(),
        tombstone_retention_ms: TOMBSTONE_RETENTION.get(),
        healing_time_ms: HEALING_TIME.get(),
        default_ttl_ms: DEFAULT_TTL.get(),
    }
}

/// An error in the arguments of `loadmodule`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(
        "unknown argument '{0}' of loadmodule, expected max-series, max-label-bytes, writer-retention, tombstone-retention, healing-time or default-ttl"
    )]
    Unknown(String),
    #[error("argument '{0}' of loadmodule lacks its value")]
    Incomplete(String),
    #[error("'{found}' is no value for {name} of loadmodule, expected a whole number {range}")]
    Value {
        name: String,
        found: String,
        range: String,
    },
    #[error("the server refused the setting metrics.{0}")]
    Refused(String),
}

/// Parses the arguments of `loadmodule` (pairs of name and value), and registers the settings with
/// CONFIG, with those values as defaults.
pub(crate) fn load(context: Context, arguments: &[&[u8]]) -> Result<(), ConfigError> {
    set_defaults();
    for pair in arguments.chunks(2) {
        let [name, value] = pair else {
            return Err(ConfigError::Incomplete(shown(pair.concat().as_slice())));
        };
        // With the prefix, as CONFIG writes it, or without.
        let bare = name.strip_prefix(b"metrics.").unwrap_or(name);
        let setting = SETTINGS
            .iter()
            .find(|setting| setting.name.to_bytes().eq_ignore_ascii_case(bare))
            .ok_or_else(|| ConfigError::Unknown(shown(name)))?;
        let number = str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        let number = number
            .filter(|number| (setting.least..=setting.most).contains(number))
            .ok_or_else(|| ConfigError::Value {
                name: shown(name),
                found: shown(value),
                range: match setting.most {
                    i64::MAX => format!("from {} on", setting.least),
                    most => format!("from {} to {most}", setting.least),
                },
            })?;
        setting.value.store(number, Ordering::Relaxed);
    }
    register(context)
}

fn set_defaults() {
    let limits = Limits::default();
    for (setting, number) in [
        (&MAX_SERIES, limits.max_series),
        (&MAX_LABEL_BYTES, limits.max_label_bytes),
        (&WRITER_RETENTION, limits.writer_retention_ms),
        (&TOMBSTONE_RETENTION, limits.tombstone_retention_ms),
        (&HEALING_TIME, limits.healing_time_ms),
        (&DEFAULT_TTL, limits.default_ttl_ms),
    ] {
        setting.value.store(number.cast_signed(), Ordering::Relaxed);
    }
}

fn register(context: Context) -> Result<(), ConfigError> {
    // SAFETY: the statics are written once, before this runs.
    let functions = unsafe {
        (
            raw::RedisModule_RegisterNumericConfig,
            raw::RedisModule_LoadConfigs,
        )
    };
    let (Some(register), Some(load)) = functions else {
        return Ok(());
    };
    for setting in SETTINGS {
        // SAFETY: the context is that of OnLoad, Redis copies the name, and the setting is static.
        let status = unsafe {
            register(
                context.as_ptr(),
                setting.name.as_ptr(),
                setting.value.load(Ordering::Relaxed),
                raw::REDISMODULE_CONFIG_DEFAULT,
                setting.least,
                setting.most,
                Some(get),
                Some(set),
                None,
                (&raw const *setting).cast_mut().cast(),
            )
        };
        if status != OK {
            return Err(ConfigError::Refused(
                setting.name.to_string_lossy().into_owned(),
            ));
        }
    }
    // SAFETY: as above. This sets the values of the configuration file; Redis itself reports a
    // wrong value there.
    match unsafe { load(context.as_ptr()) } {
        OK => Ok(()),
        _ => Err(ConfigError::Refused("*".to_owned())),
    }
}

impl Setting {
    const fn new(name: &'static CStr, least: i64) -> Self {
        Self {
            name,
            least,
            most: i64::MAX,
            value: AtomicI64::new(least),
        }
    }

    fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed).cast_unsigned()
    }
}

/// # Safety
///
/// The data is what [`register`] gave.
unsafe fn setting_of(data: *mut c_void) -> &'static Setting {
    // SAFETY: the caller's promise.
    unsafe { &*data.cast::<Setting>() }
}

unsafe extern "C" fn get(_name: *const c_char, data: *mut c_void) -> c_longlong {
    // SAFETY: Redis passes back the data of `register`.
    let setting = unsafe { setting_of(data) };
    guard(|| setting.value.load(Ordering::Relaxed)).unwrap_or(0)
}

unsafe extern "C" fn set(
    _name: *const c_char,
    value: c_longlong,
    data: *mut c_void,
    _error: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: Redis passes back the data of `register`, and has checked the bounds.
    let setting = unsafe { setting_of(data) };
    guard(|| setting.value.store(value, Ordering::Relaxed));
    OK
}

//! `METRICS.SET key family number [MODE mode] [WRITER id] [LEASE ms] [LABELS n name value ...] [TTL ms]`

use metrics_model::{GaugeMode, GaugeWrite, Labels};

use super::about::{FAMILY, LABELS, LEASE, MODE, TTL};
use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Sets a writer's value of a gauge.
pub(crate) struct Set;

/// The arguments of SET, and of ADD.
pub(crate) struct Request<'a> {
    family: &'a str,
    value: f64,
    mode: Option<GaugeMode>,
    writer: &'a [u8],
    lease_ms: Option<u64>,
    labels: Labels,
    ttl_ms: Option<u64>,
}

impl<'a> Request<'a> {
    pub(super) fn parse(args: &mut Args<'a>) -> Result<Self, Refusal> {
        let (family, value) = (args.family()?, args.number()?);
        let (mut mode, mut writer, mut lease_ms, mut labels, mut ttl_ms) = Default::default();
        while let Some(option) = args.option() {
            match option.as_str() {
                "MODE" => args.once(&mut mode, Args::word)?,
                "WRITER" => args.once(&mut writer, Args::bytes)?,
                "LEASE" => args.once(&mut lease_ms, Args::milliseconds)?,
                "LABELS" => args.once(&mut labels, Args::labels)?,
                "TTL" => args.once(&mut ttl_ms, Args::milliseconds)?,
                _ => return Err(args.unknown_option("MODE, WRITER, LEASE, LABELS or TTL")),
            }
        }
        let (writer, labels) = (writer.unwrap_or_default(), labels.unwrap_or_default());
        Ok(Self {
            family,
            value,
            mode,
            writer,
            lease_ms,
            labels,
            ttl_ms,
        })
    }

    pub(super) fn write(&self) -> GaugeWrite<'_> {
        GaugeWrite {
            family: self.family,
            labels: &self.labels,
            value: self.value,
            mode: self.mode,
            writer: self.writer,
            lease_ms: self.lease_ms,
            ttl_ms: self.ttl_ms,
        }
    }
}

impl Command for Set {
    const ABOUT: About = About {
        name: c"METRICS.SET",
        event: c"metrics.set",
        flags: c"write deny-oom fast",
        access: Access::Write,
        arity: 4,
        summary: c"Sets a gauge for one writer.",
        complexity: c"O(1)",
        arguments: &[
            FAMILY,
            Argument::number(c"value"),
            MODE,
            Argument::text(c"writer").after(c"WRITER").optional(),
            LEASE,
            LABELS,
            TTL,
        ],
    };
    type Request<'a> = Request<'a>;
    type Answer = f64;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        Request::parse(args)
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<f64, Refusal> {
        target.write(|registry, stamp| registry.set(stamp, &request.write()))
    }

    fn reply(_value: f64, reply: Reply) {
        reply.ok();
    }
}

//! `METRICS.DECLARE key family type [MODE mode] [HELP text] [UNIT unit] [BUCKETS n b ...] [SCHEMA s] [TTL ms]`

use metrics_model::{Declaration, FamilySpec, FamilyType, Layout};

use super::about::{BUCKETS, FAMILY, MODE, TTL};
use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Creates a family, or confirms that it exists as declared.
pub(crate) struct Declare;

pub(crate) struct Request<'a> {
    family: FamilySpec<'a>,
    layout: Option<Layout>,
    schema: Option<i8>,
    ttl_ms: Option<u64>,
}

impl Command for Declare {
    const ABOUT: About = About {
        name: c"METRICS.DECLARE",
        event: c"metrics.declare",
        flags: c"write deny-oom fast",
        access: Access::Write,
        arity: 4,
        summary: c"Creates a metric family, or confirms it.",
        complexity: c"O(1)",
        arguments: &[
            FAMILY,
            TYPE,
            MODE,
            Argument::text(c"help").after(c"HELP").optional(),
            Argument::text(c"unit").after(c"UNIT").optional(),
            BUCKETS,
            Argument::integer(c"schema").after(c"SCHEMA").optional(),
            TTL,
        ],
    };
    type Request<'a> = Request<'a>;
    type Answer = ();

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let (name, family_type) = (args.family()?, args.word()?);
        let (mut mode, mut help, mut unit, mut bounds, mut schema, mut ttl_ms) = Default::default();
        while let Some(option) = args.option() {
            match option.as_str() {
                "MODE" => args.once(&mut mode, Args::word)?,
                "HELP" => args.once(&mut help, |args| args.text("help"))?,
                "UNIT" => args.once(&mut unit, |args| args.text("unit"))?,
                "BUCKETS" => args.once(&mut bounds, Args::bounds)?,
                "SCHEMA" => args.once(&mut schema, Args::schema)?,
                "TTL" => args.once(&mut ttl_ms, Args::milliseconds)?,
                _ => return Err(args.unknown_option("MODE, HELP, UNIT, BUCKETS, SCHEMA or TTL")),
            }
        }
        let family_type = match (family_type, mode) {
            (FamilyType::Gauge(_), Some(mode)) => FamilyType::Gauge(mode),
            (other, None) => other,
            _ => {
                return Err(Refusal::Misplaced {
                    option: "MODE",
                    with: "GAUGE",
                });
            }
        };
        if bounds.is_some() && family_type != FamilyType::Histogram {
            return Err(Refusal::Misplaced {
                option: "BUCKETS",
                with: "HISTOGRAM",
            });
        }
        if schema.is_some() && family_type != FamilyType::NativeHistogram {
            return Err(Refusal::Misplaced {
                option: "SCHEMA",
                with: "NATIVEHISTOGRAM",
            });
        }
        Ok(Request {
            family: FamilySpec {
                help: help.unwrap_or_default(),
                unit: unit.unwrap_or_default(),
                ..FamilySpec::new(name, family_type)
            },
            layout: bounds.map(Layout::new).transpose()?,
            schema,
            ttl_ms,
        })
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<(), Refusal> {
        target.write(|registry, stamp| {
            let declaration = Declaration {
                layout: request.layout.as_ref(),
                schema: request.schema,
                ttl_ms: request.ttl_ms,
            };
            registry.declare(stamp, &request.family, &declaration)
        })
    }

    fn reply((): (), reply: Reply) {
        reply.ok();
    }
}

const TYPE: Argument = Argument::one_of(
    c"type",
    &[
        Argument::word(c"counter", c"COUNTER"),
        Argument::word(c"gauge", c"GAUGE"),
        Argument::word(c"histogram", c"HISTOGRAM"),
        Argument::word(c"nativehistogram", c"NATIVEHISTOGRAM"),
        Argument::word(c"summary", c"SUMMARY"),
        Argument::word(c"info", c"INFO"),
        Argument::word(c"stateset", c"STATESET"),
    ],
);

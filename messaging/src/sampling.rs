//! Which traces are recorded, by OpenTelemetry's own variables.

use crate::trace_parent::TraceParent;

const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
/// By the W3C's second level the last 56 bits of a trace id are random.
const RANDOM_BITS: u32 = 56;

/// A sampler is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: found {found:?}; allowed: {allowed}")]
pub struct SamplingError {
    name: &'static str,
    found: String,
    allowed: &'static str,
}

/// Decides once for each trace, at its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Whether a trace that came with a decision keeps it.
    follows: bool,
    /// Of the 2^56 ids that a trace may have, those below are recorded.
    below: u64,
}

impl Sampler {
    /// Records every trace that came without a decision, and those that were decided for.
    pub const DEFAULT: Self = Self { follows: true, below: 1 << RANDOM_BITS };

    /// From `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
    ///
    /// # Errors
    /// One of them is not what OpenTelemetry allows.
    pub fn from_environment() -> Result<Self, SamplingError> {
        let set = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
        Self::parse(set(SAMPLER).as_deref(), set(ARGUMENT).as_deref())
    }

    /// From the values of these two variables.
    ///
    /// # Errors
    /// One of them is not what OpenTelemetry allows.
    pub fn parse(name: Option<&str>, argument: Option<&str>) -> Result<Self, SamplingError> {
        let Some(name) = name else { return Ok(Self::DEFAULT) };
        let (follows, kind) = name.strip_prefix("parentbased_").map_or((false, name), |kind| (true, kind));
        let below = match kind {
            "always_on" => 1 << RANDOM_BITS,
            "always_off" => 0,
            "traceidratio" => ratio(argument)?,
            _ => {
                return Err(SamplingError {
                    name: SAMPLER,
                    found: name.to_owned(),
                    allowed: "always_on, always_off, traceidratio, and each of them after parentbased_",
                });
            }
        };
        Ok(Self { follows, below })
    }

    /// Whether any trace is recorded.
    pub const fn records_any(self) -> bool {
        self.follows || self.below > 0
    }

    /// Whether the trace is recorded; `parent` is what it came with.
    pub const fn records(self, trace_id: u128, parent: Option<TraceParent>) -> bool {
        match parent {
            Some(parent) if self.follows => parent.is_sampled(),
            _ => (trace_id & ((1 << RANDOM_BITS) - 1)) < self.below as u128,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of 2^56, between 0 and all of it"
)]
fn ratio(argument: Option<&str>) -> Result<u64, SamplingError> {
    let text = argument.unwrap_or("1");
    let wrong = || SamplingError { name: ARGUMENT, found: text.to_owned(), allowed: "a number from 0 to 1" };
    let ratio: f64 = text.trim().parse().map_err(|_| wrong())?;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(wrong());
    }
    Ok((ratio * (1_u64 << RANDOM_BITS) as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: Option<&str>, argument: Option<&str>, expected: &str) {
        let found = match Sampler::parse(name, argument) {
            Ok(sampler) => {
                let parent = |flags| Some(TraceParent { trace_id: 1, span_id: 1, flags });
                let share = (0..1_000_u128)
                    .filter(|n| sampler.records(n << (RANDOM_BITS - 10) | 0xabc << RANDOM_BITS, None))
                    .count();
                let (wanted, unwanted) =
                    (sampler.records(u128::MAX, parent(1)), sampler.records(0, parent(0)));
                assert_eq!(sampler.records_any(), share > 0 || wanted);
                format!("{share} of 1000 roots, wanted {wanted}, unwanted {unwanted}")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn samplers_are_read_as_opentelemetry_says() {
        check(None, None, "1000 of 1000 roots, wanted true, unwanted false");
        check(Some("always_on"), None, "1000 of 1000 roots, wanted true, unwanted true");
        check(Some("always_off"), None, "0 of 1000 roots, wanted false, unwanted false");
        check(Some("parentbased_always_off"), None, "0 of 1000 roots, wanted true, unwanted false");
        check(
            Some("parentbased_traceidratio"),
            Some("0.25"),
            "256 of 1000 roots, wanted true, unwanted false",
        );
        check(Some("traceidratio"), Some("0.5"), "512 of 1000 roots, wanted false, unwanted true");
        check(
            Some("traceidratio"),
            Some("2"),
            "OTEL_TRACES_SAMPLER_ARG: found \"2\"; allowed: a number from 0 to 1",
        );
        check(
            Some("sometimes"),
            None,
            "OTEL_TRACES_SAMPLER: found \"sometimes\"; allowed: always_on, always_off, traceidratio, and each of \
             them after parentbased_",
        );
    }
}

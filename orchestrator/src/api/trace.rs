//! A request as a span: the beginning of a saga's trace.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};
use messaging::headers::name::TRACEPARENT;
use messaging::telemetry::{Kind, Recorder, Span, attribute, recorder};
use messaging::{Sampler, TraceParent};
use saga_defs::saga::Saga;
use warp::reply::Response;

use super::preferences::well_formed;
use crate::engine::traces;

/// Who only asks whether we live asks often, and is in nobody's trace.
const UNTRACED: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// The saga that an answer is about, for the span of its request.
#[derive(Clone, Copy)]
pub(crate) struct About(TraceParent);

/// Notes which saga an answer is about, if that is recorded.
pub(crate) fn note(response: &mut Response, saga: &Saga) {
    if recorder().is_some() {
        response.extensions_mut().insert(About(traces::of_saga(saga)));
    }
}

/// A request that is recorded.
pub(crate) struct RequestTrace {
    recorder: &'static Recorder,
    context: TraceParent,
    parent: Option<u64>,
    start: SystemTime,
}

impl RequestTrace {
    /// Decides whether the request is recorded, and its trace with it. If so, its `traceparent` is from now on this span: so
    /// a saga that is started hangs below it, and a process that the request is passed on to does. If not, its `traceparent`
    /// says so, whatever the client had decided.
    pub(crate) fn begin(headers: &mut HeaderMap) -> Option<Self> {
        let recorder = recorder()?;
        let (context, parent) = decide(recorder.sampler(), headers)?;
        Some(Self { recorder, context, parent, start: SystemTime::now() })
    }

    /// Writes the span down.
    pub(crate) fn end(self, method: &'static str, route: &str, response: &Response) {
        if UNTRACED.contains(&route) {
            return;
        }
        let status = response.status();
        let about = response.extensions().get::<About>().map(|about| about.0);
        self.recorder.record(Span {
            context: self.context,
            parent: self.parent,
            name: format!("{method} {route}").into(),
            kind: Kind::Server,
            start: self.start,
            end: SystemTime::now(),
            attributes: vec![
                (attribute::HTTP_METHOD, method.into()),
                (attribute::HTTP_ROUTE, route.to_owned().into()),
                (attribute::HTTP_STATUS, i64::from(status.as_u16()).into()),
            ],
            // A start's saga is below it anyway.
            links: about.filter(|about| about.trace_id != self.context.trace_id).into_iter().collect(),
            error: status.is_server_error().then(|| status.to_string()),
        });
    }
}

/// The request's span and its parent, if it is recorded. Whatever is decided, the header says it from now on.
fn decide(sampler: Sampler, headers: &mut HeaderMap) -> Option<(TraceParent, Option<u64>)> {
    let client = headers.get(TRACEPARENT).and_then(|value| well_formed(value.to_str().ok()?));
    let root = client.unwrap_or_else(TraceParent::root);
    let recorded = sampler.records(root.trace_id, client);
    let told = if recorded {
        Some(TraceParent { flags: TraceParent::SAMPLED, ..root.child() })
    } else {
        client.map(|client| TraceParent { flags: client.flags & !TraceParent::SAMPLED, ..client })
    };
    if let Some(told) = told {
        headers.insert(TRACEPARENT, HeaderValue::from_str(&told.to_string()).ok()?);
    }
    told.filter(|_| recorded).map(|context| (context, client.map(|client| client.span_id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sampler: &str, header: Option<&'static str>) -> (bool, Option<String>) {
        let mut headers = HeaderMap::new();
        if let Some(text) = header {
            headers.insert(TRACEPARENT, HeaderValue::from_static(text));
        }
        let recorded = decide(Sampler::parse(Some(sampler), None).unwrap(), &mut headers).is_some();
        (recorded, headers.get(TRACEPARENT).map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_sampler_that_follows_nobody_overrules_the_client() {
        let wanted = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let unwanted = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        for sampler in ["always_off", "parentbased_always_off"] {
            assert_eq!(told(sampler, None), (false, None));
            assert_eq!(told(sampler, Some(unwanted)), (false, Some(unwanted.to_owned())));
            assert_eq!(told(sampler, Some("00-no-trace-01")), (false, Some("00-no-trace-01".to_owned())));
        }
        assert_eq!(told("always_off", Some(wanted)), (false, Some(unwanted.to_owned())));
        let (recorded, header) = told("parentbased_always_off", Some(wanted));
        let header = header.unwrap();
        assert!(recorded && header.starts_with(&wanted[..36]) && header.ends_with("-01") && header != wanted);
        let (recorded, header) = told("always_on", Some(unwanted));
        assert!(recorded && header.unwrap().ends_with("-01"));
    }
}

//! A request as a span: the beginning of a saga's trace.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};
use messaging::TraceParent;
use messaging::headers::name::TRACEPARENT;
use messaging::telemetry::{Kind, Recorder, Span, attribute, recorder};
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
    /// a saga that is started hangs below it, and a process that the request is passed on to does.
    pub(crate) fn begin(headers: &mut HeaderMap) -> Option<Self> {
        let recorder = recorder()?;
        let client = headers.get(TRACEPARENT).and_then(|value| well_formed(value.to_str().ok()?));
        let root = client.unwrap_or_else(TraceParent::root);
        if !recorder.sampler().records(root.trace_id, client) {
            return None;
        }
        let context = TraceParent { flags: TraceParent::SAMPLED, ..root.child() };
        headers.insert(TRACEPARENT, HeaderValue::from_str(&context.to_string()).ok()?);
        let parent = client.map(|client| client.span_id);
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

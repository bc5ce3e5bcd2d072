//! Routes. Method and path come from the handler's own entry in the OpenAPI document, so a route without an entry cannot
//! be written; the same table finds the route of a request and answers 404 and 405.
//!
//! Each route is a warp filter of its own, chosen by the table before it runs: so a filter's rejection is always about
//! its own route, and the number of routes costs nothing.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method};
use hyper::body::{Body as _, Incoming};
use tower::Service;
use utoipa::openapi::path::{HttpMethod, Paths};
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use super::body;
use super::problem::{Kind, Problem};
use super::query::{Query, decode};
use super::trace::RequestTrace;
use crate::metrics::Metrics;

pub(super) type HttpRequest = http::Request<Incoming>;
type Run = Arc<dyn Fn(HttpRequest) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// What a handler learns of its request besides the body.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The values of the path's `{names}`, in order.
    pub(crate) params: Vec<String>,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// Path and query, as they came.
    pub(crate) target: String,
}

impl Asked {
    /// The path's only `{name}` as an id; `None` where it is not one, which names nothing.
    pub(crate) fn id<T: std::str::FromStr>(&self) -> Option<T> {
        self.params.first().and_then(|text| text.parse().ok())
    }

    /// The query's parameters.
    pub(crate) fn query(&self) -> Result<Query, Problem> {
        Query::parse(self.target.split_once('?').map_or("", |(_, query)| query))
    }

    /// For resources without parameters.
    pub(crate) fn no_query(&self) -> Result<(), Problem> {
        self.query()?.done()
    }

    /// A header's text; `None` if it is absent or not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

#[derive(Clone)]
struct Params(Vec<String>);

/// Extracts what the table and the head of the request say.
pub(crate) fn asked() -> impl Filter<Extract = (Asked,), Error = Rejection> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::ext::get::<Params>().and(warp::header::headers_cloned()).and(warp::path::full()).and(query).map(
        |Params(params), headers, path: warp::path::FullPath, query: String| {
            let target = if query.is_empty() {
                path.as_str().to_owned()
            } else {
                format!("{}?{query}", path.as_str())
            };
            Asked { params, headers, target }
        },
    )
}

struct Path {
    template: Arc<str>,
    methods: Vec<(Method, Run)>,
}

/// The table while it is made.
#[derive(Default)]
pub(crate) struct Routes {
    paths: Vec<Path>,
    document: Paths,
}

impl Routes {
    /// The only way to add a route.
    pub(crate) fn mount<P, F>(mut self, filter: F) -> Self
    where
        P: utoipa::Path,
        F: Filter<Error = Rejection> + Clone + Send + Sync + 'static,
        F::Extract: Reply + Send,
        F::Future: Send,
    {
        let (template, methods) = (P::path(), P::methods());
        self.document.add_path_operation(&template, methods.clone(), P::operation());
        let service = warp::service(filter.recover(answer));
        let run: Run = Arc::new(move |request| {
            let mut service = service.clone();
            Box::pin(async move {
                let Ok(response) = service.call(request).await;
                response
            })
        });
        let at = self.paths.iter().position(|path| *path.template == *template).unwrap_or_else(|| {
            self.paths.push(Path { template: template.into(), methods: Vec::new() });
            self.paths.len() - 1
        });
        self.paths[at].methods.extend(methods.iter().map(|method| (plain(method), run.clone())));
        self
    }

    /// What the document says of the routes.
    pub(crate) const fn document(&self) -> &Paths {
        &self.document
    }

    /// The finished table. Literal paths come before those with `{names}`.
    pub(crate) fn finish(mut self, metrics: Arc<Metrics>) -> Router {
        self.paths.sort_by_key(|path| path.template.matches('{').count());
        Router { paths: self.paths.into(), unknown: "unknown".into(), metrics }
    }
}

/// A filter's rejection as an answer: each of ours carries a [`Problem`].
async fn answer(rejection: Rejection) -> Result<Response, Infallible> {
    let problem = rejection.find::<Problem>().cloned().unwrap_or_else(|| {
        tracing::error!(?rejection, "a filter rejected a request without saying why");
        Problem::new(Kind::Internal, "the request could not be handled")
    });
    Ok(problem.into_response())
}

fn plain(method: &HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Trace => Method::TRACE,
    }
}

/// A route's template, the values of its `{names}`, and what runs it.
type Found = (Arc<str>, Vec<String>, Run);

/// Finds the route of each request and runs it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Router {
    paths: Arc<[Path]>,
    unknown: Arc<str>,
    metrics: Arc<Metrics>,
}

impl Router {
    /// Answers one request.
    pub(crate) async fn handle(self, mut request: HttpRequest) -> Response {
        let begun = Instant::now();
        let method = label(request.method());
        let traced = RequestTrace::begin(request.headers_mut());
        let (route, response) = match self.find(&request) {
            Ok((route, params, run)) => {
                request.extensions_mut().insert(Params(params));
                (route, run(request).await)
            }
            Err((route, problem)) => {
                drain(request);
                (route, problem.into_response())
            }
        };
        self.metrics.request(method, &route, response.status().as_u16(), begun.elapsed());
        if let Some(traced) = traced {
            traced.end(method, &route, &response);
        }
        response
    }

    fn find(&self, request: &HttpRequest) -> Result<Found, (Arc<str>, Problem)> {
        let path = request.uri().path();
        let unknown = |problem| (self.unknown.clone(), problem);
        let found = self.paths.iter().find_map(|known| Some((known, matched(&known.template, path)?)));
        let Some((known, params)) = found else {
            let text = format!("nothing is at {}", super::strict_json::shown(path));
            return Err(unknown(Problem::new(Kind::NotFound, text)));
        };
        let route = known.template.clone();
        let params = params.into_iter().map(decode).collect::<Result<Vec<_>, _>>();
        let params = params
            .map_err(|why| (route.clone(), Problem::new(Kind::Malformed, format!("the path {why}"))))?;
        let asked = request.method();
        let wanted = if asked == Method::HEAD { &Method::GET } else { asked };
        match known.methods.iter().find(|(method, _)| method == wanted || method == asked) {
            Some((_, run)) => Ok((route, params, run.clone())),
            None => {
                let allowed = allowed(known);
                let text = format!("{asked} is not possible here, only {allowed}");
                Err((route, Problem::new(Kind::MethodNotAllowed, text).allow(allowed)))
            }
        }
    }
}

fn allowed(path: &Path) -> String {
    let mut names: Vec<&str> = path.methods.iter().map(|(method, _)| method.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.sort_unstable();
    names.join(", ")
}

/// Methods as a label of metrics: clients may send any.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Reads and drops the body of a request that is answered without it, within limits.
pub(super) fn drain(request: HttpRequest) {
    let body = request.into_body();
    if !body.is_end_stream() {
        body::drain(frames(body));
    }
}

/// A body's data as a stream.
fn frames(
    body: Incoming,
) -> impl futures::Stream<Item = Result<bytes::Bytes, hyper::Error>> + Send + 'static {
    futures::stream::unfold(body, |mut body| async move {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await?;
        Some((frame.map(|frame| frame.into_data().unwrap_or_default()), body))
    })
}

/// The values of the template's `{names}` in this path, undecoded; `None` if the path is another one.
fn matched<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let (mut wanted, mut found) = (template.split('/'), path.split('/'));
    let mut params = Vec::new();
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return Some(params),
            (Some(name), Some(value)) if name.starts_with('{') => {
                if value.is_empty() {
                    return None;
                }
                params.push(value);
            }
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matched;

    #[test]
    fn a_path_matches_segment_by_segment() {
        let template = "/api/sagas/{sagaId}/history";
        assert_eq!(matched(template, "/api/sagas/7/history"), Some(vec!["7"]));
        assert_eq!(matched("/livez", "/livez"), Some(vec![]));
        for other in
            ["/api/sagas//history", "/api/sagas/7", "/api/sagas/7/history/", "/api/sagas/7/x", "", "*"]
        {
            assert_eq!(matched(template, other), None, "{other}");
        }
    }
}

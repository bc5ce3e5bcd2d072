//! A request before it is sent.

use std::fmt::Display;

use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use serde::Serialize;
use uuid::Uuid;

use crate::error::Error;

/// A request to one route.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// As in the OpenAPI document, with `{names}`.
    pub(crate) route: &'static str,
    /// The values of the names, in order.
    pub(crate) params: Vec<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Option<(&'static str, Vec<u8>)>,
    /// How much longer than usual the service is asked to take.
    pub(crate) wait: std::time::Duration,
}

impl Call {
    fn new(method: Method, route: &'static str) -> Self {
        Self {
            method,
            route,
            params: Vec::new(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            wait: std::time::Duration::ZERO,
        }
    }

    pub(crate) fn get(route: &'static str) -> Self {
        Self::new(Method::GET, route)
    }

    /// Acts, under this idempotency key or one of its own.
    pub(crate) fn post(route: &'static str, key: Option<&str>) -> Self {
        let key = key.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
        Self::new(Method::POST, route).header(HeaderName::from_static("idempotency-key"), key)
    }

    /// The value of the route's next `{name}`.
    pub(crate) fn at(mut self, value: impl Display) -> Self {
        self.params.push(value.to_string());
        self
    }

    pub(crate) fn query<T: Display>(mut self, name: &'static str, value: Option<T>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self, Error> {
        let bytes = serde_json::to_vec(body).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(self.bytes("application/json", bytes))
    }

    pub(crate) fn bytes(mut self, media_type: &'static str, bytes: Vec<u8>) -> Self {
        self.body = Some((media_type, bytes));
        self
    }

    pub(crate) fn prefer_wait(mut self, wait: Option<std::time::Duration>) -> Self {
        let Some(wait) = wait else { return self };
        self.wait = wait;
        self.header(HeaderName::from_static("prefer"), format!("wait={}", wait.as_secs()))
    }

    /// For people and for looking it up, e.g. `GET /api/sagas/{sagaId}`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.route)
    }

    /// The path's segments with the values in them.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &str> {
        let mut params = self.params.iter();
        self.route.split('/').filter(|segment| !segment.is_empty()).map(move |segment| {
            if segment.starts_with('{') { params.next().map_or("", String::as_str) } else { segment }
        })
    }

    /// A header's value, unless it has characters that none may have.
    pub(crate) fn header_value(name: &HeaderName, value: &str) -> Result<HeaderValue, Error> {
        HeaderValue::from_str(value).map_err(|_| {
            Error::Invalid(format!("{name}: `{}` cannot be sent in a header", value.escape_debug()))
        })
    }
}

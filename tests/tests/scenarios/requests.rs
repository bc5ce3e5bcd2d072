//! What clients get wrong: a problem document for each, and never a 500.

use anyhow::{Result, ensure};
use insta::assert_snapshot;
use reqwest::{Body, Method, RequestBuilder};
use serde_json::json;
use tests::api::{Api, BookingRequest, send};
use tests::scenario::{on_own_stack, on_shared_stack};
use tests::stack::Options;
use uuid::Uuid;

const MEBIBYTE: usize = 1024 * 1024;

/// Sends each request, and renders the problems: a line each.
async fn problems(requests: Vec<(&str, RequestBuilder)>) -> Result<String> {
    let mut lines = String::new();
    for (what, request) in requests {
        let answer = send(request).await?;
        ensure!(answer.status != 500, "{what}: {}", answer.text);
        let problem = answer.problem().map_err(|error| error.context(format!("{what}: {answer:?}")))?;
        lines.push_str(&format!("{what}: {problem}\n"));
    }
    Ok(lines)
}

fn post(api: &Api, path: &str, body: impl Into<Body>) -> RequestBuilder {
    api.request(Method::POST, path).header("content-type", "application/json").body(body)
}

#[test]
fn bodies_that_cannot_be_read() {
    on_shared_stack(async |stack| {
        let api = stack.api()?;
        let path = "/api/bookings";
        let deep = "[".repeat(100_000);
        let nul = json!({"userId": "\0", "resourceId": "x"}).to_string();
        let raw_nul = "{\"userId\": \"\0\"}";
        let huge = vec![b' '; 2 * MEBIBYTE];
        let chunks = (0..64).map(|_| Ok::<_, std::io::Error>(vec![b' '; MEBIBYTE / 16]));
        let chunked = Body::wrap_stream(futures::stream::iter(chunks));
        let requests = vec![
            ("nothing", post(&api, path, "")),
            ("half an object", post(&api, path, "{\"userId\":")),
            ("no object", post(&api, path, "[]")),
            ("text behind", post(&api, path, "{} {}")),
            ("a name twice", post(&api, path, "{\"userId\": 1, \"userId\": 2}")),
            ("NUL", post(&api, path, nul)),
            ("NUL itself", post(&api, path, raw_nul)),
            ("invalid UTF-8", post(&api, path, vec![b'{', b'"', 0xff, b'"', b':', b'1', b'}'])),
            ("a lone surrogate", post(&api, path, r#"{"userId": "\ud800"}"#)),
            ("deep", post(&api, path, deep)),
            ("a huge number", post(&api, path, r#"{"amountMinor": 1e400}"#)),
            ("two mebibytes", post(&api, path, huge)),
            ("chunked without end", post(&api, path, chunked)),
            ("no type", api.request(Method::POST, path).body("{}")),
            ("XML", api.request(Method::POST, path).header("content-type", "text/xml").body("<a/>")),
            ("zipped", post(&api, path, "{}").header("content-encoding", "gzip")),
        ];
        assert_snapshot!(problems(requests).await?, @r"
        nothing: 400 malformed
        half an object: 400 malformed
        no object: 422 validation []
        text behind: 400 malformed
        a name twice: 400 malformed
        NUL: 400 malformed
        NUL itself: 400 malformed
        invalid UTF-8: 400 malformed
        a lone surrogate: 400 malformed
        deep: 400 malformed
        a huge number: 400 malformed
        two mebibytes: 413 too-large
        chunked without end: 413 too-large
        no type: 415 media-type
        XML: 415 media-type
        zipped: 415 media-type
        ");
        Ok(())
    });
}

#[test]
fn bodies_that_are_wrong() {
    on_shared_stack(async |stack| {
        let api = stack.api()?;
        let (user, resource) = (Uuid::new_v4(), Uuid::new_v4());
        let booking = |more: serde_json::Value| {
            let mut body = json!({"userId": user, "resourceId": resource});
            for (name, value) in more.as_object().into_iter().flatten() {
                body[name] = value.clone();
            }
            api.request(Method::POST, "/api/bookings").json(&body)
        };
        let saga = |body: serde_json::Value| api.request(Method::POST, "/api/sagas").json(&body);
        let requests = vec![
            ("no fields", api.request(Method::POST, "/api/bookings").json(&json!({}))),
            ("no UUIDs", booking(json!({"userId": "me", "resourceId": 7}))),
            ("unknown field", booking(json!({"colour": "red"}))),
            ("amount as text", booking(json!({"amountMinor": "7"}))),
            ("amount with a fraction", booking(json!({"amountMinor": 7.5}))),
            ("amount too large", booking(json!({"amountMinor": 9_223_372_036_854_775_807_i64}))),
            ("negative amount", booking(json!({"amountMinor": -1}))),
            ("another currency", booking(json!({"currency": "XXX"}))),
            ("forced in the body", booking(json!({"forcedPaymentOutcome": "declined"}))),
            ("unknown outcome", booking(json!({})).header("x-forced-payment-outcome", "maybe")),
            ("long key", booking(json!({})).header("idempotency-key", "k".repeat(300))),
            ("no definition", saga(json!({"input": {}}))),
            ("unknown definition", saga(json!({"definition": "cruise", "input": {}}))),
            ("unknown version", saga(json!({"definition": "booking", "version": 99, "input": {}}))),
            ("input as a list", saga(json!({"definition": "booking", "input": []}))),
            (
                "wrong input",
                saga(json!({"definition": "quick-trip", "input": {"traveller": 7, "luggage": true}})),
            ),
            (
                "long business key",
                saga(
                    json!({"definition": "quick-trip", "input": {"traveller": "x"}, "businessKey": "k".repeat(300)}),
                ),
            ),
        ];
        assert_snapshot!(problems(requests).await?, @r"
        no fields: 422 validation [userId, resourceId]
        no UUIDs: 422 validation [userId, resourceId]
        unknown field: 422 validation [colour]
        amount as text: 422 validation [amountMinor]
        amount with a fraction: 422 validation [amountMinor]
        amount too large: 422 validation [amountMinor]
        negative amount: 422 validation [amountMinor]
        another currency: 422 validation [currency]
        forced in the body: 422 validation [forcedPaymentOutcome]
        unknown outcome: 400 forced-outcome [x-forced-payment-outcome]
        long key: 400 header [Idempotency-Key]
        no definition: 422 validation [definition]
        unknown definition: 422 validation [definition]
        unknown version: 422 validation [version]
        input as a list: 422 validation [input]
        wrong input: 422 validation [input.traveller, input.luggage]
        long business key: 422 validation [businessKey]
        ");
        Ok(())
    });
}

#[test]
fn places_and_methods_that_are_not_there() {
    on_shared_stack(async |stack| {
        let api = stack.api()?;
        let unknown = Uuid::now_v7();
        let get = |path: &str| api.request(Method::GET, path);
        let verb = |path: &str| api.request(Method::POST, path).json(&json!({"reason": "none"}));
        let requests = vec![
            ("nowhere", get("/api/nothing")),
            ("no saga", get(&format!("/api/sagas/{unknown}"))),
            ("no id", get("/api/sagas/7")),
            ("NUL in an id", get("/api/sagas/%00")),
            ("no UTF-8 in an id", get("/api/sagas/%ff")),
            ("SQL in an id", get("/api/sagas/'%20or%201=1--")),
            ("no history", get(&format!("/api/sagas/{unknown}/history"))),
            ("no booking", get(&format!("/api/bookings/{unknown}"))),
            ("no letter", get(&format!("/api/dead-letters/{unknown}"))),
            ("cancel nothing", verb(&format!("/api/sagas/{unknown}/cancel"))),
            ("redrive no letter", verb(&format!("/api/dead-letters/{unknown}/redrive"))),
            ("delete a saga", api.request(Method::DELETE, &format!("/api/sagas/{unknown}"))),
            ("get a verb", get(&format!("/api/sagas/{unknown}/cancel"))),
            ("patch bookings", api.request(Method::PATCH, "/api/bookings")),
            ("unknown filter", get("/api/sagas?colour=red")),
            ("unknown status", get("/api/sagas?status=lost")),
            ("a limit too high", get("/api/sagas?limit=501")),
            ("a limit of words", get("/api/sagas?limit=ten")),
            ("a made-up cursor", get("/api/sagas?cursor=abc")),
            ("NUL in a filter", get("/api/sagas?businessKey=%00")),
            ("no time", get("/api/sagas?startedAfter=yesterday")),
        ];
        assert_snapshot!(problems(requests).await?, @r"
        nowhere: 404 not-found
        no saga: 404 not-found
        no id: 404 not-found
        NUL in an id: 400 malformed
        no UTF-8 in an id: 400 malformed
        SQL in an id: 404 not-found
        no history: 404 not-found
        no booking: 404 not-found
        no letter: 404 not-found
        cancel nothing: 404 not-found
        redrive no letter: 404 not-found
        delete a saga: 405 method-not-allowed
        get a verb: 405 method-not-allowed
        patch bookings: 405 method-not-allowed
        unknown filter: 400 query [colour]
        unknown status: 422 validation [status]
        a limit too high: 422 validation [limit]
        a limit of words: 400 query [limit]
        a made-up cursor: 400 query [cursor]
        NUL in a filter: 400 query
        no time: 400 query [startedAfter]
        ");
        let refused = send(api.request(Method::DELETE, &format!("/api/sagas/{unknown}"))).await?;
        assert_eq!(refused.header("allow"), "GET, HEAD");
        Ok(())
    });
}

#[test]
fn forced_outcomes_are_refused_where_they_are_not_allowed() {
    let strict = Options { forced_outcomes: false, workers: false, ..Options::default() };
    on_own_stack(strict, async |stack| {
        let api = stack.api()?;
        let answer = api.book(&BookingRequest::forced("declined")).await?;
        assert_snapshot!(answer.problem()?, @"400 forced-outcome [x-forced-payment-outcome]");
        let mut input = BookingRequest::default().body();
        input["forcedPaymentOutcome"] = json!("declined");
        let answer = api.post("/api/sagas", &json!({"definition": "booking", "input": input})).await?;
        assert_snapshot!(answer.problem()?, @"400 forced-outcome [input.forcedPaymentOutcome]");
        let sagas = api.get("/api/sagas").await?.expect(200)?;
        assert_eq!(sagas["items"], json!([]));
        Ok(())
    });
}

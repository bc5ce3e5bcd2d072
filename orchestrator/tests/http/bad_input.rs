//! What cannot be read, and what was read and is wrong: one table, the answers beside it.

use serde_json::json;

use crate::harness::{NOBODY, Options, RESOURCE, Service, USER};

struct Case {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn case(method: &'static str, path: impl Into<String>, body: impl Into<Vec<u8>>) -> Case {
    let body = body.into();
    let headers =
        if body.is_empty() { vec![] } else { vec![("content-type", "application/json".to_owned())] };
    Case { method, path: path.into(), headers, body }
}

impl Case {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }

    fn shown(&self) -> String {
        let body = String::from_utf8_lossy(&self.body).replace(USER, "USER").replace(RESOURCE, "RESOURCE");
        let body: String = body.chars().take(76).collect();
        let headers: Vec<String> = self
            .headers
            .iter()
            .filter(|(name, value)| (*name, value.as_str()) != ("content-type", "application/json"))
            .map(|(name, value)| format!(" {name}: {}", value.chars().take(20).collect::<String>()))
            .collect();
        format!("{} {}{} {body}", self.method, self.path.replace(NOBODY, "NOBODY"), headers.concat())
            .trim_end()
            .to_owned()
    }
}

async fn check(service: &Service, cases: Vec<Case>) -> String {
    let mut lines = Vec::new();
    for case in cases {
        let shown = case.shown();
        let request = case
            .headers
            .iter()
            .fold(service.request(case.method, &case.path), |request, (n, v)| request.header(*n, v.as_str()));
        let answered = service.send(request.body(case.body)).await;
        let mut line = answered.problem();
        if line.len() > 230 {
            line = format!("{}...", line.chars().take(230).collect::<String>());
        }
        let allow = answered.header("allow");
        let allow = if allow.is_empty() { String::new() } else { format!(" (allow: {allow})") };
        lines.push(format!("{shown}\n  -> {line}{allow}"));
    }
    lines.join("\n")
}

fn booking(extra: &str) -> String {
    format!(r#"{{"userId":"{USER}","resourceId":"{RESOURCE}"{extra}}}"#)
}

#[tokio::test]
async fn what_cannot_be_read_is_a_400() {
    let service = Service::start_with(Options { allow_forced_outcomes: false, ..Options::default() }).await;
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let cases = vec![
        case("POST", "/api/bookings", r#"{"userId":"#),
        case("POST", "/api/bookings", "hello"),
        case("POST", "/api/bookings", "").with("content-type", "application/json"),
        case("POST", "/api/bookings", booking(r#","x":"a\u0000b""#)),
        case("POST", "/api/bookings", b"{\"userId\":\"\xff\xfe\"}".to_vec()),
        case("POST", "/api/bookings", format!(r#"{{"userId":{deep}}}"#)),
        case("POST", "/api/bookings", booking(r#","amountMinor":1e999"#)),
        case("POST", "/api/bookings", booking(r#","amountMinor":99999999999999999999999"#)),
        case("POST", "/api/bookings", booking(r#","currency":"EUR","currency":"EUR""#)),
        case("POST", "/api/bookings", booking("")).with("x-forced-payment-outcome", "declined"),
        case("POST", "/api/bookings", booking("")).with("idempotency-key", "k".repeat(256)),
        case("POST", "/api/bookings", booking("")).with("idempotency-key", "two words"),
        case("POST", "/api/bookings?dry=1", booking("")),
        case("GET", "/api/bookings/%00", ""),
        case("GET", "/api/bookings/%ff", ""),
        case("GET", "/api/sagas?limit=many", ""),
        case("GET", "/api/sagas?limit=-1", ""),
        case("GET", "/api/sagas?sort=asc&limit=5", ""),
        case("GET", "/api/sagas?status=running&status=stuck", ""),
        case("GET", "/api/sagas?cursor=abc", ""),
        case("GET", "/api/sagas?startedAfter=yesterday", ""),
        case("GET", "/api/sagas?businessKey=%00", ""),
        case("GET", "/api/sagas?businessKey=%fe", ""),
        case("GET", "/api/sagas?step=%4", ""),
        case("GET", "/api/dead-letters?sagaId=7", ""),
        case("GET", "/api/dead-letters?group=x", ""),
        case("GET", "/readyz?verbose=perhaps", ""),
    ];
    insta::assert_snapshot!(check(&service, cases).await, @r#"
    POST /api/bookings {"userId":
      -> 400 malformed: the body is not the JSON that is expected: EOF while parsing a value at line 1 column 10
    POST /api/bookings hello
      -> 400 malformed: the body is not the JSON that is expected: expected value at line 1 column 1
    POST /api/bookings
      -> 400 malformed: the body is empty; JSON is expected
    POST /api/bookings {"userId":"USER","resourceId":"RESOURCE","x":"a\u0000b"}
      -> 400 malformed: the body is not the JSON that is expected: a text contains NUL (\u0000) at line 1 column 115
    POST /api/bookings {"userId":"��"}
      -> 400 malformed: the body is not UTF-8 from byte 11 on
    POST /api/bookings {"userId":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
      -> 400 malformed: the body is not the JSON that is expected: deeper than 64 levels at line 1 column 74
    POST /api/bookings {"userId":"USER","resourceId":"RESOURCE","amountMinor":1e999}
      -> 400 malformed: the body is not the JSON that is expected: number out of range at line 1 column 120
    POST /api/bookings {"userId":"USER","resourceId":"RESOURCE","amountMinor":999999999999999999999
      -> 400 malformed: a whole number does not fit 64 bits
    POST /api/bookings {"userId":"USER","resourceId":"RESOURCE","currency":"EUR","currency":"EUR"}
      -> 400 malformed: the body is not the JSON that is expected: the name `currency` is there twice at line 1 column 135
    POST /api/bookings x-forced-payment-outcome: declined {"userId":"USER","resourceId":"RESOURCE"}
      -> 400 forced-outcome: x-forced-payment-outcome: is honoured only where the service was started with ALLOW_FORCED_OUTCOMES=true [x-forced-payment-outcome]
    POST /api/bookings idempotency-key: kkkkkkkkkkkkkkkkkkkk {"userId":"USER","resourceId":"RESOURCE"}
      -> 400 header: Idempotency-Key: must be given once, with 1 to 255 visible ASCII characters [Idempotency-Key]
    POST /api/bookings idempotency-key: two words {"userId":"USER","resourceId":"RESOURCE"}
      -> 400 header: Idempotency-Key: must be given once, with 1 to 255 visible ASCII characters [Idempotency-Key]
    POST /api/bookings?dry=1 {"userId":"USER","resourceId":"RESOURCE"}
      -> 400 query: dry: is not a parameter of this resource [dry]
    GET /api/bookings/%00
      -> 400 malformed: the path contains NUL
    GET /api/bookings/%ff
      -> 400 malformed: the path is not UTF-8
    GET /api/sagas?limit=many
      -> 400 query: limit: must be a whole number; found `many` [limit]
    GET /api/sagas?limit=-1
      -> 400 query: limit: must be a whole number; found `-1` [limit]
    GET /api/sagas?sort=asc&limit=5
      -> 400 query: sort: is not a parameter of this resource [sort]
    GET /api/sagas?status=running&status=stuck
      -> 400 query: status: is given twice [status]
    GET /api/sagas?cursor=abc
      -> 400 query: cursor: must be a nextCursor of an earlier answer to the same question; found `abc` [cursor]
    GET /api/sagas?startedAfter=yesterday
      -> 400 query: startedAfter: must be a time such as 2026-01-02T03:04:05Z; found `yesterday` [startedAfter]
    GET /api/sagas?businessKey=%00
      -> 400 query: the query contains NUL
    GET /api/sagas?businessKey=%fe
      -> 400 query: the query is not UTF-8
    GET /api/sagas?step=%4
      -> 400 query: the query has a % without two hexadecimal digits
    GET /api/dead-letters?sagaId=7
      -> 400 query: sagaId: must be a UUID; found `7` [sagaId]
    GET /api/dead-letters?group=x
      -> 400 query: group: must be a UUID; found `x` [group]
    GET /readyz?verbose=perhaps
      -> 400 query: verbose: must be true or false [verbose]
    "#);
}

#[tokio::test]
async fn what_was_read_and_is_wrong_is_a_422() {
    let service = Service::start().await;
    let cases = vec![
        case("POST", "/api/bookings", "{}"),
        case("POST", "/bookings", "[1]"),
        case("POST", "/api/bookings", "7"),
        case("POST", "/api/bookings", format!(r#"{{"userId":7,"resourceId":"{RESOURCE}"}}"#)),
        case("POST", "/api/bookings", r#"{"userId":"me","resourceId":null,"x":1,"y":{}}"#),
        case("POST", "/api/bookings", booking(r#","amountMinor":"12""#)),
        case("POST", "/api/bookings", booking(r#","amountMinor":1.5"#)),
        case("POST", "/api/bookings", booking(r#","amountMinor":0"#)),
        case("POST", "/api/bookings", booking(r#","amountMinor":9223372036854775807"#)),
        case("POST", "/api/bookings", booking(r#","currency":"USD""#)),
        case("POST", "/api/bookings", booking(r#","forcedPaymentOutcome":"declined""#)),
        case("POST", "/api/sagas", "{}"),
        case("POST", "/api/sagas", r#"{"definition":"nothing","input":{}}"#),
        case("POST", "/api/sagas", r#"{"definition":"booking","version":9,"input":{}}"#),
        case(
            "POST",
            "/api/sagas",
            r#"{"definition":"booking","input":{"userId":"x","amountMinor":"1","z":0}}"#,
        ),
        case("POST", "/api/sagas", r#"{"definition":"booking","input":[],"businessKey":""}"#),
        case(
            "POST",
            "/api/sagas",
            format!(r#"{{"definition":"booking","input":{},"version":"1"}}"#, booking("")),
        ),
        case("GET", "/api/sagas?limit=501", ""),
        case("GET", "/api/sagas?limit=0&status=paused", ""),
        case("GET", "/api/dead-letters?status=lost", ""),
        case("POST", format!("/api/sagas/{NOBODY}/cancel"), "{}"),
        case("POST", format!("/api/sagas/{NOBODY}/cancel"), r#"{"reason":"  "}"#),
        case("POST", format!("/api/sagas/{NOBODY}/skip"), r#"{"reason":"x","force":true}"#),
        case("POST", format!("/api/sagas/{NOBODY}/redrive"), r#"{"reason":"x","input":[]}"#),
        case(
            "POST",
            format!("/api/sagas/{NOBODY}/cancel"),
            format!(r#"{{"reason":"{}"}}"#, "x".repeat(1001)),
        ),
    ];
    insta::assert_snapshot!(check(&service, cases).await, @r#"
    POST /api/bookings {}
      -> 422 validation: userId: is missing; a UUID is expected; resourceId: is missing; a UUID is expected [userId, resourceId]
    POST /bookings [1]
      -> 422 validation: the body must be a JSON object []
    POST /api/bookings 7
      -> 422 validation: the body must be a JSON object []
    POST /api/bookings {"userId":7,"resourceId":"RESOURCE"}
      -> 422 validation: userId: must be a UUID as text; found 7 [userId]
    POST /api/bookings {"userId":"me","resourceId":null,"x":1,"y":{}}
      -> 422 validation: userId: must be a UUID as text; found `me`; resourceId: is missing; a UUID is expected; x: is not a field of this request; y: is not a field of this request [userId, resourceId, x, y]
    POST /api/bookings {"userId":"USER","resourceId":"RESOURCE","amountMinor":"12"}
      -> 422 validation: amountMinor: must be a whole number; found `12` [amountMinor]
    POST /api/bookings {"userId":"USER","resourceId":"RESOURCE","amountMinor":1.5}
      -> 422 validation: amountMinor: must be a whole number; found 1.5 [amountMinor]
    POST /api/bookings {"userId":"USER","resourceId":"RESOURCE","amountMinor":0}
      -> 422 validation: amountMinor: must be 1 to 1000000000000; found 0 [amountMinor]
    POST /api/bookings {"userId":"USER","resourceId":"RESOURCE","amountMinor":9223372036854775807}
      -> 422 validation: amountMinor: must be 1 to 1000000000000; found 9223372036854775807 [amountMinor]
    POST /api/bookings {"userId":"USER","resourceId":"RESOURCE","currency":"USD"}
      -> 422 validation: currency: must be EUR; found `USD` [currency]
    POST /api/bookings {"userId":"USER","resourceId":"RESOURCE","forcedPaymentOutcome":"declined"}
      -> 422 validation: forcedPaymentOutcome: is not a field of this request [forcedPaymentOutcome]
    POST /api/sagas {}
      -> 422 validation: definition: is missing; a text is expected; input: is missing; an object is expected [definition, input]
    POST /api/sagas {"definition":"nothing","input":{}}
      -> 422 validation: definition: no definition is named `nothing` [definition]
    POST /api/sagas {"definition":"booking","version":9,"input":{}}
      -> 422 validation: version: `booking` has no version 9; the newest is 1 [version]
    POST /api/sagas {"definition":"booking","input":{"userId":"x","amountMinor":"1","z":0}}
      -> 422 validation: input.userId: expected a uuid, found "x"; input.resourceId: missing: expected a uuid; input.amountMinor: expected a long, found "1"; input.z: unknown: the fields of booking.StartBooking are userId, resourceId, amou...
    POST /api/sagas {"definition":"booking","input":[],"businessKey":""}
      -> 422 validation: businessKey: must not be empty; input: must be an object; found an array [businessKey, input]
    POST /api/sagas {"definition":"booking","input":{"userId":"USER","resourceId":"RESOURCE"},"v
      -> 422 validation: version: must be a whole number; found `1` [version]
    GET /api/sagas?limit=501
      -> 422 validation: limit: must be 1 to 500; found 501 [limit]
    GET /api/sagas?limit=0&status=paused
      -> 422 validation: status: must be one of running, compensating, stuck, completed, compensated; found `paused`; limit: must be 1 to 500; found 0 [status, limit]
    GET /api/dead-letters?status=lost
      -> 422 validation: status: must be one of open, redriven, resolved, discarded; found `lost` [status]
    POST /api/sagas/NOBODY/cancel {}
      -> 422 validation: reason: is missing; a text is expected [reason]
    POST /api/sagas/NOBODY/cancel {"reason":"  "}
      -> 422 validation: reason: must not be empty [reason]
    POST /api/sagas/NOBODY/skip {"reason":"x","force":true}
      -> 422 validation: force: is not a field of this request [force]
    POST /api/sagas/NOBODY/redrive {"reason":"x","input":[]}
      -> 422 validation: input: must be an object; found an array [input]
    POST /api/sagas/NOBODY/cancel {"reason":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
      -> 422 validation: reason: must have at most 1000 characters; it has 1001 [reason]
    "#);
}

#[tokio::test]
async fn what_is_not_there_or_not_possible_is_said_so() {
    let service = Service::start().await;
    let cases = vec![
        case("GET", "/", ""),
        case("GET", "/api", ""),
        case("GET", "/api/nothing", ""),
        case("GET", "/api/bookings/", ""),
        case("GET", format!("/api/bookings/{NOBODY}"), ""),
        case("GET", "/api/bookings/7", ""),
        case("GET", format!("/api/sagas/{NOBODY}"), ""),
        case("GET", format!("/api/sagas/{{{NOBODY}}}"), ""),
        case("GET", format!("/api/sagas/{NOBODY}/history"), ""),
        case("GET", format!("/api/sagas/{NOBODY}/diagram"), ""),
        case("GET", format!("/api/dead-letters/{NOBODY}"), ""),
        case("GET", "/api/definitions/booking/99", ""),
        case("GET", "/api/definitions/booking/x", ""),
        case("POST", format!("/api/sagas/{NOBODY}/cancel"), r#"{"reason":"x"}"#),
        case("POST", format!("/api/sagas/{NOBODY}/redrive"), r#"{"reason":"x","input":{"a":1}}"#),
        case("POST", format!("/api/dead-letters/{NOBODY}/discard"), r#"{"reason":"x"}"#),
        case("DELETE", format!("/api/sagas/{NOBODY}"), ""),
        case("PUT", "/api/sagas", "{}"),
        case("PUT", "/api/definitions", "{}"),
        case("OPTIONS", "/api/bookings", ""),
        case("GET", "/api/bookings", ""),
        case("GET", format!("/api/sagas/{NOBODY}/cancel"), ""),
        case("BREW", "/livez", ""),
        case("POST", "/api/bookings", booking("")).with("content-type", "text/plain"),
        case("POST", "/api/bookings", booking("")).with("content-encoding", "gzip"),
        case("POST", "/api/bookings", booking("")).with("x-forced-payment-outcome", "lucky"),
    ];
    insta::assert_snapshot!(check(&service, cases).await, @r#"
    GET /
      -> 404 not-found: nothing is at /
    GET /api
      -> 404 not-found: nothing is at /api
    GET /api/nothing
      -> 404 not-found: nothing is at /api/nothing
    GET /api/bookings/
      -> 404 not-found: nothing is at /api/bookings/
    GET /api/bookings/NOBODY
      -> 404 not-found: there is no such booking
    GET /api/bookings/7
      -> 404 not-found: there is no such booking
    GET /api/sagas/NOBODY
      -> 404 not-found: no saga has the id 0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000
    GET /api/sagas/{NOBODY}
      -> 404 not-found: `{0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000}` is not a saga's id
    GET /api/sagas/NOBODY/history
      -> 404 not-found: no saga has the id 0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000
    GET /api/sagas/NOBODY/diagram
      -> 404 not-found: no saga has the id 0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000
    GET /api/dead-letters/NOBODY
      -> 404 not-found: no dead letter has the id `0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000`
    GET /api/definitions/booking/99
      -> 404 not-found: there is no such definition
    GET /api/definitions/booking/x
      -> 404 not-found: there is no such definition
    POST /api/sagas/NOBODY/cancel {"reason":"x"}
      -> 404 not-found: no saga has the id 0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000
    POST /api/sagas/NOBODY/redrive {"reason":"x","input":{"a":1}}
      -> 404 not-found: no saga has the id 0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000
    POST /api/dead-letters/NOBODY/discard {"reason":"x"}
      -> 404 not-found: no dead letter has the id `0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000`
    DELETE /api/sagas/NOBODY
      -> 405 method-not-allowed: DELETE is not possible here, only GET, HEAD (allow: GET, HEAD)
    PUT /api/sagas {}
      -> 405 method-not-allowed: PUT is not possible here, only GET, HEAD, POST (allow: GET, HEAD, POST)
    PUT /api/definitions {}
      -> 405 method-not-allowed: PUT is not possible here, only GET, HEAD, POST (allow: GET, HEAD, POST)
    OPTIONS /api/bookings
      -> 405 method-not-allowed: OPTIONS is not possible here, only POST (allow: POST)
    GET /api/bookings
      -> 405 method-not-allowed: GET is not possible here, only POST (allow: POST)
    GET /api/sagas/NOBODY/cancel
      -> 405 method-not-allowed: GET is not possible here, only POST (allow: POST)
    BREW /livez
      -> 405 method-not-allowed: BREW is not possible here, only GET, HEAD (allow: GET, HEAD)
    POST /api/bookings content-type: text/plain {"userId":"USER","resourceId":"RESOURCE"}
      -> 415 media-type: the content type must be application/json; found `text/plain`
    POST /api/bookings content-encoding: gzip {"userId":"USER","resourceId":"RESOURCE"}
      -> 415 media-type: the body must not be compressed: no content encoding is supported
    POST /api/bookings x-forced-payment-outcome: lucky {"userId":"USER","resourceId":"RESOURCE"}
      -> 400 forced-outcome: x-forced-payment-outcome: must be one of declined, unavailable, down, no_reply; found `lucky` [x-forced-payment-outcome]
    "#);
}

#[tokio::test]
async fn what_is_repeated_of_bad_input_is_bounded() {
    let service = Service::start().await;
    let many: serde_json::Map<_, _> = (0..20_000).map(|n| (format!("field{n}"), json!(n))).collect();
    let answered = service.post("/api/bookings", &many.into()).await;
    assert!(answered.problem().contains("and 19992 more"), "{}", answered.text);
    assert_eq!(answered.json()["errors"].as_array().unwrap().len(), 100);
    let query = (0..2_000).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
    let answered = service.get(&format!("/api/sagas?{query}")).await;
    assert_eq!(answered.problem(), "400 query: the query has more than 64 parameters");
}

#[tokio::test]
async fn a_body_over_the_limit_is_a_413() {
    let service = Service::start().await;
    let large = json!({ "userId": "x".repeat(2 * 1024 * 1024) });
    for path in ["/api/bookings", "/api/sagas", &format!("/api/sagas/{NOBODY}/cancel")] {
        let answered = service.post(path, &large).await;
        assert_eq!(answered.problem(), "413 too-large: the body is longer than 1048576 bytes", "{path}");
    }
    // Nobody reads the body of a request that has no route, and the answer arrives all the same.
    assert_eq!(service.post("/nowhere", &large).await.problem(), "404 not-found: nothing is at /nowhere");
}

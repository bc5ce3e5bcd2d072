//! Starting sagas: once per idempotency key, and with a wait for the end.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use insta::assert_snapshot;
use reqwest::Method;
use serde_json::json;
use tests::api::{BookingRequest, id, send};
use tests::scenario::on_shared_stack;
use uuid::Uuid;

#[test]
fn one_key_makes_one_booking() {
    on_shared_stack(async |stack| {
        let api = stack.api()?;
        let booking = BookingRequest::default().keyed(Uuid::new_v4().to_string());
        let first = api.book(&booking).await?;
        let saga = id(&first.expect(201)?, "bookingId")?;
        assert_eq!(first.header("location"), format!("/api/bookings/{saga}"));
        api.saga_is(saga, "completed").await?;
        let again = api.book(&booking).await?;
        assert_eq!(
            (again.status, &again.text),
            (201, &first.text),
            "the first answer again, though it moved on"
        );

        let other = BookingRequest { user: Uuid::new_v4(), ..booking.clone() };
        assert_snapshot!(api.book(&other).await?.problem()?, @"422 idempotency-key-reused");
        let forced = BookingRequest { forced: Some("declined"), ..booking };
        assert_snapshot!(api.book(&forced).await?.problem()?, @"422 idempotency-key-reused");
        Ok(())
    });
}

#[test]
fn one_key_makes_one_booking_also_when_all_come_at_once() {
    on_shared_stack(async |stack| {
        let api = stack.api()?;
        let booking = BookingRequest::default().keyed(Uuid::new_v4().to_string());
        let answers = try_join_all((0..20).map(|_| api.book(&booking))).await?;
        let sagas: Vec<_> =
            answers.iter().map(|answer| id(&answer.expect(201)?, "bookingId")).collect::<Result<_>>()?;
        ensure!(sagas.iter().all(|saga| *saga == sagas[0]), "{sagas:?}");
        ensure!(answers.iter().all(|answer| answer.text == answers[0].text), "{answers:?}");
        api.saga_is(sagas[0], "completed").await?;
        let bookings = "SELECT count(*) AS n FROM bookings WHERE user_id = $1";
        assert_eq!(stack.bookings.number(bookings, vec![booking.user.into()]).await?, 1);
        Ok(())
    });
}

#[test]
fn who_waits_sees_the_end() {
    on_shared_stack(async |stack| {
        let api = stack.api()?;
        for (forced, status) in [(None, "PAID"), (Some("declined"), "CANCELLED")] {
            let booking = BookingRequest { forced, wait_s: Some(30), ..BookingRequest::default() };
            let answer = api.book(&booking).await?;
            assert_eq!(answer.expect(201)?["status"], status);
            assert_eq!(answer.header("preference-applied"), "wait=30");
        }
        let slow = BookingRequest { wait_s: Some(1), ..BookingRequest::forced("down") };
        assert_eq!(api.book(&slow).await?.expect(201)?["status"], "CREATED");

        let body = json!({"definition": "booking", "businessKey": "order-7", "input": slow.body()});
        let request = api.request(Method::POST, "/api/sagas").header("prefer", "wait=30").json(&body);
        let saga = send(request).await?.expect(201)?;
        assert_eq!((&saga["status"], &saga["businessKey"]), (&json!("completed"), &json!("order-7")));
        let found = api.get("/api/sagas?businessKey=order-7&limit=1").await?.expect(200)?;
        assert_eq!(found["items"][0]["sagaId"], saga["sagaId"]);
        Ok(())
    });
}

#[test]
fn both_booking_paths_are_one() {
    on_shared_stack(async |stack| {
        let api = stack.api()?;
        let body = BookingRequest::default().body();
        let key = Uuid::new_v4().to_string();
        let short = api.post_keyed("/bookings", &body, &key).await?;
        let long = api.post_keyed("/api/bookings", &body, &key).await?;
        assert_eq!((short.status, &short.text), (201, &long.text));
        Ok(())
    });
}

#[test]
fn sagas_are_listed_page_by_page() {
    on_shared_stack(async |stack| {
        let api = stack.api()?;
        let key = Uuid::new_v4().to_string();
        let mut started = Vec::new();
        for _ in 0..5 {
            let body = json!({"definition": "booking", "businessKey": key, "input": BookingRequest::default().body()});
            started.push(id(&api.post("/api/sagas", &body).await?.expect(201)?, "sagaId")?.to_string());
        }
        let (mut found, mut cursor) = (Vec::new(), String::new());
        for page in 0..3 {
            let asked =
                api.get(&format!("/api/sagas?businessKey={key}&limit=2{cursor}")).await?.expect(200)?;
            for item in asked["items"].as_array().into_iter().flatten() {
                found.push(item["sagaId"].as_str().unwrap_or_default().to_owned());
            }
            match asked["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => assert_eq!(page, 2, "{asked}"),
            }
        }
        found.sort();
        started.sort();
        assert_eq!(found, started);
        Ok(())
    });
}

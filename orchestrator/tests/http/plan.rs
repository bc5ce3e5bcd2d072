//! What a new version means for the sagas that there are.

use insta::assert_snapshot;
use saga_defs::Data;
use saga_defs::saga::{Event, Outcome, Refusal, Saga};
use serde_json::{Value, json};

use crate::fake_engine::now;
use crate::harness::{RESOURCE, Service, USER};

/// The booking with a step between charging and confirming, and fewer attempts.
fn second_booking() -> String {
    let first = saga_defs::Shipped::named("booking").unwrap().text;
    let confirm = "[[step]]\nname = \"confirm-booking\"";
    let check = "[[step]]\nname = \"reserve-again\"\nparticipant = \"booking\"\nkind = \"compensatable\"\n\
                 command = \"booking.ReserveBooking\"\nreply = \"booking.BookingReserved\"\n\
                 compensation = \"booking.CancelBooking\"\n\n";
    assert!(first.contains(confirm));
    first.replace("version = 1", "version = 2").replace(confirm, &format!("{check}{confirm}"))
}

async fn start(service: &Service) -> Saga {
    let body =
        json!({"definition": "booking", "version": 1, "input": {"userId": USER, "resourceId": RESOURCE}});
    let answered = service.post("/api/sagas", &body).await;
    assert_eq!(answered.status, 201, "{}", answered.text);
    let saga =
        service.engine.load(answered.json()["sagaId"].as_str().unwrap().parse().unwrap()).await.unwrap();
    // The next one gets a higher id: ids of one millisecond are in any order.
    while now() <= saga.started_at {
        tokio::task::yield_now().await;
    }
    saga
}

async fn publish(service: &Service, text: String) {
    let request = service.request("POST", "/api/definitions").header("content-type", "application/toml");
    let answered = service.send(request.body(text)).await;
    assert_eq!(answered.status, 201, "{}", answered.text);
}

/// A stuck saga that nobody waits for any more, one that waits, one that was compensated, one that completed.
async fn four_bookings(service: &Service) -> [(Saga, &'static str); 4] {
    let stuck = start(service).await;
    let cause = Refusal::new("database_refused", "for this test");
    service.engine.happen(&stuck, Event::Quarantined { cause }).await.unwrap();
    let letter = "INSERT INTO dead_letter (id, status, reason, message, source, topic, record_headers, saga_id, attempts,
                      first_failed_at, last_failed_at, updated_at, lineage)
                  VALUES ($1, 'discarded', '', '', '', '', '[]', $1, 1, now(), now(), now(), '[]')";
    service.engine.execute(letter, vec![stuck.id.as_uuid().into()]).await.unwrap();
    let waiting = start(service).await;
    let shard = "INSERT INTO shard (id, open_from) VALUES (0, $1)";
    service.engine.execute(shard, vec![waiting.id.as_uuid().into()]).await.unwrap();
    let compensated = start(service).await;
    let sold_out = Outcome::Rejected { refusal: Refusal::new("sold_out", "") };
    service.engine.reply(&compensated, sold_out).await;
    let completed = start(service).await;
    service.engine.complete(&completed).await;
    service.engine.reply(&waiting, Outcome::Succeeded { fields: Data::new() }).await;
    [(stuck, "STUCK"), (waiting, "WAITING"), (compensated, "COMPENSATED"), (completed, "COMPLETED")]
}

fn named(answer: &Value, sagas: &[(Saga, &str)]) -> String {
    let text = serde_json::to_string_pretty(answer).unwrap();
    sagas.iter().fold(text, |text, (saga, name)| text.replace(&saga.id.to_string(), name))
}

#[tokio::test]
async fn a_plan_counts_open_sagas_names_changes_and_plays_histories_again() {
    let service = Service::start().await;
    let sagas = four_bookings(&service).await;
    publish(&service, second_booking()).await;
    let plan = service.get("/api/definitions/booking/2/plan").await;
    assert_snapshot!(named(&plan.json(), &sagas), @r#"
    {
      "definition": "booking",
      "open": {
        "compensating": 0,
        "running": 0,
        "stuck": 0
      },
      "others": [
        {
          "changes": [
            {
              "change": "step reserve-again: added after charge-payment",
              "forNew": "they run reserve-again; its participant must be there first",
              "forRunning": "they end without reserve-again"
            }
          ],
          "histories": {
            "diverging": [
              {
                "event": "charge-payment succeeded",
                "expected": "confirm-booking #1",
                "got": "reserve-again #1",
                "revision": 3,
                "runs": [
                  "COMPLETED"
                ]
              }
            ],
            "same": 3,
            "unknown": 0
          },
          "open": {
            "compensating": 0,
            "running": 1,
            "stuck": 1
          },
          "version": 1
        }
      ],
      "version": 2
    }
    "#);
    let none = service.get("/api/definitions/booking/1/plan").await;
    assert_snapshot!(named(&none.json(), &sagas), @r#"
    {
      "definition": "booking",
      "open": {
        "compensating": 0,
        "running": 1,
        "stuck": 1
      },
      "others": [],
      "version": 1
    }
    "#);
}

#[tokio::test]
async fn fewer_histories_are_the_newest_and_lost_ones_are_counted() {
    let service = Service::start().await;
    let sagas = four_bookings(&service).await;
    publish(&service, second_booking()).await;
    let histories = async |limit: u32| {
        let plan = service.get(&format!("/api/definitions/booking/2/plan?limit={limit}")).await.json();
        named(&plan["others"][0]["histories"], &sagas).replace(char::is_whitespace, "")
    };
    assert_snapshot!(histories(1).await, @r#"{"diverging":[{"event":"charge-paymentsucceeded","expected":"confirm-booking#1","got":"reserve-again#1","revision":3,"runs":["COMPLETED"]}],"same":0,"unknown":0}"#);
    service.engine.execute("DELETE FROM journal WHERE revision = 1", vec![]).await.unwrap();
    assert_snapshot!(histories(500).await, @r#"{"diverging":[],"same":0,"unknown":4}"#);
}

#[tokio::test]
async fn what_cannot_be_planned_is_a_problem() {
    let service = Service::start().await;
    assert_snapshot!(service.get("/api/definitions/booking/9/plan").await.problem(), @"404 not-found: there is no such definition");
    assert_snapshot!(service.get("/api/definitions/booking/first/plan").await.problem(), @"404 not-found: there is no such definition");
    assert_snapshot!(service.get("/api/definitions/booking/1/plan?limit=0").await.problem(), @"422 validation: limit: must be 1 to 500; found 0 [limit]");
    assert_snapshot!(service.get("/api/definitions/booking/1/plan?limits=1").await.problem(), @"400 query: limits: is not a parameter of this resource [limits]");
}

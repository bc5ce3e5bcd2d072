//! People who look while the load runs: each page is asked for when it is due, and its time counts from then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::figures::Figures;
use super::stack::Stack;
use crate::api::Api;

/// The longest time that a histogram tells apart.
const MOST_US: u64 = 60_000_000;

/// What is looked at, in turns.
const PAGES: [&str; 5] = ["newest sagas", "stuck sagas", "one saga", "its history", "dead letters"];

/// Asks so many times a second between these moments.
pub(crate) async fn look(stack: &Stack, per_second: u32, begin: Instant, end: Instant) -> Result<Figures> {
    let apis: Vec<Api> = stack.running().iter().map(|orchestrator| orchestrator.api.clone()).collect();
    let mut times = Vec::new();
    for _ in PAGES {
        times.push(Histogram::<u64>::new_with_bounds(1, MOST_US, 3)?);
    }
    let (gap, newest) = (Duration::from_secs(1) / per_second, Arc::new(Mutex::new(None)));
    let (mut due, mut asked, mut looks) = (begin, 0_usize, JoinSet::new());
    while due < end {
        tokio::time::sleep_until(due).await;
        // Another orchestrator after each round.
        let api = apis[asked / PAGES.len() % apis.len()].clone();
        looks.spawn(page(api, asked % PAGES.len(), newest.clone(), due));
        asked += 1;
        due += gap;
    }
    let mut failed = 0_u32;
    while let Some(look) = looks.join_next().await {
        let (page, time, status) = look??;
        times[page].saturating_record(u64::try_from(time.as_micros()).unwrap_or(MOST_US).max(1));
        failed += u32::from(status != 200);
    }
    let (mut figures, group) = (Figures::default(), "pages, from when they were due");
    figures.add(group, "asked for", "", asked as f64);
    figures.add(group, "not answered with 200", "", f64::from(failed));
    for (page, times) in PAGES.iter().zip(&times).filter(|(_, times)| !times.is_empty()) {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let time = times.value_at_quantile(quantile) as f64 / 1000.0;
            figures.add(group, format!("{page}, {name}"), "ms", time);
        }
    }
    Ok(figures)
}

/// One look: which page it was, how long it took from when it was due, and the status.
async fn page(
    api: Api,
    page: usize,
    newest: Arc<Mutex<Option<String>>>,
    due: Instant,
) -> Result<(usize, Duration, u16)> {
    let saga = newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let path = match (page, saga) {
        (0, _) => "/api/sagas?limit=50".to_owned(),
        (1, _) => "/api/sagas?status=stuck&limit=50".to_owned(),
        (2, Some(saga)) => format!("/api/sagas/{saga}"),
        (3, Some(saga)) => format!("/api/sagas/{saga}/history"),
        _ => "/api/dead-letters?limit=50".to_owned(),
    };
    let answer = api.get(&path).await?;
    let time = due.elapsed();
    if page == 0 {
        let first = answer.json()?["items"][0]["sagaId"].as_str().map(str::to_owned);
        *newest.lock().unwrap_or_else(PoisonError::into_inner) = first;
    }
    Ok((page, time, answer.status))
}

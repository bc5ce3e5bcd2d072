use super::*;

#[test]
fn the_text_follows_the_conventions() -> Result<(), MetersError> {
    let metrics = Metrics::new()?;
    metrics.saga_started("booking");
    metrics.saga_ended("booking", Status::Completed, Duration::from_millis(30));
    metrics.stuck("booking", "charge-payment");
    metrics.step_finished("booking", "charge-payment", "succeeded", Duration::from_millis(4));
    metrics.retry("booking", "charge-payment", Direction::Forward);
    metrics.batch(12, Duration::from_micros(700));
    metrics.ignored("late");
    metrics.dead_letter("undecodable");
    metrics.panicked();
    metrics.publish(3);
    metrics.shards(8, 1);
    metrics.removed(&Removed { days: 1, sagas: 12, keys: 11, letters: 0, actions: 2 });
    metrics.journal_age(Duration::from_secs(86_400));
    metrics.unpartitioned(4);
    metrics.handled([Instant::now()]);
    metrics.waiting(5, Duration::from_millis(1_500));
    metrics.inbox_delay(Some(Duration::from_millis(20)));
    metrics.inbox_delay(None);
    metrics.participant("payment", true, 7);
    metrics.backlog(3, 2, 60);
    let broker = Some("does not answer".to_owned());
    let health = EngineHealth { broker, consumer_poll_age: Duration::from_millis(250), ..Default::default() };
    metrics.health(&health);
    metrics.event_stream("saga", 1);
    metrics.event_stream("saga", 1);
    metrics.event_stream("saga", -1);
    metrics.event_stream_cut("sagas");
    metrics.bulk_driven("redrive", 1);
    metrics.bulk_items("redrive", "sent", 56);
    metrics.bulk_ended("redrive", "stopped");
    let text = metrics.render();
    for line in [
        r#"saga_started_total{definition="booking"} 1"#,
        r#"saga_duration_seconds_count{definition="booking",status="completed"} 1"#,
        r#"saga_stuck_total{definition="booking",step="charge-payment"} 1"#,
        r#"saga_step_duration_seconds_count{definition="booking",outcome="succeeded",step="charge-payment"} 1"#,
        r#"saga_retries_total{definition="booking",direction="forward",step="charge-payment"} 1"#,
        "saga_batch_transitions_count 1",
        "saga_commit_duration_seconds_count 1",
        r#"saga_ignored_total{why="late"} 1"#,
        r#"saga_dead_letters_total{reason="undecodable"} 1"#,
        "saga_panics_total 1",
        "saga_publish_in_flight 3",
        r#"saga_shards{state="owned"} 8"#,
        r#"saga_shards{state="stopped"} 1"#,
        r#"saga_retention_removed_total{what="saga"} 12"#,
        "saga_journal_age_seconds 86400",
        "saga_journal_unpartitioned 4",
        "saga_input_duration_seconds_count 1",
        "saga_in_flight 5",
        "saga_in_flight_oldest_age_seconds 1.5",
        "saga_inbox_delay_seconds_count 1",
        r#"saga_participant_held{participant="payment"} 1"#,
        r#"saga_participant_waiting{participant="payment"} 7"#,
        "saga_dead_letters_open 3",
        "saga_dead_letters_oldest_age_seconds 60",
        "saga_stuck_open 2",
        "saga_poll_age_seconds 0.25",
        r#"saga_dependency_up{dependency="broker"} 0"#,
        r#"saga_dependency_up{dependency="database"} 1"#,
        r#"saga_event_streams{of="saga"} 1"#,
        r#"saga_event_streams_cut_total{of="sagas"} 1"#,
        r#"saga_bulk_driven{action="redrive"} 1"#,
        r#"saga_bulk_items_total{action="redrive",outcome="sent"} 56"#,
        r#"saga_bulk_ended_total{action="redrive",status="stopped"} 1"#,
    ] {
        assert!(text.contains(line), "`{line}` is not in\n{text}");
    }
    Ok(())
}

#[test]
fn reasons_from_outside_make_a_bounded_number_of_series() -> Result<(), MetersError> {
    let metrics = Metrics::new()?;
    for n in 0..1000 {
        metrics.dead_letter(&format!("reason{n}"));
        metrics.dead_letter(&format!("not plain \n {n}"));
    }
    let series = metrics.render().lines().filter(|line| line.starts_with("saga_dead_letters_total{")).count();
    assert_eq!(series, MAX_REASONS + 1);
    Ok(())
}

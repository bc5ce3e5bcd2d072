//! Two members of one group.

use messaging::{ConsumerEvent, ConsumerLimits, StartAt, fetch};

use crate::cluster::{Cluster, DEADLINE, LIMITS, Tale, by_partition, eventually};

#[tokio::test]
async fn a_second_member_takes_over_partitions_from_the_offsets_that_it_is_told() {
    let cluster = Cluster::any(4).await;
    cluster.fill(4, 10).await;
    let mut first = cluster.join(LIMITS, |_| StartAt::Offset(2));
    let read = by_partition(&first.records(32).await);
    assert!((0..4).all(|partition| read[&partition][0].0 == 2 && read[&partition].len() == 8));
    assert_eq!(first.told.now(), Some((1, vec![0, 1, 2, 3])));

    let mut second = cluster.join(LIMITS, |_| StartAt::Offset(7));
    eventually("both have two partitions", || {
        let two = |now: Option<(u64, Vec<i32>)>| now.is_some_and(|(_, partitions)| partitions.len() == 2);
        two(first.told.now()) && two(second.told.now())
    })
    .await;
    let read = by_partition(&second.records(6).await);
    let (_, taken) = second.told.now().unwrap();
    assert_eq!(read.keys().copied().collect::<Vec<_>>(), taken);
    assert!(read.values().all(|values| values[0].0 == 7 && values.len() == 3));
    check_generations(&first.told.all());

    second.stop().await;
    eventually("the first has all again", || {
        first.told.now().is_some_and(|(_, partitions)| partitions.len() == 4)
    })
    .await;
    check_generations(&first.told.all());
    let (last, _) = first.told.now().unwrap();
    assert!(last >= 3);
    loop {
        let ConsumerEvent::Records(polled) = first.next().await else { continue };
        assert!(polled.generation <= last);
        if polled.generation == last {
            assert!(polled.records[0].offset >= 2);
            break;
        }
    }
}

/// Each assignment has a generation of its own, rising, and is revoked before the next.
fn check_generations(tales: &[Tale]) {
    let mut current = None;
    let mut last = 0;
    for tale in tales {
        match tale {
            Tale::Assigned(generation, partitions) => {
                assert!(current.is_none() && *generation == last + 1, "{tales:?}");
                last = *generation;
                current = (!partitions.is_empty()).then(|| (*generation, partitions.clone()));
            }
            Tale::Revoked(generation, partitions) | Tale::Lost(generation, partitions) => {
                assert_eq!(current.take(), Some((*generation, partitions.clone())), "{tales:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_full_queue_does_not_hold_up_a_rebalance_and_old_batches_keep_their_generation() {
    const EACH: usize = 1000;
    let cluster = Cluster::any(2).await;
    cluster.fill(2, EACH).await;
    let limits = ConsumerLimits { batch_records: 10, queued_batches: 1 };
    let mut first = cluster.join(limits, |_| StartAt::Offset(0));
    eventually("the queue is full", || first.events.len() == 1).await;
    let second = cluster.join(limits, |_| StartAt::Offset(0));
    eventually("both have one partition", || {
        let one = |now: Option<(u64, Vec<i32>)>| now.is_some_and(|(_, partitions)| partitions.len() == 1);
        one(first.told.now()) && one(second.told.now())
    })
    .await;
    let (generation, mine) = first.told.now().unwrap();
    let mut current = Vec::new();
    while current.len() < EACH {
        match first.next().await {
            ConsumerEvent::Records(polled) if polled.generation == generation => {
                current.extend(polled.records)
            }
            ConsumerEvent::Records(polled) => {
                assert!(polled.generation < generation && current.is_empty());
            }
            event => panic!("{event:?}"),
        }
    }
    // Resumed after the rebalance, although its partitions were paused in the generation before.
    let expected: Vec<_> = (0..EACH).map(|value| (value as i64, value.to_string())).collect();
    assert!(by_partition(&current)[&mine[0]] == expected);
}

/// A member that has given a partition away may still finish records of it. The broker would take its offset for the
/// other's partition, and that would be read again from there.
#[tokio::test]
async fn a_commit_for_a_partition_that_another_has_now_changes_nothing() {
    let cluster = Cluster::any(2).await;
    cluster.fill(2, 10).await;
    let mut first = cluster.join(LIMITS, |_| StartAt::Offset(0));
    first.records(20).await;
    let second = cluster.join(LIMITS, |_| StartAt::Offset(0));
    eventually("the first has lost a partition", || {
        first.told.now().is_some_and(|(generation, partitions)| generation > 1 && partitions.len() == 1)
    })
    .await;
    let lost = (0..2).find(|partition| !first.told.now().unwrap().1.contains(partition)).unwrap();
    eventually("the second has it", || {
        second.told.now().is_some_and(|(_, partitions)| partitions.contains(&lost))
    })
    .await;
    second.consumer.commit(&[(cluster.topic.clone(), lost, 8)]);
    second.consumer.flush_commits(DEADLINE).await.unwrap();
    first.consumer.commit(&[(cluster.topic.clone(), lost, 5)]);
    first.consumer.flush_commits(DEADLINE).await.unwrap();
    first.stop().await;
    second.stop().await;
    let committed = fetch::committed(&cluster.settings, &cluster.group, &[(cluster.topic.clone(), lost)]);
    assert_eq!(committed.unwrap(), [Some(8)]);
}

#[tokio::test]
async fn a_group_that_is_not_heard_of_is_lost_and_not_left() {
    let cluster = Cluster::embedded(2);
    let member = cluster.join(LIMITS, |_| StartAt::Offset(0));
    eventually("it is a member", || member.told.now().is_some()).await;
    cluster.broker().down().unwrap();
    eventually("its session is over", || member.told.all().len() == 2).await;
    cluster.broker().up().unwrap();
    eventually("it is a member again", || member.told.now().is_some()).await;
    let told = member.told.clone();
    member.stop().await;
    let all = vec![0, 1];
    let expected = [
        Tale::Assigned(1, all.clone()),
        Tale::Lost(1, all.clone()),
        Tale::Assigned(2, all.clone()),
        Tale::Revoked(2, all),
    ];
    assert_eq!(told.all(), expected);
}

#[tokio::test]
async fn who_joins_anew_is_asked_anew_where_to_start() {
    let cluster = Cluster::any(2).await;
    cluster.fill(2, 5).await;
    let mut member = cluster.join(LIMITS, |_| StartAt::Offset(3));
    assert_eq!(member.records(4).await.len(), 4);
    member.consumer.rejoin();
    let again = by_partition(&member.records(4).await);
    assert!(again.values().all(|values| values[0].0 == 3));
    let all = vec![0, 1];
    let expected = [Tale::Assigned(1, all.clone()), Tale::Revoked(1, all.clone()), Tale::Assigned(2, all)];
    assert_eq!(member.told.all(), expected);
}

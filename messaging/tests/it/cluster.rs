//! What the tests share: a broker, members of groups that remember what they were told, and waiting with a deadline.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use messaging::embedded::Broker;
use messaging::topics::{TopicSpec, ensure};
use messaging::{
    Assignments, Consumer, ConsumerEvent, ConsumerLimits, Deliveries, DeliveryFailure, Headers,
    KafkaSettings, Placed, Producer, Received, Record, StartAt,
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// No wait of a test takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How often a predicate is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

pub(crate) const LIMITS: ConsumerLimits = ConsumerLimits { batch_records: 100, queued_batches: 16 };

/// A broker with one topic, whose name no other test has.
pub(crate) struct Cluster {
    broker: Option<Broker>,
    pub(crate) settings: KafkaSettings,
    pub(crate) topic: Arc<str>,
    pub(crate) group: String,
}

impl Cluster {
    /// The broker of `TEST_KAFKA_BOOTSTRAP_SERVERS`, else an embedded one.
    pub(crate) async fn any(partitions: i32) -> Self {
        let Some(servers) = std::env::var("TEST_KAFKA_BOOTSTRAP_SERVERS").ok().filter(|s| !s.is_empty())
        else {
            return Self::embedded(partitions);
        };
        let settings = KafkaSettings::plain(servers);
        let topic = unique("topic");
        ensure(&settings, &[TopicSpec::new(topic.clone(), partitions, 1)]).await.unwrap();
        Self { broker: None, settings, topic, group: unique("group").to_string() }
    }

    pub(crate) fn embedded(partitions: i32) -> Self {
        let topic = unique("topic");
        let broker = Broker::start(&[TopicSpec::new(topic.clone(), partitions, 1)]).unwrap();
        let settings = broker.settings();
        Self { broker: Some(broker), settings, topic, group: unique("group").to_string() }
    }

    pub(crate) fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    /// With a librdkafka property.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.properties.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A record for a partition.
    pub(crate) fn record(&self, partition: i32, value: impl Into<Vec<u8>>) -> Record {
        let mut record = Record::new(self.topic.clone(), "key", value, Headers::new());
        record.partition = Some(partition);
        record
    }

    /// Writes values 0.. as text to each partition, and waits until they are there.
    pub(crate) async fn fill(&self, partitions: i32, each: usize) {
        let sink = Arc::new(Sink::default());
        let producer = Producer::start(&self.settings, Duration::from_millis(1), sink.clone()).unwrap();
        for value in 0..each {
            for partition in 0..partitions {
                producer.send(&self.record(partition, value.to_string()), 0).unwrap();
            }
        }
        let expected = each * partitions as usize;
        eventually("all records are delivered", || sink.all().len() == expected).await;
        assert!(sink.all().iter().all(|(_, outcome)| outcome.is_ok()));
    }

    /// Joins the cluster's group.
    pub(crate) fn join(
        &self,
        limits: ConsumerLimits,
        start: impl Fn(i32) -> StartAt + Send + Sync + 'static,
    ) -> Member {
        let told = Arc::new(Told { start: Box::new(start), log: Mutex::default() });
        let topics = [&*self.topic];
        let (consumer, events) =
            Consumer::start(&self.settings, &self.group, &topics, limits, told.clone()).unwrap();
        Member { consumer, events, told }
    }
}

pub(crate) fn unique(name: &str) -> Arc<str> {
    format!("{name}-{}", Uuid::new_v4()).into()
}

/// What a member's [`Assignments`] was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tale {
    Assigned(u64, Vec<i32>),
    Revoked(u64, Vec<i32>),
    Lost(u64, Vec<i32>),
}

pub(crate) struct Told {
    start: Box<dyn Fn(i32) -> StartAt + Send + Sync>,
    log: Mutex<Vec<Tale>>,
}

impl Told {
    pub(crate) fn all(&self) -> Vec<Tale> {
        self.log.lock().unwrap().clone()
    }

    /// Generation and partitions at this moment.
    pub(crate) fn now(&self) -> Option<(u64, Vec<i32>)> {
        match self.all().pop() {
            Some(Tale::Assigned(generation, partitions)) => Some((generation, partitions)),
            _ => None,
        }
    }

    /// The partitions of a generation.
    pub(crate) fn of(&self, generation: u64) -> Vec<i32> {
        let found = self.all().into_iter().find_map(|tale| match tale {
            Tale::Assigned(g, partitions) if g == generation => Some(partitions),
            _ => None,
        });
        found.unwrap()
    }
}

impl Assignments for Told {
    fn assigned(&self, generation: u64, partitions: &[(Arc<str>, i32)]) -> Vec<StartAt> {
        let partitions = sorted(partitions);
        self.log.lock().unwrap().push(Tale::Assigned(generation, partitions.clone()));
        partitions.iter().map(|p| (self.start)(*p)).collect()
    }

    fn revoked(&self, generation: u64, partitions: &[(Arc<str>, i32)]) {
        self.log.lock().unwrap().push(Tale::Revoked(generation, sorted(partitions)));
    }

    fn lost(&self, generation: u64, partitions: &[(Arc<str>, i32)]) {
        self.log.lock().unwrap().push(Tale::Lost(generation, sorted(partitions)));
    }
}

/// In the order of the numbers, which is also the order in which librdkafka names them.
fn sorted(partitions: &[(Arc<str>, i32)]) -> Vec<i32> {
    let numbers: Vec<i32> = partitions.iter().map(|(_, p)| *p).collect();
    assert!(numbers.is_sorted());
    numbers
}

/// A member of a group.
pub(crate) struct Member {
    pub(crate) consumer: Consumer,
    pub(crate) events: mpsc::Receiver<ConsumerEvent>,
    pub(crate) told: Arc<Told>,
}

impl Member {
    pub(crate) async fn next(&mut self) -> ConsumerEvent {
        let event = tokio::time::timeout(DEADLINE, self.events.recv()).await;
        event.expect("an event in time").expect("a consumer that lives")
    }

    /// The next records; everything else on the way is an error.
    pub(crate) async fn records(&mut self, count: usize) -> Vec<Received> {
        let mut records = Vec::new();
        while records.len() < count {
            match self.next().await {
                ConsumerEvent::Records(polled) => {
                    let owned = self.told.of(polled.generation);
                    assert!(polled.records.iter().all(|record| owned.contains(&record.partition)));
                    records.extend(polled.records);
                }
                event => panic!("{event:?}"),
            }
        }
        records
    }

    pub(crate) async fn stop(self) {
        let Self { consumer, .. } = self;
        tokio::task::spawn_blocking(move || consumer.stop()).await.unwrap();
    }
}

/// `partition -> (offset, value)` of records in the order given.
pub(crate) fn by_partition(records: &[Received]) -> BTreeMap<i32, Vec<(i64, String)>> {
    let mut map: BTreeMap<i32, Vec<_>> = BTreeMap::new();
    for record in records {
        let value = String::from_utf8(record.value.clone().unwrap()).unwrap();
        map.entry(record.partition).or_default().push((record.offset, value));
    }
    map
}

pub(crate) type Outcome = Result<Placed, DeliveryFailure>;

/// Remembers deliveries.
#[derive(Default)]
pub(crate) struct Sink(Mutex<Vec<(u64, Outcome)>>);

impl Sink {
    pub(crate) fn all(&self) -> Vec<(u64, Outcome)> {
        self.0.lock().unwrap().clone()
    }

    /// The outcome of a token, which must have come exactly once.
    pub(crate) async fn of(&self, token: u64) -> Outcome {
        eventually("the delivery is reported", || self.all().iter().any(|(t, _)| *t == token)).await;
        let mut outcomes: Vec<_> = self.all().into_iter().filter(|(t, _)| *t == token).collect();
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0).1
    }
}

impl Deliveries for Sink {
    fn delivered(&self, token: u64, outcome: Outcome) {
        self.0.lock().unwrap().push((token, outcome));
    }
}

/// Waits until it is so.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        looks.tick().await;
    }
}

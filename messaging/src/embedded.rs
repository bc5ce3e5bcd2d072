//! A Kafka broker inside this process: librdkafka's mock cluster, which speaks the real protocol over TCP to any
//! process. In memory only, one broker. For the local stack and for tests.

mod damaged;

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::bindings as native;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use socket2::{Domain, Socket, Type};
use uuid::Uuid;

use crate::cause::Cause;
use crate::settings::KafkaSettings;
use crate::topics::TopicSpec;

/// All brokers, in the mock cluster's words; there is one.
const ALL: i32 = -1;
/// How long a broker that comes up again waits for its port.
const PORT_PATIENCE: Duration = Duration::from_secs(30);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The broker could not be made to do something.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It does not start.
    #[error("the embedded broker does not start")]
    Start(#[source] Cause),
    /// It has no cluster inside.
    #[error("the embedded broker does not start: librdkafka made no cluster")]
    NoCluster,
    /// It does not make the topic.
    #[error("the embedded broker cannot create topic {topic}")]
    Topic {
        /// The topic.
        topic: String,
        /// librdkafka's reason.
        #[source]
        source: Cause,
    },
    /// Its port is somebody else's by now.
    #[error("the embedded broker cannot come up again: {address} is taken")]
    Port {
        /// Its address.
        address: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It does not do what it was asked for.
    #[error("the embedded broker cannot {what}")]
    Fault {
        /// What was asked for.
        what: &'static str,
        /// librdkafka's reason.
        #[source]
        source: Cause,
    },
}

/// Requests that can be made to fail, see [`Broker::fail_requests`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Writing records.
    Produce,
    /// Reading records.
    Fetch,
    /// Committing offsets.
    OffsetCommit,
    /// Reading committed offsets.
    OffsetFetch,
    /// Getting a producer id.
    InitProducerId,
    /// Asking for topics and leaders.
    Metadata,
}

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks: the client cannot know whether the request was carried out.
    Disconnect,
    /// "Not leader": the client looks for the leader and tries again.
    NotLeader,
    /// "Request timed out": after the broker has accepted it.
    TimedOut,
    /// "Record too large".
    TooLarge,
    /// "Sequence number out of order": fatal for the producer if it is about its oldest record.
    OutOfOrderSequence,
    /// "Producer id unknown".
    UnknownProducerId,
    /// "Coordinator not available".
    NoCoordinator,
    /// "Old producer epoch": the fate of the records is unknown, the producer goes on.
    Fenced,
}

/// A running broker. It ends when this is dropped, and all records with it.
pub struct Broker {
    /// The cluster lives in this client, which itself sends nothing.
    host: BaseProducer<DefaultProducerContext>,
    address: String,
    incarnation: String,
    /// While the broker is down.
    away: Mutex<Option<Away>>,
}

/// A broker that is down.
struct Away {
    /// Its port, bound but without a listener: clients are refused, and the system lends it to nobody else. `None` if it was
    /// taken already.
    port: Option<Socket>,
}

impl Broker {
    /// Starts a broker on a free local port, with these topics.
    ///
    /// # Errors
    /// librdkafka cannot start it or make a topic.
    pub fn start(topics: &[TopicSpec]) -> Result<Self, BrokerError> {
        let host: BaseProducer<DefaultProducerContext> = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            // Nobody polls this client, so its log lines would pile up.
            .set_log_level(RDKafkaLogLevel::Emerg)
            .create()
            .map_err(|error| BrokerError::Start(error.into()))?;
        // SAFETY: the client is alive, and the cluster as long as it. Without this the first member of every group
        // waits for three seconds; rdkafka does not wrap it.
        unsafe {
            let cluster = native::rd_kafka_handle_mock_cluster(host.client().native_ptr());
            if cluster.is_null() {
                return Err(BrokerError::NoCluster);
            }
            native::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
        let address = host.client().mock_cluster().ok_or(BrokerError::NoCluster)?.bootstrap_servers();
        let incarnation = Uuid::new_v4().to_string();
        let broker = Self { host, address, incarnation, away: Mutex::new(None) };
        for topic in topics {
            broker.create_topic(topic)?;
        }
        Ok(broker)
    }

    /// `host:port` for `bootstrap.servers`. Another port at every start.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A UUID drawn at start: an offset of another incarnation is worth nothing.
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// Settings for clients of this broker.
    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings { incarnation: Some(self.incarnation.clone()), ..KafkaSettings::plain(&*self.address) }
    }

    /// Creates a topic; the broker does not serve CreateTopics. To be done before any client asks for it: the question
    /// would create it with four partitions.
    ///
    /// # Errors
    /// It exists already.
    pub fn create_topic(&self, topic: &TopicSpec) -> Result<(), BrokerError> {
        let failed =
            |error: ClientError| BrokerError::Topic { topic: topic.name.to_string(), source: error.into() };
        self.cluster()?.create_topic(&topic.name, topic.partitions, 1).map_err(failed)
    }

    /// Breaks all connections and accepts none, until [`Broker::up`]. Processes that this one starts meanwhile are to be
    /// started by [`starting`].
    ///
    /// # Errors
    /// librdkafka refuses.
    pub fn down(&self) -> Result<(), BrokerError> {
        let _nobody_starts = STARTING.write().unwrap_or_else(PoisonError::into_inner);
        self.fault("go down", |cluster| cluster.broker_down(ALL))?;
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Away { port: bound(&self.address).ok() });
        Ok(())
    }

    /// Accepts connections again, on the same port. Blocks while the system has lent that port to a connection of somebody
    /// else's: librdkafka ends the process if it cannot have it.
    ///
    /// # Errors
    /// librdkafka refuses, or the port stays taken.
    pub fn up(&self) -> Result<(), BrokerError> {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = Instant::now();
        // Who listens there by intent is seen now; ours keeps away whom the system would lend it to.
        while let Some(Away { port }) = &mut *away {
            match bound(&self.address) {
                Ok(socket) => {
                    *port = Some(socket);
                    break;
                }
                Err(source) if asked.elapsed() > PORT_PATIENCE => {
                    return Err(BrokerError::Port { address: self.address.clone(), source });
                }
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
        // Held until the broker has its own: both may be bound, since neither listens before that.
        self.fault("come up", |cluster| cluster.broker_up(ALL))?;
        *away = None;
        Ok(())
    }

    /// Appends a batch whose checksum is wrong, as if its disk had failed: it takes one offset, and nobody can read it.
    ///
    /// # Errors
    /// The broker does not take it.
    pub fn append_damaged(&self, topic: &str, partition: i32) -> io::Result<()> {
        damaged::append(&self.address, topic, partition)
    }

    /// Delays every answer by this much (whole milliseconds).
    ///
    /// # Errors
    /// librdkafka refuses.
    pub fn round_trip_time(&self, delay: Duration) -> Result<(), BrokerError> {
        self.fault("be slow", |cluster| cluster.broker_round_trip_time(ALL, delay))
    }

    /// The next requests of this kind fail, one after the other with these faults.
    ///
    /// # Errors
    /// librdkafka refuses.
    pub fn fail_requests(&self, request: Request, faults: &[Fault]) -> Result<(), BrokerError> {
        let errors: Vec<RDKafkaRespErr> = faults.iter().copied().map(Fault::code).collect();
        self.cluster()?.request_errors(request.key(), &errors);
        Ok(())
    }

    /// Forgets the faults of [`Broker::fail_requests`] that are still to come.
    ///
    /// # Errors
    /// librdkafka refuses.
    pub fn stop_failing(&self, request: Request) -> Result<(), BrokerError> {
        self.cluster()?.clear_request_errors(request.key());
        Ok(())
    }

    fn fault(
        &self,
        what: &'static str,
        act: impl FnOnce(&MockCluster<'_, DefaultProducerContext>) -> Result<(), ClientError>,
    ) -> Result<(), BrokerError> {
        act(&self.cluster()?).map_err(|error| BrokerError::Fault { what, source: error.into() })
    }

    fn cluster(&self) -> Result<MockCluster<'_, DefaultProducerContext>, BrokerError> {
        self.host.client().mock_cluster().ok_or(BrokerError::NoCluster)
    }
}

/// Held while a process is started.
static STARTING: RwLock<()> = RwLock::new(());

/// Starts a process while no broker goes down. Between its fork and its first instruction a process has all that its parent
/// has open, a broker's listening socket too; librdkafka closes that one and binds its port anew, and ends the program if
/// it cannot.
pub fn starting<T>(start: impl FnOnce() -> T) -> T {
    let _none_goes_down = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    start()
}

/// The port, bound as librdkafka binds it, and not listened on: a client that looks for its broker would connect to this
/// socket, and be cut off in the middle of its first question.
fn bound(address: &str) -> std::io::Result<Socket> {
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Request {
    fn key(self) -> RDKafkaApiKey {
        match self {
            Self::Produce => RDKafkaApiKey::Produce,
            Self::Fetch => RDKafkaApiKey::Fetch,
            Self::OffsetCommit => RDKafkaApiKey::OffsetCommit,
            Self::OffsetFetch => RDKafkaApiKey::OffsetFetch,
            Self::InitProducerId => RDKafkaApiKey::InitProducerId,
            Self::Metadata => RDKafkaApiKey::Metadata,
        }
    }
}

impl Fault {
    fn code(self) -> RDKafkaRespErr {
        match self {
            Self::Disconnect => RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            Self::NotLeader => RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Self::TimedOut => RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            Self::TooLarge => RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
            Self::OutOfOrderSequence => RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
            Self::UnknownProducerId => RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
            Self::NoCoordinator => RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            Self::Fenced => RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        }
    }
}
